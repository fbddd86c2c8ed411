"""Result files of machines, and of targets that were compiled for, in one table and one plot."""

import json
import re
from pathlib import Path

import PIL.Image
import pytest

from jaxhash.bench.compare import read_result, to_machine_results
from jaxhash.bench.compiled_loss import CompiledLoss
from jaxhash.bench.measure import Measurement
from jaxhash.cli.main import main
from jaxhash.utils.errors import UserError

STORED = sorted((Path(__file__).parents[2] / "experiments" / "results").glob("bench_*.json"))
HARDWARE = {"platform": "cpu", "kind": "cpu", "cpu": "Some CPU", "cpu_cores_used": 2}


def measured(loss, batch):
    return Measurement(
        loss, "forward", batch, 4, "float32", 1, 9, 1e-3, [5e-4, 2e-3], 0.5, 2**20, 64, 0.25
    )


def compiled(loss, batch, devices=8):
    return CompiledLoss(
        loss, "forward", batch, 4, "float32", devices, 3_000_000, 2**20, 2**10, 3, 1.5, 2**21, 2**19
    )


def content(format, points, **rest):
    return {"format": format, "hardware": HARDWARE, "points": [p._asdict() for p in points]} | rest


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Results of two machines and of a target, and files that are none."""
    monkeypatch.chdir(tmp_path)
    points = [measured(loss, batch) for loss in ("select", "l2") for batch in (8, 16)]
    a = content("jaxhash bench 1", points)
    pod = content(
        "jaxhash bench compiled 1",
        [compiled(loss, batch) for loss in ("select", "l2") for batch in (8, 16)],
        target={"name": "v5e:2x4"},
    )
    contents = {
        "a": a,
        "b": a | {"hardware": HARDWARE | {"platform": "gpu", "kind": "NVIDIA X"}},
        "pod": pod,
        "other": a | {"format": "jaxhash bench 0"},
        "short": a | {"points": [{"loss": "l2"}]},
        "nameless": pod | {"target": {}},
        "list": [1],
    }
    for name, value in contents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    (tmp_path / "text.json").write_text("hello")
    (tmp_path / "bytes.json").write_bytes(b"\x89PNG")
    return tmp_path


def test_compare(files, output):
    said = output("bench", "--compare", "a.json", "b.json", "--output", "BOTH.PNG").splitlines()
    assert said[:2] == ["A: Some CPU, 2 cores, a.json", "B: NVIDIA X, b.json"]
    rows = [line.split() for line in said if line.lstrip().startswith(("A  ", "B  "))]
    assert [row[0] for row in rows] == ["A", "A", "B", "B"] * 2
    with PIL.Image.open(files / "BOTH.PNG") as image:
        assert len(image.convert("L").getcolors()) > 1


def test_a_target_has_no_time_but_what_was_compiled(files, output):
    said = output("bench", "--compare", "a.json", "pod.json").splitlines()
    assert said[1] == "B: v5e:2x4, compiled only, pod.json"
    rows = [re.split(r"\s{2,}", line.strip()) for line in said if line.startswith((" A ", " B "))]
    assert len(rows) == 8
    for machine, _, devices, loss, *numbers in rows:
        if machine == "A":
            assert numbers == ["1 ms", "1.00", "25.0%", "-", "-", "-", "1 MiB", "500 ms"]
        else:
            assert (devices, loss in ("select", "l2")) == ("8", True)
            assert numbers == ["not run", "-", "-", "3e+06", "1 MiB", "16.0", "2 MiB", "1.5 s"]


def test_a_target_alone_has_all_that_was_counted(files, output):
    said = output("bench", "--compare", "pod.json").splitlines()
    title, head = said[1:3]
    assert title.strip() == "A, 4 bits, float32, 8 devices, forward"
    assert head.split() == [
        "batch",
        "loss",
        "median",
        "flop",
        "bytes",
        "x",
        "least",
        "sent",
        "loops",
        "memory",
        "compile",
    ]
    assert said[3].split()[-7:] == ["1", "KiB", "3", "2", "MiB", "1.5", "s"]


def test_compare_by_default(files):
    main(["bench", "--compare", "a.json"])
    assert (files / "runs" / "bench" / "compare.png").is_file()


@pytest.mark.parametrize("name", ["other", "short", "nameless", "list", "text", "bytes", "missing"])
def test_compare_refuses_what_is_no_result(files, name):
    with pytest.raises(UserError, match=f"^{name}.json is not a result of jaxhash bench") as error:
        read_result(files.joinpath(f"{name}.json").relative_to(files))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_results_can_be_compared(path):
    """Those of earlier versions, too."""
    assert to_machine_results(read_result(path)).points


def test_names_of_machines_and_targets(files):
    names = [
        to_machine_results(read_result(files / f"{name}.json")).machine
        for name in ("a", "b", "pod")
    ]
    assert names == ["Some CPU, 2 cores", "NVIDIA X", "v5e:2x4, compiled only"]
