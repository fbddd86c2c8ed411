"""`jaxhash bench --for`: which programs are compiled, what is written, and what is refused."""

import json

import jax
import pytest

from jaxhash.bench import compiled_loss, run_compiled
from jaxhash.bench.compile.program import CompiledProgram, DoesNotFitError, Memory
from jaxhash.bench.compile.roofline import Work
from jaxhash.bench.compile.targets import parse_target
from jaxhash.bench.config import CompiledConfig, Setting
from jaxhash.bench.losses import LOSSES


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """This machine's devices in place of a target's, and a compiler that knows each program's costs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_compiled, "target_devices", lambda target: jax.devices())
    monkeypatch.setattr(compiled_loss, "target_devices", lambda target: jax.devices())
    monkeypatch.setattr(run_compiled, "_COMPILERS", {"tpu": ("numpy", "no-package")})
    shapes = []
    errors = {
        "l2": DoesNotFitError("l2 does not fit", 2**40, 2**34),
        "koleo": jax.errors.JaxRuntimeError("no such instruction\nat line 3"),
    }

    def compile_function(function, arguments, target, *, name):
        codes, _ = arguments
        shapes.append((name, jax.eval_shape(function, *arguments), codes.sharding))
        if len(codes) > 100:
            raise errors[name]
        return CompiledProgram(
            name, target, 0.5, 1.0, None, None, Memory(1, 2, 3, 0, 4, 10), str(len(codes))
        )

    def count_work(program):
        loops = ("search",) if program.name == "koleo" else ()
        return Work(7 * int(program.text), 0, 1024, 99.6, 1, loops, 11, 0, {})

    monkeypatch.setattr(compiled_loss, "compile_function", compile_function)
    monkeypatch.setattr(compiled_loss, "count_work", count_work)
    return shapes


def test_programs_of_a_target(stand_ins, output, tmp_path):
    said = output(
        *["bench", "--for", "v5e:2x4", "--losses", "l2", "koleo", "--batch-sizes", "16", "32", "128", "--bits", "4"],
        "--passes", "forward+backward",
    )  # fmt: skip
    file = tmp_path / "runs" / "bench" / "custom-v5e-2x4.json"
    found = json.loads(file.read_text())
    assert found["format"] == "jaxhash bench compiled 1"
    assert found["target"]["name"] == "v5e:2x4" and found["target"]["devices"] == 8
    assert [(p["loss"], p["batch"], p["devices"], p["flops"]) for p in found["points"]] == [
        (loss, batch, 8, 7 * batch) for batch in (16, 32) for loss in ("l2", "koleo")
    ]
    for point in found["points"]:
        assert (point["accessed_bytes"], point["peak_bytes"], point["compile_seconds"]) == (
            1024,
            10,
            1.5,
        )
        assert (point["sent_bytes"], point["loops"]) == (100, point["loss"] == "koleo")
        assert point["moved_bytes"] == 2 * point["batch"] * 4 * 4
        assert not any("median" in name or "quartiles" in name for name in point)
    assert [(s["loss"], s["batch"], s["reason"]) for s in found["stopped"]] == [
        ("l2", 128, "l2 does not fit"),
        ("koleo", 128, "no such instruction"),
    ]
    assert "not run" in said and "does not fit" in said
    assert file.with_suffix(".png").is_file()
    for name, (value, gradient), sharding in stand_ins:
        assert value.shape == () and gradient.shape[1] == 4, name
        assert len(sharding.device_set) == 8 and not sharding.is_fully_replicated


def test_all_devices_of_the_target_share_the_batch_unless_fewer_are_named():
    config = CompiledConfig.of_preset("hswd", "v5e:4x4")
    assert config.devices == (16,) and config.losses == ("select", "sort", "l2")
    assert config.name == "hswd"
    every = CompiledConfig.of_preset("losses", "h200").losses
    assert every == tuple(LOSSES)  # the kernel searches the batch of one device


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--for v9:2x4", "unknown target --for v9:2x4"),
        ("--for", "unknown target"),
        ("--for v5e:2x4 --devices 9", "--devices 9 is more than the 8 of --for v5e:2x4"),
        ("--for v5e:2x4 --batch-sizes 12", "a batch of 12 cannot be spread evenly over 8 devices"),
        ("--for v5e:2x4 --losses torch", "the loss torch cannot be compiled"),
        ("--for v5e:2x4 --losses kernel", "the loss kernel runs on one device only"),
        ("--for v5e:2x4 --repeats 3", "--repeats"),
        ("--for v5e:2x4 --output a.txt", "--output a.txt must end in .json"),
    ],
)
def test_refusals(refusal, words, reason):
    assert reason in refusal("bench", *words.split())


@pytest.mark.slow
def test_the_compiler_of_tpus_counts_what_a_loss_asks_of_a_chip():
    pytest.importorskip("libtpu", reason="the compiler of TPUs, the extra [tpu], is not installed")
    target = parse_target("v5e:2x4")
    one, eight = (
        compiled_loss.compile_loss(
            "l2", LOSSES["l2"], "forward+backward", Setting(8192, 64, devices=devices), target
        )
        for devices in (1, 8)
    )
    codes = 8192 * 64 * 4
    for found in (one, eight):
        assert 1 <= found.accessed_bytes / (found.moved_bytes / found.devices) < 1.1
        assert found.moved_bytes == 2 * codes and found.peak_bytes >= 2 * codes / found.devices
    assert one.sent_bytes == 0 < eight.sent_bytes <= 2 * 64 * 4  # the sum of each bit by a ring
    assert one.flops == eight.flops == one.loops == 0
    pairs = compiled_loss.compile_loss(
        "hashnet", LOSSES["hashnet"], "forward", Setting(1024, 64, devices=8), target
    )
    assert pairs.flops >= 2 * 128 * 1024 * 64
    assert pairs.sent_bytes >= 7 / 8 * 1024 * 64 * 4  # the codes are gathered
