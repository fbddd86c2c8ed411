"""Accelerators that are not here: their names, what they can do, and their devices to compile for.

JAX is imported by what needs it only: an unknown name is refused at once.
"""

import dataclasses
import importlib.util
import math
import os
import re
from typing import TYPE_CHECKING, Literal

from jaxhash.utils.errors import UserError, first_line

if TYPE_CHECKING:
    import jax

_GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """What one device can do, as its maker publishes it.

    Attributes:
        name: its name, in lower case.
        peak_flops: bfloat16 operations a second, without sparsity.
        memory_bytes: bytes that a program may have. For a TPU what its compiler allows; for a GPU all
            of its memory, of which JAX takes three quarters unless it is told otherwise.
        bandwidth: bytes a second from and to its memory.
        link_bandwidth: bytes a second that it can send to other chips, over all of its links.
        source: where the numbers are published.
    """

    name: str
    peak_flops: float
    memory_bytes: int
    bandwidth: float
    link_bandwidth: float
    source: str


@dataclasses.dataclass(frozen=True)
class Target:
    """Devices that a program is compiled for.

    Attributes:
        name: its name, such as ``v5e:2x4`` or ``h200:8``.
        platform: the compiler, by JAX's name of its platform.
        chip: what each device can do.
        devices: number of devices.
        hosts: number of hosts that they are attached to.
    """

    name: str
    platform: Literal["tpu", "cuda"]
    chip: Chip
    devices: int
    hosts: int


_TPU_DOCS = "https://cloud.google.com/tpu/docs"
_GPU_DOCS = "https://www.nvidia.com/en-us/data-center"

#: TPUs: half of the published bidirectional bandwidth of the links; memory as libtpu states it.
TPUS = {
    "v5e": Chip("v5e", 197e12, int(15.75 * _GIB), 819e9, 200e9, f"{_TPU_DOCS}/v5e"),
    "v6e": Chip("v6e", 918e12, int(31.25 * _GIB), 1638e9, 400e9, f"{_TPU_DOCS}/v6e"),
    "v5p": Chip("v5p", 459e12, int(95.74 * _GIB), 2765e9, 600e9, f"{_TPU_DOCS}/v5p"),
}

#: GPUs on an NVLink board, at most eight of them: half of the published bandwidth of NVLink.
GPUS = {
    "h200": Chip("h200", 989e12, 151_397_597_184, 4800e9, 450e9, f"{_GPU_DOCS}/h200/"),
    "h100": Chip("h100", 989e12, 84_942_979_072, 3350e9, 450e9, f"{_GPU_DOCS}/h100/"),
    "a100": Chip("a100", 312e12, 85_100_068_864, 2039e9, 300e9, f"{_GPU_DOCS}/a100/"),
}

#: Slices of v5e and v6e that can be rented; a slice of v5p has three sizes, the first two even.
_FLAT_SLICES = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_LARGEST_CUBE = (16, 16, 24)

#: GPUs that NVLink joins.
_GPUS_A_HOST = 8


def parse_target(text: str) -> Target:
    """Returns the devices of a name.

    Args:
        text: ``CHIP:SLICE`` for TPUs, such as ``v5e:2x4``; ``CHIP`` or ``CHIP:COUNT`` for GPUs.

    Raises:
        UserError: if there is no such target; it lists those that there are.

    Example:
        >>> target = parse_target("v5e:16x16")
        >>> target.devices, target.hosts, target.chip.peak_flops
        (256, 64, 197000000000000.0)
        >>> parse_target("h200:8").devices
        8
    """
    name = text.strip().lower()
    chip, colon, shape = name.partition(":")
    if chip in GPUS and (not colon or re.fullmatch("[1-8]", shape)):
        return Target(name, "cuda", GPUS[chip], devices=int(shape or 1), hosts=1)
    if chip in TPUS and _is_slice(chip, shape):
        devices = math.prod(_sizes(shape))
        hosts = devices // math.prod(_host_bounds(chip, shape))
        return Target(name, "tpu", TPUS[chip], devices, hosts)
    raise UserError(
        f"unknown target `for={text}`; there are v5e and v6e with {', '.join(_FLAT_SLICES)} (as in "
        "v5e:2x4), v5p with AxBxC, A and B even, up to 16x16x24 (v5p:2x2x1), and "
        f"{', '.join(GPUS)} with up to {_GPUS_A_HOST} GPUs (h200 or h200:8)"
    )


def target_devices(target: Target) -> "list[jax.Device]":
    """Returns descriptions of the devices of all hosts, to compile for; there is no device.

    Raises:
        UserError: if the compiler is not installed, or knows no such slice.
    """
    from jax.experimental import topologies

    if not installed_compilers(target):
        raise UserError(
            f"`for={target.name}` needs a compiler that is not installed: pip install "
            f"'jaxhash[{target.platform}]' brings it"
        )
    for name, value in _LIBTPU_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        if target.platform == "tpu":
            chip, _, shape = target.name.partition(":")
            bounds = _host_bounds(chip, shape)
            topology = topologies.get_topology_desc(
                platform="tpu",
                topology_name=target.name,
                chips_per_host_bounds=[*bounds, *[1] * (3 - len(bounds))],
            )
        else:
            topology = topologies.get_topology_desc(
                platform="cuda",
                topology_name=target.chip.name,
                target_config=_gpu_config(target.chip),
                topology=f"1x1x{target.devices}",
            )
    except RuntimeError as error:
        raise UserError(f"`for={target.name}`: {first_line(error)}") from error
    return list(topology.devices)


def installed_compilers(target: Target) -> tuple[str, ...]:
    """Returns the installed packages that have the compiler of a target."""
    return tuple(filter(importlib.util.find_spec, _COMPILERS[target.platform]))


def hide_accelerators() -> None:
    """Keeps JAX from taking the accelerators of this machine, to compile beside what runs there.

    It must be called before JAX is first used.
    """
    import jax

    jax.config.update("jax_platforms", "cpu")
    os.environ.update(_LIBTPU_ENVIRONMENT)


#: Packages that have the compiler of a platform; the extra of the platform's name brings the first.
_COMPILERS = {"tpu": ("libtpu",), "cuda": ("jax_cuda13_plugin", "jax_cuda12_plugin")}

#: Keeps libtpu from asking the cloud for a TPU, and from waiting for another process that has loaded it.
_LIBTPU_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def _sizes(shape: str) -> tuple[int, ...]:
    return tuple(map(int, shape.split("x")))


def _is_slice(chip: str, shape: str) -> bool:
    """Returns whether there is a slice of this shape; libtpu aborts the process for some others."""
    if chip != "v5p":
        return shape in _FLAT_SLICES
    if not re.fullmatch(r"\d{1,2}x\d{1,2}x\d{1,2}", shape):
        return False
    sizes = _sizes(shape)
    is_small = all(0 < size <= most for size, most in zip(sizes, _LARGEST_CUBE, strict=True))
    return is_small and not (sizes[0] % 2 or sizes[1] % 2)


def _host_bounds(chip: str, shape: str) -> tuple[int, ...]:
    """Returns the shape of a host's part: four chips, or the slice where one host has all of it."""
    if chip != "v5p" and shape in ("1x1", "2x4"):
        return _sizes(shape)
    return (2, 2)


def _gpu_config(chip: Chip) -> str:
    """Returns what XLA:GPU wants to know of a card, as the text of a `GpuTargetConfigProto`."""
    is_ampere = chip.name == "a100"
    info = {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "shared_memory_per_block": 49_152,
        "shared_memory_per_core": 167_936 if is_ampere else 233_472,
        "shared_memory_per_block_optin": 166_912 if is_ampere else 232_448,
        "threads_per_core_limit": 2048,
        "core_count": 108 if is_ampere else 132,
        "fpus_per_core": 64 if is_ampere else 128,
        "block_dim_limit_x": 2**31 - 1,
        "block_dim_limit_y": 65_535,
        "block_dim_limit_z": 65_535,
        "memory_bandwidth": int(chip.bandwidth),
        "l2_cache_size": (40 if is_ampere else 50) * 2**20,
        "clock_rate_ghz": 1.41 if is_ampere else 1.98,
        "device_memory_size": chip.memory_bytes,
        "registers_per_core_limit": 65_536,
        "registers_per_block_limit": 65_536,
        "cuda_compute_capability": f"{{ major: {8 if is_ampere else 9} minor: 0 }}",
    }
    fields = " ".join(
        f"{name} {value}" if isinstance(value, str) else f"{name}: {value}"
        for name, value in info.items()
    )
    return (
        f'gpu_device_info {{ {fields} }} platform_name: "CUDA" '
        "dnn_version_info { major: 9 minor: 28 patch: 1 } runtime_version { major: 13 } "
        f'device_description_str: "NVIDIA {chip.name.upper()}"'
    )
