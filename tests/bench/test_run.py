"""`jaxhash bench` from the command line to its files."""

import dataclasses
import io
import json
import sys
from typing import get_args

import jax
import PIL.Image
import pytest
import tyro
from rich.console import Console

from jaxhash.bench import run
from jaxhash.bench.config import PRESETS, BenchConfig, Preset
from jaxhash.bench.losses import LOSSES
from jaxhash.bench.measure import Measurement
from jaxhash.cli.main import main
from jaxhash.utils.errors import UserError

TINY = "bench --losses sort l2 --batch-sizes 8 16 --bits 4 --repeats 2"


def command(line):
    main(line.split())


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder to work in; what the command sets of JAX is set back."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    jax.config.update("jax_cpu_enable_async_dispatch", True)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """The content of a tiny run over one device and over two."""
    path = tmp_path_factory.mktemp("bench") / "tiny.json"
    command(f"{TINY} --devices 1 2 --output {path}")
    return json.loads(path.read_text())


def test_result_file(result):
    assert list(result) == [
        "format", "command", "date", "hardware", "versions", "settings", "copy_bandwidth",
        "points", "stopped", "exponents", "peak_device_bytes",
    ]  # fmt: skip
    assert result["format"] == "jaxhash bench 1"
    assert result["command"].startswith(f"jaxhash {TINY} --devices 1 2 --output ")
    assert result["hardware"]["platform"] == "cpu" and result["hardware"]["devices"] == 8
    assert result["hardware"]["memory_bytes"] > 2**28
    assert list(result["versions"]) == ["python", "jaxhash", "jax", "jaxlib", "numpy"]
    assert result["versions"]["jax"] == jax.__version__
    assert result["settings"]["losses"] == ["sort", "l2"]
    assert result["settings"]["jax_cpu_enable_async_dispatch"] is False
    assert result["copy_bandwidth"]["bytes_per_second"] > 1e6


def test_points_of_the_result_file(result):
    points = [Measurement(**record) for record in result["points"]]
    assert [(p.devices, p.batch, p.which, p.loss) for p in points] == [
        (devices, batch, which, loss)
        for devices in (1, 2)
        for batch in (8, 16)
        for which in ("forward", "forward+backward")
        for loss in ("sort", "l2")
    ]
    for point in points:
        assert (point.bits, point.dtype) == (4, "float32") and point.repeats >= 2
        lower, upper = point.quartiles_seconds
        assert 0 < lower <= point.median_seconds <= upper
        codes = point.batch * point.bits * 4
        assert point.moved_bytes == codes * (1 + (point.which == "forward+backward"))
        assert point.peak_bytes >= point.moved_bytes / point.devices and point.compile_seconds > 0
        bandwidth = point.moved_bytes / point.devices / point.median_seconds
        copy = result["copy_bandwidth"]["bytes_per_second"]
        assert point.copy_share == pytest.approx(bandwidth / copy)
    assert result["stopped"] == result["exponents"] == []


def test_dispatch_is_synchronous_before_anything_runs(monkeypatch):
    """A timed call must not wait for another thread to wake up."""

    def stop(_):
        raise UserError(str(jax.config._read("jax_cpu_enable_async_dispatch")))

    monkeypatch.setattr(run, "copy_bandwidth", stop)
    with pytest.raises(UserError, match="False"):
        run.run_benchmark(BenchConfig(), Console(file=io.StringIO()), "")


def test_default_files_and_exponents(folder, capsys):
    """Named after the preset where nothing of it is changed."""
    command("bench --losses l2 --batch-sizes 8 16 32 --bits 4 --repeats 2 --passes forward")
    file = folder / "runs" / "bench" / "custom-cpu.json"
    [fitted] = json.loads(file.read_text())["exponents"]
    assert (fitted["loss"], fitted["axis"], fitted["at"]) == ("l2", "batch", 4)
    assert fitted["fitted_sizes"] == [8, 16, 32]
    with PIL.Image.open(file.with_suffix(".png")) as image:
        assert len(image.convert("L").getcolors()) > 1
    said = capsys.readouterr().out
    assert "of copy" in said and "runs/bench/custom-cpu.json" in said
    for name, preset in PRESETS.items():
        assert preset().name == dataclasses.replace(preset(), output=file).name == name


def test_what_was_measured_outlives_a_kill(folder, monkeypatch):
    measure = run.Benchmark.measure

    def killed(self, setting, previous):
        if setting.batch == 16:
            raise KeyboardInterrupt
        return measure(self, setting, previous)

    monkeypatch.setattr(run.Benchmark, "measure", killed)
    with pytest.raises(SystemExit) as exit:
        command(f"{TINY} --output killed.json")
    assert exit.value.code == 130
    assert len(json.loads((folder / "killed.json").read_text())["points"]) == 4


def test_a_loss_that_stops_is_told(folder, capsys):
    command(f"{TINY} --limit-seconds 1e-9 --output new/some.json")
    stopped = json.loads((folder / "new" / "some.json").read_text())["stopped"]
    assert [(s["loss"], s["which"], s["batch"], s["bits"]) for s in stopped] == [
        (loss, which, 16, 4) for which in ("forward", "forward+backward") for loss in ("sort", "l2")
    ]
    assert all("more than the limit of 1e-09 s" in s["reason"] for s in stopped)
    assert "l2 forward ends before batch 16, 4 bits" in capsys.readouterr().out


def test_preset_goes_without_torch_where_there_is_none(monkeypatch):
    tyro.cli(int, args=["1"])  # it looks for torch once
    monkeypatch.setitem(sys.modules, "torch", None)
    file = io.StringIO()
    losses = run._losses(PRESETS["hswd"](), Console(file=file, width=120))
    assert list(losses) == ["select", "sort", "l2"]
    assert file.getvalue().startswith("left out torch: PyTorch is not installed; pip install")
    assert "jaxhash[compare]" in file.getvalue()


def test_torch_alternates_with_the_others(folder):
    pytest.importorskip("torch", reason="PyTorch, the extra [compare], is not installed")
    command("bench --losses l2 torch --batch-sizes 8 --bits 4 --repeats 2 --output t.json")
    content = json.loads((folder / "t.json").read_text())
    assert [p["loss"] for p in content["points"]] == ["l2", "torch"] * 2
    assert "torch" in content["versions"]
    assert content["points"][1]["compile_seconds"] is None


# Presets


def test_presets():
    assert list(PRESETS) == list(get_args(Preset))
    hswd, growth, losses, related = (make() for make in PRESETS.values())
    hswd.check(), growth.check(), losses.check(), related.check()
    half = len(related.losses) // 2
    assert related.losses[half:] == tuple(f"torch:{name}" for name in related.losses[:half])
    assert [[s.batch for s in series] for series in hswd.series()] == [[128, 1024, 8192, 65_536]]
    over_batch, over_bits = growth.series()
    assert [s[:2] for s in over_batch] == [(2**p, 64) for p in range(7, 21)]
    assert [s[:2] for s in over_bits] == [(4096, 2**p) for p in range(3, 11)]
    assert growth.passes == losses.passes == ("forward+backward",)
    assert losses.losses == tuple(LOSSES) and [[s[:2] for s in a] for a in losses.series()] == [
        [(1024, 64)]
    ]
