"""The command line: help, and one line with status 2 for each mistake."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import tyro

from jaxhash.bench.config import PRESETS as BENCH_PRESETS
from jaxhash.bench.config import BenchConfig
from jaxhash.cli.data import CheckArguments, FeatureArguments
from jaxhash.cli.usage import VERBS
from jaxhash.objectives import METHODS, QUANTIZERS
from jaxhash.runs.presets import PRESETS
from jaxhash.utils.files import write_json

DEFAULT = PRESETS["digits-hashnet-hswd"]()
LEAK = "train --dataset features:vectors.npz"
VECTORS = f"{LEAK} --queries-per-class 1 --train-per-class 4"


def flag(name):
    return "--" + name.replace("_", "-")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The working folder: a file, features, a folder that is no run, an unfinished run of 16 bits."""
    monkeypatch.chdir(tmp_path)
    for name in ("photos", "run"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "photos" / "cat.jpg").write_text("mine too")
    np.savez(tmp_path / "vectors.npz", features=np.eye(12), labels=np.arange(12) % 2)
    np.savez(tmp_path / "leak.npz", train=range(6), query=[5, 6], database=range(7, 12))
    write_json(tmp_path / "run" / "config.json", DEFAULT.replace(bits=16).to_json())
    return tmp_path


# Mistakes


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("trian", ["'trian'", "train", "evaluate", "data", "bench"]),
        ("train digit-hashnet-hswd", ["'digit-hashnet-hswd'", "mean digits-hashnet-hswd?"]),
        (
            "train nonsense",
            ["'nonsense'", *list(PRESETS)[:4], "jaxhash train --help-all lists all"],
        ),
        ("trian", ["did you mean jaxhash train?", "jaxhash --help"]),
        (
            "train --model resnet",
            ["did you mean resnet50?", "of cnn, mlp, linear, text-mlp, alexnet"],
        ),
        ("train digits-hashnet-hswd fashion-mnist-hashnet-hswd", ["fashion-mnist-hashnet-hswd"]),
        ("train --bitz 8", ["--bitz", "did you mean --bits?"]),
        ("train csq", ["unknown preset 'csq'", "did you mean cifar10-features-csq?"]),
        ("train reuters", ["did you mean reuters-", " or reuters-"]),
        ("train cifar10-features-csk", ["did you mean cifar10-features-csq?"]),
        (
            "train --bits 8 cifar10-features-csq",
            ["unrecognized", "a preset comes first: jaxhash train cifar10-features-csq"],
        ),
        ("train --bits many", ["--bits", "many"]),
        ("train --bits", ["--bits"]),
        ("train --bits --epochs 3", ["--bits"]),
        ("train --model transformer", ["--model", "transformer", "cnn", "mlp"]),
        ("train --choose first", ["--choose", "first", "last", "validation", "best-on-test"]),
        ("train --learning-rate fast", ["--learning-rate", "fast"]),
        ("train --flip yes", ["yes"]),
        ("evaluate", ["folder of a run"]),
        ("evaluate run run", ["run"]),
        ("data chek", ["'data chek'", "data check"]),
        ("data check --spilt a.npz", ["did you mean --split?"]),
        ("bench --preset hsdw", ["--preset", "hsdw", "hswd", "growth"]),
        ("bench hswd", ["hswd"]),
        ("bench --batch-size 8", ["did you mean --batch-sizes?"]),
        ("bench --bits many", ["--bits", "many"]),
        ("bench --dtypes float64", ["--dtypes", "float64", "bfloat16"]),
        ("bench --through 8", ["--through"]),
        ("bench --compare a.json --preset hswd", ["--preset"]),
    ],
)
def test_command_that_cannot_be_read(refusal, command, said):
    line = refusal(*command.split())
    assert all(part in line for part in said), line


def test_a_mistake_names_the_help_of_its_command(refusal):
    line = refusal("train", "--bits", "many")
    assert line.endswith(
        "'many'; jaxhash train digits-hashnet-hswd --help-all lists what is allowed\n"
    )


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("train --bits 0", "--bits must be at least 1, got 0"),
        ("train --learning-rate -1", "--learning-rate must be above 0 and finite, got -1.0"),
        ("train --batch-size 7", "--batch-size 7 is smaller than the 8 devices"),
        ("train --validation 1", "--validation must be at least 0 and below 1, got 1.0"),
        ("train --protocol cifar", "--protocol 'cifar' is unknown; did you mean"),
        ("train --warmup-epochs 200", "--warmup-epochs 200 must be below --epochs 200"),
        (
            "train --choose best-on-test --evaluate-every 200",
            "--evaluate-every 200 must be below --epochs 200",
        ),
    ],
)
def test_value_that_is_not_allowed(refusal, command, said):
    assert said in refusal(*command.split())


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("train --data-dir nowhere", "--data-dir nowhere: there is no such folder"),
        ("train --dataset cifar", "--dataset 'cifar': expected"),
        ("train --dataset features:file", "file: not a readable .npz file"),
        ("train --queries-per-class 170", "class 8 has 174 items, too few for 170 queries"),
        ("train --run-dir new --data-dir nowhere", "--data-dir nowhere"),
        (
            "train --protocol cifar10-ii",
            "--protocol cifar10-ii is defined on the training and test",
        ),
        (
            "train --protocol coco",
            "--protocol coco needs multi-hot labels; these data have class ids",
        ),
        ("train --protocol file.npz", "file.npz: there is no such split file"),
        (
            "train --protocol coco --train-per-class 9",
            "--train-per-class is not for --protocol coco",
        ),
        ("train --protocol parts", "--protocol parts needs a part train, and one of query, test"),
        ("train --validation 0.0001", "--validation 0.0001 takes 0 of 800 training items"),
        (f"{LEAK} --protocol leak.npz", "query and train share 1 item; --allow-leak takes it"),
        ("train --choose validation", "--choose validation needs validation items: --validation"),
        (f"{VECTORS} --model cnn", "holds feature vectors: they need --model mlp"),
        (f"{VECTORS} --crop 1", "they need --model mlp, linear or text-mlp, --crop 0"),
        (f"{VECTORS} --flip", "holds feature vectors: they need --model mlp"),
        (f"{VECTORS} --model linear --image-size 32", "--image-size and --preprocessing are for"),
        (f"{VECTORS} --model mlp --preprocessing caffe", "--preprocessing are for images"),
        ("train --dry-run --seeds 2", "--dry-run prints one model; leave out --seeds and --sweep"),
        (
            "train --profile --seeds 2",
            "--profile is for the training of one run; leave out --seeds",
        ),
        (
            "train --distributed --dry-run",
            "--distributed is for a training; leave out --dry-run",
        ),
        (
            "train --seeds 2 --distributed --coordinator here:1",
            "--coordinator is not for a sweep, whose processes work without one another",
        ),
        (
            "train --seeds 2 --distributed --heartbeat 9",
            "--heartbeat is not for a sweep, whose processes work without one another",
        ),
        (
            "train --seeds 2 --distributed --processes 3 --process 0",
            "--processes 3 is more than the 2 members of the sweep",
        ),
        (
            "train --seeds 2 --distributed --processes 2 --process 2",
            "--process 2 is none of 2 --processes, numbered from 0",
        ),
        (
            "train --seeds 2 --distributed --processes 0 --process 0",
            "--process 0 is none of 0 --processes",
        ),
        (
            "train --seeds 2 --distributed --process 0",
            "--distributed: --processes N and --process I say who takes part",
        ),
        (
            "train --processes 2",
            "--processes is for work on several hosts; it needs --distributed",
        ),
        (
            "train --process 0",
            "--process is for work on several hosts; it needs --distributed",
        ),
        (
            "evaluate run --processes 2",
            "--processes is for work on several hosts; it needs --distributed",
        ),
        (
            "evaluate made.npz --distributed",
            "--distributed is for the folder of a run, and made.npz",
        ),
        ("train --distributed --coordinator here", "--coordinator must be HOST:PORT, got here"),
        ("train --heartbeat 9", "--heartbeat is for work on several hosts; it needs"),
        ("train --distributed --heartbeat 1", "--heartbeat must be at least 2 seconds, got 1"),
    ],
)
def test_data_that_do_not_fit(refusal, command, said):
    """Nor is the folder of the run made: another try must not find it taken."""
    assert said in refusal(*command.split())


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("train --run-dir photos", "--run-dir photos exists and is not the folder of a run"),
        ("train --run-dir file", "--run-dir file exists and is not the folder of a run"),
        ("train --run-dir file/run", "file"),
        ("train --run-dir run", "run holds another run: --bits is 16 there and 32 here"),
        ("train --run-dir run --bits 16 --flip", "--flip is False there and True here"),
        ("evaluate photos", "photos is no finished run: it has no config.json"),
        ("evaluate nowhere", "nowhere is no finished run: it has no config.json"),
        ("evaluate run", "run is no finished run: it has no results.json"),
    ],
)
def test_folder_that_does_not_fit(refusal, command, said):
    assert said in refusal(*command.split())


@pytest.mark.parametrize("content", [{"bits": 16}, DEFAULT.to_json() | {"colour": "red"}])
def test_configuration_that_is_none(refusal, content):
    write_json(Path("run", "config.json"), content)
    assert "run/config.json is not the configuration" in refusal("train", "--run-dir", "run")


def test_run_without_its_checkpoint(refusal):
    write_json(Path("run", "results.json"), {})
    assert "run has no checkpoint of its last step" in refusal("evaluate", "run")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--losses selct", "unknown loss 'selct'; did you mean select? losses: select, sort, l2"),
        ("--losses", "--losses needs a value"),
        ("--batch-sizes 0", "--batch-sizes must be at least 1, got 0"),
        ("--bits 8 -1", "--bits must be at least 1, got -1"),
        ("--through 0 8", "--through must be at least 1, got 0"),
        ("--repeats 0", "--repeats must be at least 1, got 0"),
        ("--limit-seconds 0", "--limit-seconds must be above 0, got 0.0"),
        ("--limit-seconds nan", "--limit-seconds must be above 0, got nan"),
        ("--devices 3", "a batch of 128 cannot be spread evenly over 3 devices"),
        ("--devices 16", "--devices 16 is more than the 8 of this machine"),
        ("--output file", "--output file must end in .json"),
        (
            "--preset growth --losses ot torch",
            "torch cannot be timed: PyTorch is not installed; pip",
        ),
        ("--losses torch", "jaxhash[compare]"),
        ("--compare", "--compare needs a file"),
        ("--compare run/config.json", "run/config.json is not a result of jaxhash bench"),
        ("--compare nowhere.json", "nowhere.json is not a result of jaxhash bench: No such file"),
        ("--compare nowhere.json --output a.json", "--output a.json must end in .png"),
    ],
)
def test_benchmark_that_is_not_possible(refusal, monkeypatch, options, said):
    tyro.cli(int, args=["1"])  # it looks for torch once
    monkeypatch.setitem(sys.modules, "torch", None)
    assert said in refusal("bench", *options.split())


# Help


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["help"]])
def test_help(output, arguments):
    text = output(*arguments)
    assert all(f"\n  {verb} " in text for verb in VERBS)


@pytest.mark.parametrize(
    "words, spared",
    [
        (["--help"], ["jax"]),
        (["train", "--help"], ["jax", "tyro", "numpy"]),
        (
            ["train", "--help-all"],
            ["grain", "orbax", "sklearn", "matplotlib", "tensorflow_datasets"],
        ),
    ],
)
def test_help_does_not_wait_for_what_it_does_not_need(words, spared):
    code = f"""if True:
        import sys
        from jaxhash.cli.main import main
        try:
            main({words})
        except SystemExit as end:
            assert not end.code
        print("loaded", *(sys.modules.keys() & {spared}), sep=":")
        """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("loaded\n"), done.stdout[-100:] + done.stderr


def defaults(text):
    """Returns the default that help shows of each flag; None where it shows none."""
    options = re.split(r"\n(?=  -|\n|\S)", text)
    found = {}
    for option in options:
        default = re.search(r"\(default: (.*)\)$", " ".join(option.split()))
        found[option.lstrip("\n ").split(",")[0].split()[0] if option.split() else ""] = (
            default and default[1]
        )
    return found


@pytest.mark.parametrize("arguments", [[], *([name] for name in [*PRESETS][:4])])
def test_help_of_train_lists_presets_and_options_with_their_defaults(output, arguments):
    text = output("train", *arguments, "--help-all")
    shown, preset = defaults(text), PRESETS[arguments[0]]() if arguments else DEFAULT
    for name in (*preset.to_json(), "run_dir"):
        value = preset.get(name)
        assert shown[flag(name)] == (None if value in (None, ()) else str(value))
    for name in PRESETS:
        assert name in text


def test_help_of_evaluate(output):
    text = output("evaluate", "--help")
    assert "Folder of the run" in text and "--data-dir" in text


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_of_data(output, arguments):
    text = output("data", *arguments)
    for name in ("check", "features", "captions"):
        assert f"\n  {name} " in text


@pytest.mark.parametrize(
    ("name", "arguments"), [("check", CheckArguments), ("features", FeatureArguments)]
)
def test_help_of_the_commands_about_data(output, name, arguments):
    text = output("data", name, "--help")
    for field in dataclasses.fields(arguments):
        assert re.search(rf" {flag(field.name)}\b", text)


@pytest.mark.parametrize("name", BENCH_PRESETS)
def test_help_of_bench_lists_presets_and_options_with_their_defaults(output, name):
    text = output("bench", "--preset", name, "--help")
    shown, preset = defaults(text), BENCH_PRESETS[name]()
    for field in dataclasses.fields(BenchConfig):
        value = getattr(preset, field.name)
        expected = " ".join(map(str, value)) if isinstance(value, tuple) else value and str(value)
        assert shown[flag(field.name)] == expected
    for part in ("--compare", "xla_force_host_platform_device_count", *BENCH_PRESETS):
        assert part in text


@pytest.mark.parametrize("arguments", [["--objective", "help"], ["--objective=help"]])
def test_objective_help_is_the_table_of_the_methods(output, arguments):
    lines = output("train", *arguments).splitlines()
    for name, method in METHODS.items():
        (line,) = (line for line in lines if line.startswith(f" {name} "))
        assert method.kind in line and method.state.split(",")[0] in line
    assert all(name in lines[-1] or name in lines[-2] for name in ("own", *QUANTIZERS))


def test_run_folder_names_the_objective_where_it_is_another():
    """README's commands one after the other: none stands in the way of another."""
    from jaxhash.cli.train import parse_arguments

    words = [
        "",
        "--objective csq --quantizer own",
        "--objective csq --quantizer hswd --quantizer-weight 0.1",
        "--objective csq --quantizer hswd --keep-own",
        "--objective-options pairs=batch",
    ]
    folders = [parse_arguments(line.split()).config.run.run_dir.name for line in words]
    assert folders == [
        "digits-hashnet-hswd-32bit-seed0",
        "digits-hashnet-hswd-csq-32bit-seed0",
        "digits-hashnet-hswd-csq-penalty-0-0.1-hswd-32bit-seed0",
        "digits-hashnet-hswd-csq-0.1-hswd-32bit-seed0",
        "digits-hashnet-hswd-hashnet-pairs-batch-0.1-hswd-32bit-seed0",
    ]


@pytest.mark.parametrize("flag", ["--objective-options", "--quantizer-options"])
def test_options_without_values(refusal, flag):
    assert f"{flag} needs values" in refusal("train", flag)


def test_two_equal_views(refusal):
    line = refusal("train", "--objective", "cibhash")
    assert "--objective cibhash compares two views" in line
    assert "--drop for feature vectors, --crop or --flip for images" in line


def test_objective_that_does_not_take_the_data(refusal):
    line = refusal("train", "--objective", "csq", "--bits", "3")
    assert "classes=10 need more codes than the 8 of bits=3" in line
    line = refusal("train", "--quantizer", "parity-hswd", "--bits", "1")
    assert "codes must have at least 2 bits to have parities, got 1" in line


# Output and platform


def shell(script):
    """Returns the errors that a shell prints; ``jaxhash`` is the command."""
    command = f'jaxhash() {{ "{sys.executable}" -m jaxhash "$@"; }}\n{script}'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=120)
    return done.stdout, done.stderr


@pytest.mark.parametrize("arguments", ["--version", "--help"])
def test_output_that_nobody_reads(arguments):
    """Its reader has seen enough, as head has: nothing is said."""
    printed, errors = shell(f'jaxhash {arguments} | true; echo "${{PIPESTATUS[0]}}"')
    assert errors == "" and int(printed) in (0, 1)  # it may be through before the reader is gone
    assert shell("set -o pipefail; (sleep 1; jaxhash --version) | true; echo $?") == ("1\n", "")


@pytest.mark.parametrize("arguments", ["--version", "--help"])
@pytest.mark.parametrize("where", [">&-", "> /dev/full"])
def test_output_that_cannot_be_written(arguments, where):
    printed, errors = shell(f"jaxhash {arguments} {where}; echo $? >&2")
    line, status = errors.splitlines()
    assert line.startswith("jaxhash: ") and "standard output" in line
    assert (printed, status) == ("", "2")


def test_errors_that_cannot_be_written():
    assert shell("jaxhash nothing 2>&-; echo $?") == ("2\n", "")
    assert shell("jaxhash nothing 2> /dev/full; echo $?") == ("2\n", "")


@pytest.mark.parametrize(
    "said",
    [
        "Unable to initialize backend 'cuda': no devices (set JAX_PLATFORMS='' to choose)",
        "Unknown backend: 'x' requested, but no platforms that are instances of x are present.",
    ],
)
def test_platform_that_is_not_there(refusal, monkeypatch, said):
    def devices(*_):
        raise RuntimeError(f"{said}\nmore")

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "gpu")
    assert refusal("train") == f"jaxhash: JAX_PLATFORMS is 'gpu': {said}\n"


def test_platform_of_which_jax_says_nothing(refusal, monkeypatch):
    """JAX has a bare assertion for `cuda` without its plugin."""

    def devices(*_):
        raise AssertionError

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    assert "JAX_PLATFORMS is 'cuda'" in refusal("train")


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["gpu", "cuda", "tpu", "nonsense"])
@pytest.mark.parametrize(
    "command", ["train --epochs 3", "train --epochs 3 --dry-run", "train --seeds 2", "bench"]
)
def test_platforms_that_are_not_there(platform, command):
    printed, errors = shell(f"cd $(mktemp -d); JAX_PLATFORMS={platform} jaxhash {command}; echo $?")
    if printed != "0\n":  # there may be such a one
        assert printed.splitlines()[-1] == "2"
        assert errors.count("\n") == 1 and f"JAX_PLATFORMS is '{platform}'" in errors
