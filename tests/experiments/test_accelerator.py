"""experiments/accelerator.py: what it refuses, resumes and judges, its page, and all of it at toy sizes."""

import io
import json
import sys
from pathlib import Path

import jax
import pytest
from pages import Page
from rich.console import Console

from jaxhash.models import backbone_factory, summary
from jaxhash.utils.errors import UserError

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="module")
def accelerator():
    sys.path.insert(0, str(EXPERIMENTS))
    try:
        import accelerator
    finally:
        sys.path.remove(str(EXPERIMENTS))
    yield accelerator
    jax.config.update("jax_cpu_enable_async_dispatch", True)


@pytest.fixture
def parts(accelerator, monkeypatch):
    """Two parts in place of all: what they return is in the dictionary, or raised if it is an error."""
    results, calls = {"evaluation": {"value": 1}, "other": {"value": 2}}, []

    def part(name):
        calls.append(name)
        if isinstance(results[name], BaseException):
            raise results[name]
        return results[name]

    def make(*_):
        return [(name, lambda name=name: part(name)) for name in results]

    monkeypatch.setattr(accelerator.accelerator_parts, "parts", make)
    monkeypatch.setattr(accelerator.accelerator_page, "write", lambda *_: None)
    return results, calls


@pytest.fixture
def measure(accelerator, tmp_path):
    """A function that runs the command at toy sizes, and returns failed parts and the results."""
    file = tmp_path / "found.json"

    def run(**options):
        failed = accelerator.measure(file, Console(file=io.StringIO()), toy=True, **options)
        return failed, json.loads(file.read_text())

    return run


def test_a_cpu_is_no_accelerator(accelerator, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no GPU or TPU"):
        accelerator.measure(None, Console(), toy=False)
    with pytest.raises(SystemExit) as exit:
        accelerator.main()
    assert "--toy" in str(exit.value) and "\n" not in str(exit.value)
    assert list(tmp_path.iterdir()) == []


def test_what_was_measured_is_not_measured_again(measure, parts):
    results, calls = parts
    results["other"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        measure()
    results["other"] = {"value": 3}
    failed, found = measure()
    assert calls == ["evaluation", "other", "other"] and failed == []
    assert found["parts"] == {"evaluation": {"value": 1}, "other": {"value": 3}}
    assert found["is_accelerator_result"] is False


def test_a_part_that_fails_does_not_end_the_others_and_is_tried_again(measure, parts):
    results, calls = parts
    results["evaluation"] = RuntimeError("no such kernel\nat line 3")
    failed, found = measure()
    assert failed == ["evaluation"] and list(found["parts"]) == ["other"]
    assert found["failures"] == {"evaluation": "RuntimeError: no such kernel"}
    results["evaluation"] = {"value": 1}
    failed, found = measure()
    assert (
        failed == [] and found["failures"] == {} and calls == ["evaluation", "other", "evaluation"]
    )


def test_no_part_begins_after_the_time_is_spent(measure, parts, monkeypatch, accelerator):
    """Each look at the clock takes a second: the first part begins at 1 and ends at 3."""
    clock = iter(range(100))
    monkeypatch.setattr(accelerator.time, "monotonic", lambda: next(clock))
    _, found = measure(seconds=3)
    assert list(found["parts"]) == ["evaluation"]


@pytest.mark.parametrize("name", ["hardware", "versions", "sizes", "format"])
def test_results_of_another_machine_version_or_size_are_not_continued(
    measure, parts, tmp_path, name
):
    _, found = measure()
    (tmp_path / "found.json").write_text(json.dumps(found | {name: {}}))
    with pytest.raises(UserError, match=f"another {name}.*`output`"):
        measure()
    for content in ("{}", "[1]", "hello"):
        (tmp_path / "found.json").write_text(content)
        with pytest.raises(UserError, match="no result of this command"):
            measure()


def content(is_result, select, l2, share, copy_share):
    def point(loss, batch, seconds):
        return {"loss": loss, "batch": batch, "median_seconds": seconds, "copy_share": copy_share}

    points = [point("select", 8192, select), point("l2", 8192, l2), point("select", 65_536, 1.0)]
    return {
        "is_accelerator_result": is_result,
        "sizes": {"copy_batch": 65_536, "elementwise_batch": 8192, "bits": 64},
        "parts": {
            "hswd": {"points": points},
            "step resnet50": {"model": "resnet50", "loss_share": share},
        },
    }


@pytest.mark.parametrize(
    ("numbers", "met"),
    [
        ((3.0, 1.0, 0.02, 0.3), [True, True, True]),
        ((3.1, 1.0, 0.021, 0.29), [False, False, False]),
        ((1.0, 1.0, 0.5, 0.9), [True, True, False]),
    ],
)
def test_targets(accelerator, numbers, met):
    found = accelerator.find_targets(content(True, *numbers))
    assert [target["is_met"] for target in found] == met
    assert [target["value"] for target in found] == [
        numbers[3],
        numbers[0] / numbers[1],
        numbers[2],
    ]
    assert [target["limit"] for target in found] == [0.3, 3.0, 0.02]
    toy = accelerator.find_targets(content(False, *numbers))
    assert [target["is_met"] for target in toy] == [None] * 3
    assert accelerator.find_targets(content(True, *numbers) | {"parts": {}}) == []


def test_peaks_are_those_of_the_device_or_unknown(accelerator):
    find_chip = accelerator.accelerator_parts.find_chip
    kinds = {"NVIDIA H100 80GB HBM3": "h100", "NVIDIA A100-SXM4-80GB": "a100", "TPU v5": "v5p"}
    assert {kind: find_chip(kind).name for kind in kinds} == kinds
    assert find_chip("NVIDIA H100 PCIe") is find_chip("cpu") is find_chip("TPU v9") is None


@pytest.mark.slow
def test_every_part_at_toy_sizes(accelerator, measure, tmp_path):
    failed, found = measure()
    assert failed == [] and found["failures"] == {}
    parts = found["parts"]
    assert list(parts) == [
        "hswd", "step cnn", "evaluation", "encode cnn", "sweep", "losses", "kernel",
    ]  # fmt: skip
    step = parts["step cnn"]
    rows = 8 * step["devices"]
    model = backbone_factory("cnn")
    macs = summary(model(), jax.numpy.zeros((1, 16, 16, 3))).training_macs
    assert step["batch_size"] == rows and step["flops"] == pytest.approx(2 * macs * rows, rel=0.2)
    assert step["images_per_second"] == pytest.approx(rows / step["step_seconds"])
    assert step["mfu"] is None and 0 < step["loss_share"] < 2
    assert [point["members"] for point in parts["sweep"]["points"]] == [1, 2]
    assert parts["sweep"]["mapping"] == "scan"
    assert parts["encode cnn"]["encode_images_per_second"] > 0
    assert {point["loss"] for point in parts["losses"]["points"]} == {"l2", "hashnet"}
    assert (tmp_path / "found_hswd.json").is_file()  # jaxhash bench --compare takes it
    page = Page((tmp_path / "found.html").read_text())
    assert page.texts[0].startswith("Test of the command") and "met" not in page.texts
    assert page.sections["Targets"].count("not judged") == 3
    assert {
        "Training steps in bfloat16",
        "Encoding in bfloat16",
        "Evaluation",
        "All losses",
    } <= set(page.sections)
