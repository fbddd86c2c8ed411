"""`jaxhash bench --data`: what it measures, how it counts, what it refuses."""

import io
import json

import numpy as np
import PIL.Image
import pytest
from rich.console import Console

from jaxhash.bench import input_pipeline
from jaxhash.bench.config import InputConfig
from jaxhash.cli.main import main
from jaxhash.data.augment import Augment

QUICK = "--batch-size 8 --repeats 2 --budget-seconds 0.01 --workers 0"


def command(line):
    main(line.split())


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder to work in, few images, and hardly any warming up."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"ARRAYS": 20, "FILES": 12, "_CALIBRATION_SECONDS": 0.0}.items():
        monkeypatch.setattr(input_pipeline, name, value)
    return tmp_path


def measured(path):
    content = json.loads(path.read_text())
    return content, [
        (rate["data"], rate["what"], rate["augment_on"], rate["workers"])
        for rate in content["rates"]
    ]


def test_result_file(folder, capsys):
    command(f"bench --data arrays png jpeg {QUICK} --output d.json")
    content, rates = measured(folder / "d.json")
    stages = [
        ("augment", "host", None),
        ("augment", "device", None),
        ("pipeline", "host", 0),
        ("pipeline", "device", 0),
    ]
    decode = [("decode", None, None)]
    assert rates == [
        *(("arrays", *stage) for stage in stages),
        *(("png", *stage) for stage in decode + stages),
        *(("jpeg", *stage) for stage in decode + stages),
    ]
    for rate in content["rates"]:
        lower, upper = rate["quartiles"]
        assert 0 < lower <= rate["images_per_second"] <= upper and rate["rounds"] >= 2
    assert content["format"] == "jaxhash bench data 1"
    assert content["command"] == f"jaxhash bench --data arrays png jpeg {QUICK} --output d.json"
    assert content["hardware"]["platform"] == "cpu"
    assert {"grain", "pillow", "jax"} <= set(content["versions"])
    assert content["settings"]["batch_size"] == 8 and content["settings"]["crop"] == 4
    said = capsys.readouterr().out
    assert "images a second" in said and said.splitlines()[-1] == "results are in d.json"


def test_by_default(monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(
        input_pipeline, "_measure", lambda source, config: opened.append(source.name) or ()
    )
    command("bench --data")
    assert opened == ["arrays", "png", "jpeg", "digits"]
    assert "results are in runs/bench/data-cpu.json" in capsys.readouterr().out


def test_a_folder_is_read_from_its_files(folder):
    for number in range(6):
        path = folder / "sets" / "pets" / ("cat", "dog")[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (9 + number, 7)).save(path)
    options = "--data-dir sets --image-size 4 --augment-on host --output d.json"
    command(f"bench --data folder:pets {options} {QUICK}")
    _, rates = measured(folder / "d.json")
    assert rates == [
        ("folder:pets", "decode", None, None),
        ("folder:pets", "augment", "host", None),
        ("folder:pets", "pipeline", "host", 0),
    ]


@pytest.mark.parametrize("where", ["host", "device"])
def test_a_pipeline_ends_with_augmented_images_on_the_device(where, monkeypatch):
    """And counts the images that are none of padding."""
    counts, inputs, block = [], [], input_pipeline.jax.block_until_ready
    monkeypatch.setattr(
        input_pipeline.jax, "block_until_ready", lambda x: inputs.append(x) or block(x)
    )

    def sustained(call, config, min_calls):
        inputs.clear()
        counts.extend(call() for _ in range(3))
        return np.ones(2)

    monkeypatch.setattr(input_pipeline, "_sustained", sustained)
    config = InputConfig(("arrays",), batch_size=8, workers=(0,), augment_on=(where,), repeats=1)
    with input_pipeline._open_source("arrays", config) as source:
        list(input_pipeline._measure(source, config))
        options = dict(batch_size=8, seed=0, augment=Augment(4, True))
        batches = input_pipeline.training_batches(source, np.arange(20), **options)
    assert counts == [8, 8, 4]
    for array in inputs:
        assert isinstance(array, input_pipeline.jax.Array)
        np.testing.assert_array_equal(array, next(batches).inputs)


@pytest.mark.parametrize(("budget", "in_round"), [(48.0, 12), (4.0, 6)])
def test_rounds_are_sustained(monkeypatch, budget, in_round):
    """Calls take no time while the buffer lasts, then a second each: only these count."""
    monkeypatch.setattr(input_pipeline, "_CALIBRATION_SECONDS", 3.0)
    now, buffered = [0.0], [5]

    def call():
        now[0] += 0.0 if buffered[0] > 0 else 1.0
        buffered[0] -= 1
        return 7

    config = InputConfig((), repeats=4, budget_seconds=budget)
    rates = input_pipeline._sustained(call, config, 6, clock=lambda: now[0])
    np.testing.assert_allclose(rates, [7.0] * 4)
    assert buffered[0] == 5 - 6 - 3 - 4 * in_round


def test_synthetic_images_compress_as_photographs_do():
    images = input_pipeline.synthetic_images(20, np.random.default_rng(0))
    assert images.shape == (20, 32, 32, 3) and images.dtype == np.uint8

    def size(kind):
        file = io.BytesIO()
        for image in images:
            PIL.Image.fromarray(image).save(file, kind)
        return file.tell() / 20

    assert 1_500 < size("png") < 2_900 and 600 < size("jpeg") < 1_400


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--data arrays --workers -1", "--workers must be at least 0, got -1"),
        ("--data arrays --batch-size 0", "--batch-size must be at least 1, got 0"),
        ("--data arrays --budget-seconds 0", "--budget-seconds must be above 0, got 0"),
        ("--data arrays --augment-on", "--augment-on needs a value"),
        ("--data arrays --output d.txt", "--output d.txt must end in .json"),
        ("--data arrays --bits 8", "jaxhash bench --help lists what is allowed"),
    ],
)
def test_what_is_refused(refusal, line, said):
    assert said in refusal("bench", *line.split())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("pictures", "'pictures'"),
        ("folder:nowhere", "no folder"),
        ("features:f.npz", "`data=features:f.npz`.* feature vectors"),
    ],
)
def test_data_sets_that_are_none(folder, name, said):
    np.savez(folder / "f.npz", features=np.ones((3, 2), np.float32), labels=np.arange(3))
    with pytest.raises(input_pipeline.UserError, match=said):
        input_pipeline.benchmark_input(InputConfig((name,)), Console(file=io.StringIO()), "")
