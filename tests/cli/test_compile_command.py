"""``jaxhash compile``: its flags, its JSON, and the real compilers where they are installed."""

import dataclasses
import importlib.util
import json
import subprocess
import sys

import jax
import pytest

from jaxhash.bench.compile import program, run, targets
from jaxhash.cli.compile import parse_arguments
from jaxhash.cli.main import main
from jaxhash.runs.outline import DataShape
from jaxhash.runs.presets import PRESETS, digits_hashnet_hswd
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import write_json

SMALL = ("--items", "640", "--classes", "10", "--input-shape", "64", "--batch-size", "64")
SMALL += ("--objective", "csq", "--quantizer", "none", "--model", "linear")


@pytest.fixture
def emulated(monkeypatch):
    """Devices of the CPU in place of the target's."""
    for module in (program, run):
        monkeypatch.setattr(
            module, "target_devices", lambda target: jax.devices()[: target.devices]
        )


@pytest.fixture
def folder(tmp_path):
    """A run's folder, with what the command reads of it."""
    config = digits_hashnet_hswd().replace(bits=48, objective="csq")
    write_json(tmp_path / "config.json", config.to_json())
    return tmp_path


def test_flags_are_those_of_training():
    parsed = parse_arguments(["--for", "v5e:2x4", "--bits", "24", "--remat", *SMALL])
    expected = digits_hashnet_hswd().replace(bits=24, remat=True, batch_size=64, objective="csq")
    expected = expected.replace(quantizer="none", model="linear")
    assert parsed.config == expected
    assert (parsed.target, parsed.data) == ("v5e:2x4", DataShape(640, 10, (64,)))
    images = parse_arguments(
        ["--for=h200", "--items=9", "--classes=2", "--input-shape=32x48x3", "--multi-label"]
    )
    assert images.data == DataShape(9, 2, (32, 48, 3), is_multi_label=True)
    assert parse_arguments(["--for", "h200"]).data is None


def test_a_preset_or_a_run_is_named_first(folder):
    name = "cifar10-features-hashnet-hswd"
    assert parse_arguments([name, "--for", "h200"]).config == PRESETS[name]()
    config = parse_arguments([str(folder), "--for", "h200", "--batch-size", "32"]).config
    assert (config.model.bits, config.optimizer.batch_size) == (48, 32)
    assert config.objective.objective == "csq"


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"sweep": {"axes": {}, "seeds": 2}}, "sweep"), ({"own": ["model"]}, "own model")],
)
def test_a_folder_that_is_no_plain_run_is_refused(folder, changes, words):
    content = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", content | changes)
    with pytest.raises(UserError, match=words):
        parse_arguments([str(folder), "--for", "h200"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--for"),
        (("--for", "v9:2x2"), "v5e"),
        (("--for", "v5e:2x4", "--items", "5"), "--classes and --input-shape"),
        (("--for", "v5e:2x4", "--multi-label"), "--items"),
        (("--for", "v5e:2x4", *SMALL, "--input-shape", "8x8"), "--input-shape 8x8"),
        (("--for", "v5e:2x4", *SMALL, "--batch-size", "4"), "divisible by 8"),
        (("--for", "v5e:2x4", *SMALL, "--output", "x.txt"), "json"),
        (("nowhere", "--for", "v5e:2x4"), "nowhere"),
    ],
)
def test_mistakes_end_in_a_line(emulated, capsys, arguments, words):
    with pytest.raises(SystemExit) as exit:
        main(["compile", *arguments])
    line = capsys.readouterr().err
    assert exit.value.code == 2
    assert words in line and line.count("\n") == 1


def test_the_file_holds_what_is_printed(emulated, output, tmp_path):
    path = tmp_path / "new" / "v5e.json"
    printed = output("compile", "--for", "v5e:2x4", *SMALL, "--output", str(path))
    content = json.loads(path.read_text())
    assert content["format"] == run.FORMAT and content["command"].startswith("jaxhash compile")
    assert content["target"]["devices"] == 8 and content["target"]["chip"]["name"] == "v5e"
    assert content["data"] == {"items": 640, "classes": 10, "input_shape": [64]}
    assert content["config"]["objective"] == "csq"
    step, encoder = content["programs"]
    assert (step["name"], encoder["name"]) == ("training step", "encoder")
    assert (step["items"], encoder["items"]) == (64, 512)
    assert step["fits"] and step["memory"]["aliased"] > 0
    assert {"all-reduce"} <= {one["kind"] for one in step["collectives"]}
    assert not encoder["collectives"]
    assert step["roofline"]["bottleneck"] in printed and str(path) in printed
    assert "training step" in printed and "encoder" in printed


def test_memory_that_jax_does_not_take_by_default_is_told(emulated, output, monkeypatch, tmp_path):
    """The chip has just the memory that the programs need, of which JAX takes three quarters."""
    path = tmp_path / "made.json"
    words = ("compile", "--for", "h200:8", *SMALL, "--output", str(path))
    assert "MEM_FRACTION" not in output(*words)
    programs = json.loads(path.read_text())["programs"]
    needed = max(program["memory"]["total"] for program in programs)
    chip = dataclasses.replace(targets.GPUS["h200"], memory_bytes=needed)
    monkeypatch.setitem(targets.GPUS, "h200", chip)
    printed = output(*words)
    assert "does not fit" not in printed and "MEM_FRACTION" in printed


@pytest.mark.slow
def test_a_step_that_does_not_fit_is_tried_with_options(emulated, output, monkeypatch, tmp_path):
    """A chip of 16 KiB has no room for the weights, unless they are spread."""
    chip = dataclasses.replace(targets.TPUS["v5e"], memory_bytes=2**14)
    monkeypatch.setitem(targets.TPUS, "v5e", chip)
    path = tmp_path / "made.json"
    printed = output("compile", "--for", "v5e:2x4", *SMALL, "--output", str(path))
    content = json.loads(path.read_text())
    assert not content["programs"][0]["fits"] and content["remedies"]
    tried = {name for remedy in content["remedies"] for name in remedy["options"]}
    assert {"remat", "chunk_size", "shard_params", "spread_banks"} <= tried
    assert "--shard-params" in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "compiler"), [("v5e:2x4", "libtpu"), ("h200:2", "jax_cuda13_plugin")]
)
def test_the_real_compiler(tmp_path, name, compiler):
    """In a process that has done nothing about platforms, as a user's has."""
    if importlib.util.find_spec(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    path = tmp_path / "made.json"
    words = ["compile", "--for", name, *SMALL, "--output", str(path)]
    made = subprocess.run(
        [sys.executable, "-m", "jaxhash", *words], capture_output=True, text=True, timeout=500
    )
    assert made.returncode == 0, made.stderr
    step, encoder = json.loads(path.read_text())["programs"]
    assert step["fits"] and encoder["fits"] and step["memory"]["aliased"] > 0
    assert "all-gather" not in {one["kind"] for one in step["collectives"]}
