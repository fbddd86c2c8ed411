"""Names of accelerators, and their devices where a compiler for them is installed."""

import importlib.util

import pytest

from jaxhash.bench.compile import targets
from jaxhash.bench.compile.targets import GPUS, TPUS, parse_target, target_devices
from jaxhash.utils.errors import UserError

COMPILERS = {"tpu": "libtpu", "cuda": "jax_cuda13_plugin"}


@pytest.mark.parametrize(
    ("text", "platform", "devices", "hosts"),
    [
        ("v5e:1x1", "tpu", 1, 1),
        ("v5e:2x2", "tpu", 4, 1),
        ("v5e:2x4", "tpu", 8, 1),
        ("v5e:16x16", "tpu", 256, 64),
        ("V6E:4x8", "tpu", 32, 8),
        ("v5p:2x2x1", "tpu", 4, 1),
        ("v5p:4x4x8", "tpu", 128, 32),
        ("h200", "cuda", 1, 1),
        (" h200:8 ", "cuda", 8, 1),
        ("h100:8", "cuda", 8, 1),
        ("a100:4", "cuda", 4, 1),
    ],
)
def test_a_name_says_chip_devices_and_hosts(text, platform, devices, hosts):
    target = parse_target(text)
    assert (target.platform, target.devices, target.hosts) == (platform, devices, hosts)
    assert target.name == text.strip().lower()
    assert target.name.startswith(target.chip.name)


@pytest.mark.parametrize(
    "text",
    ["", "v9:2x2", "v5e", "v5e:8", "v5e:3x3", "v5e:32x32", "v5e:2x2x2", "v5e:2x4x"]
    + ["v5p:2x2", "v5p:3x2x1", "v5p:16x16x26", "v5p:0x2x2", "v4:2x2x1"]
    + ["h200:0", "h200:9", "h200:16", "h200:", "h200:2x4", "b9000"],
)
def test_an_unknown_name_lists_the_known_ones(text):
    with pytest.raises(UserError) as error:
        parse_target(text)
    message = str(error.value)
    assert "\n" not in message and text in message
    assert all(name in message for name in (*TPUS, *GPUS))


def test_numbers_of_the_chips_have_their_units():
    """Operations a second, bytes and bytes a second: a slip of a thousand shows here."""
    for chip in (*TPUS.values(), *GPUS.values()):
        assert 1e14 < chip.peak_flops < 1e16
        assert 1e10 < chip.memory_bytes < 1e12
        assert 5e11 < chip.bandwidth < 1e13
        assert 1e11 < chip.link_bandwidth < chip.bandwidth
        assert chip.source.startswith("https://")


@pytest.mark.parametrize(("text", "extra"), [("v5e:2x4", "tpu"), ("h200:8", "cuda")])
def test_a_missing_compiler_names_the_extra(monkeypatch, text, extra):
    monkeypatch.setattr(targets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=rf"jaxhash\[{extra}\]"):
        target_devices(parse_target(text))


@pytest.mark.slow
@pytest.mark.parametrize("text", ["v5e:1x1", "v5e:2x4", "v5e:16x16", "v6e:2x2", "v5p:2x2x4"])
def test_the_tpu_compiler_has_the_devices(text):
    check_devices(parse_target(text))


@pytest.mark.slow
@pytest.mark.parametrize("text", ["h200", "h200:8", "h100:2", "a100:8"])
def test_the_gpu_compiler_has_the_devices(text):
    check_devices(parse_target(text))


def check_devices(target):
    compiler = COMPILERS[target.platform]
    if importlib.util.find_spec(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    devices = target_devices(target)
    assert len(devices) == target.devices
    assert len({device.process_index for device in devices}) == target.hosts
