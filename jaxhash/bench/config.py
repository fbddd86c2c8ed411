"""The configurations of the benchmarks, and the presets."""

import dataclasses
import difflib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from jaxhash.bench.compile.targets import parse_target
from jaxhash.bench.losses import KERNEL, LOSSES, TORCH, TORCH_FORMS, TORCH_PREFIX, is_torch
from jaxhash.utils.errors import UserError

Pass = Literal["forward", "forward+backward"]
Dtype = Literal["float32", "bfloat16", "float16"]
Preset = Literal["hswd", "growth", "losses", "related"]

#: Names of the synthetic data sets: images in memory, and in files of two formats.
SYNTHETIC = ("arrays", "png", "jpeg")


class Setting(NamedTuple):
    """The codes that all losses are timed on."""

    batch: int
    """Rows of the codes, over all devices."""
    bits: int
    """Columns of the codes."""
    dtype: Dtype = "float32"
    devices: int = 1
    """Number of devices that share the batch."""


@dataclasses.dataclass(frozen=True)
class LossesConfig:
    """Which losses at which settings."""

    preset: Preset = "hswd"
    """Which losses and settings; the other options change single values of it."""
    losses: tuple[str, ...] = ("select", "sort", "l2")
    """Losses: select, sort, kernel (methods of HSWD), l2, swd, ot, torch, names of jaxhash.losses, or
    torch:NAME for those that have a plain form in PyTorch."""
    passes: tuple[Pass, ...] = ("forward", "forward+backward")
    """Value alone, or value and gradient."""
    batch_sizes: tuple[int, ...] = (1024,)
    """Rows of the codes, over all devices."""
    bits: tuple[int, ...] = (64,)
    """Columns of the codes."""
    through: tuple[int, int] | None = None
    """Vary the batch size at one number of bits, and the bits at one batch size: this batch size
    and these bits. Every batch size with every number of bits if not given."""
    dtypes: tuple[Dtype, ...] = ("float32",)
    """Dtypes of the codes."""
    devices: tuple[int, ...] = (1,)
    """Numbers of devices that share the batch. A CPU has eight of them under
    XLA_FLAGS=--xla_force_host_platform_device_count=8."""
    output: Path | None = None
    """JSON file, with a plot beside it; runs/bench/PRESET-PLATFORM.json if not given, where PRESET
    is "custom" if any other option is given. An older file is overwritten."""

    def check(self) -> None:
        """Raises a `UserError` that names the first field whose value is not allowed."""
        for name in ("losses", "passes", "batch_sizes", "bits", "dtypes", "devices"):
            if not getattr(self, name):
                raise UserError(f"`{name}` needs a value")
        known = (*LOSSES, TORCH, *(f"{TORCH_PREFIX}{name}" for name in TORCH_FORMS))
        for loss in self.losses:
            if loss not in known:
                near = difflib.get_close_matches(loss, known, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise UserError(f"unknown loss {loss!r}; {hint}losses: {', '.join(known)}")
        if KERNEL in self.losses and max(self.devices) > 1:
            raise UserError(f"the loss {KERNEL} runs on one device only; leave it out of `losses`")
        for name in ("batch_sizes", "bits", "devices", "through"):
            check_at_least(self, name, 1)
        for setting in itertools.chain(*self.series()):
            if setting.batch % setting.devices:
                raise UserError(
                    f"a batch of {setting.batch} cannot be spread evenly over {setting.devices} "
                    "devices; choose other `batch_sizes` or `devices`"
                )
        check_json(self.output)

    def series(self) -> Iterator[list[Setting]]:
        """Yields series of settings; within one either the batch size or the bits grow.

        Example:
            >>> [series] = LossesConfig(batch_sizes=(64, 32), bits=(8,)).series()
            >>> [setting.batch for setting in series]
            [32, 64]
        """
        batches, widths = sorted(set(self.batch_sizes)), sorted(set(self.bits))
        for dtype, devices in itertools.product(self.dtypes, sorted(set(self.devices))):
            if self.through is None:
                for bits in widths:
                    yield [Setting(batch, bits, dtype, devices) for batch in batches]
            else:
                at_batch, at_bits = self.through
                yield [Setting(batch, at_bits, dtype, devices) for batch in batches]
                yield [Setting(at_batch, bits, dtype, devices) for bits in widths]


@dataclasses.dataclass(frozen=True)
class BenchConfig(LossesConfig):
    """A benchmark of losses."""

    repeats: int = 200
    """Greatest number of rounds a setting; each loss has a turn in a round, of 20 ms or one call."""
    budget_seconds: float = 10.0
    """Seconds of rounds a setting, unless five rounds take longer."""
    limit_seconds: float = 20.0
    """A loss is not timed on larger codes once a call of it takes longer than this."""

    def check(self) -> None:
        """Raises a `UserError` that names the first field whose value is not allowed."""
        super().check()
        check_at_least(self, "repeats", 1)
        for name in ("budget_seconds", "limit_seconds"):
            if not getattr(self, name) > 0:
                raise UserError(f"`{name}` must be above 0, got {getattr(self, name)}")

    @property
    def name(self) -> str:
        """Name of the preset, or "custom" if a field changes what is measured."""
        as_preset = dataclasses.replace(self, output=None) == PRESETS[self.preset]()
        return self.preset if as_preset else "custom"


@dataclasses.dataclass(frozen=True)
class CompiledConfig(LossesConfig):
    """Losses that are compiled for accelerators that are not here."""

    target: str = ""
    """The accelerators, as `jaxhash.bench.compile.targets.parse_target` reads them."""

    @classmethod
    def of_preset(cls, preset: Preset, target: str) -> "CompiledConfig":
        """Returns the losses and settings of a preset, spread over all devices of the target.

        Raises:
            UserError: if there is no such target.
        """
        chosen, shared = PRESETS[preset](), dataclasses.fields(LossesConfig)
        values = {field.name: getattr(chosen, field.name) for field in shared}
        devices = parse_target(target).devices
        not_here = set() if devices == 1 else {KERNEL}
        values["losses"] = tuple(
            loss for loss in chosen.losses if loss not in not_here and not is_torch(loss)
        )
        return cls(**values | {"target": target, "devices": (devices,)})

    def check(self) -> None:
        """Raises a `UserError` that names the first field whose value is not allowed."""
        target = parse_target(self.target)
        if of_torch := [name for name in self.losses if is_torch(name)]:
            raise UserError(f"the loss {of_torch[0]} cannot be compiled; leave it out of `losses`")
        if max(self.devices, default=1) > target.devices:
            raise UserError(
                f"`devices={max(self.devices)}` is more than the {target.devices} of "
                f"`for={self.target}`"
            )
        super().check()

    @property
    def name(self) -> str:
        """Name of the preset, or "custom" if a field changes what is compiled."""
        as_preset = dataclasses.replace(self, output=None) == self.of_preset(
            self.preset, self.target
        )
        return self.preset if as_preset else "custom"


@dataclasses.dataclass(frozen=True)
class InputConfig:
    """A benchmark of the input: images a second that are decoded, augmented, and batched."""

    data: tuple[str, ...]
    """Data sets, named as for jaxhash train, or arrays, png and jpeg for synthetic 32x32 images, in
    memory and in files; those and digits if none is named. A folder's images are read from their
    files, even if training would hold them in memory."""
    data_dir: Path | None = None
    """Folder of the data sets."""
    image_size: int | None = None
    """Height and width to which the images of a folder are decoded."""
    batch_size: int = 256
    """Number of images of a batch."""
    crop: int = 4
    """Padding of the random crop, in pixels."""
    flip: bool = True
    """True to flip half of the images."""
    workers: tuple[int, ...] = (0, 1, 2)
    """Numbers of processes that load batches; 0 for threads."""
    augment_on: tuple[Literal["host", "device"], ...] = ("host", "device")
    """Where images are augmented."""
    repeats: int = 20
    """Greatest number of rounds of each measurement; at most five for a pipeline."""
    budget_seconds: float = 4.0
    """Seconds of rounds of each measurement; more for a slow pipeline."""
    output: Path | None = None
    """JSON file; runs/bench/data-PLATFORM.json if not given. An older file is overwritten."""

    def check(self) -> None:
        """Raises a `UserError` that names the first field whose value is not allowed."""
        least = {"image_size": 1, "batch_size": 1, "crop": 0, "workers": 0, "repeats": 1}
        for name, allowed in least.items():
            check_at_least(self, name, allowed)
        for name in ("workers", "augment_on"):
            if not getattr(self, name):
                raise UserError(f"`{name}` needs a value")
        if not self.budget_seconds > 0:
            raise UserError(f"`budget_seconds` must be above 0, got {self.budget_seconds}")
        check_json(self.output)

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON values, without those that are paths."""
        fields = dataclasses.asdict(self)
        return {name: fields[name] for name in fields if name not in ("data_dir", "output")}


def check_at_least(config: object, name: str, least: int) -> None:
    """Raises a `UserError` if a field, or one of its numbers, is below the least that is allowed."""
    value = getattr(config, name)
    for number in value if isinstance(value, tuple) else (value,):
        if number is not None and number < least:
            raise UserError(f"`{name}` must be at least {least}, got {number}")


def check_json(output: Path | None) -> None:
    """Raises a `UserError` if a result file is named otherwise than as JSON."""
    if output is not None and output.suffix.lower() != ".json":
        raise UserError(f"`output={output}` must end in .json")


def hswd() -> BenchConfig:
    """HSWD beside its sort, the elementwise penalty and, where installed, PyTorch's form."""
    return BenchConfig(
        preset="hswd",
        losses=("select", "sort", "l2", TORCH),
        batch_sizes=(128, 1024, 8192, 65_536),
        bits=(64,),
    )


def growth() -> BenchConfig:
    """How cost grows: batch 2^7 to 2^20 at 64 bits, and bits 8 to 1,024 at batch 4,096."""
    return BenchConfig(
        preset="growth",
        losses=("select", "sort", "swd", "ot"),
        passes=("forward+backward",),
        batch_sizes=tuple(2**power for power in range(7, 21)),
        bits=tuple(2**power for power in range(3, 11)),
        through=(4096, 64),
    )


def losses() -> BenchConfig:
    """Every loss, forward and backward, on 1,024 codes of 64 bits."""
    return BenchConfig(preset="losses", losses=tuple(LOSSES), passes=("forward+backward",))


def related() -> BenchConfig:
    """Losses of later papers, each beside a plain form in PyTorch, on 128 and 1,024 codes of 64 bits."""
    return BenchConfig(
        preset="related",
        losses=(*TORCH_FORMS, *(f"{TORCH_PREFIX}{name}" for name in TORCH_FORMS)),
        passes=("forward+backward",),
        batch_sizes=(128, 1024),
    )


#: All presets by name; the first is the default.
PRESETS: dict[str, Callable[[], BenchConfig]] = {
    make.__name__: make for make in (hswd, growth, losses, related)
}
