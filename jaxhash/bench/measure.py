"""Losses measured at one setting."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, get_args

import jax.numpy as jnp
import numpy as np

from jaxhash.bench.config import Pass, Setting
from jaxhash.bench.losses import Loss
from jaxhash.bench.prepare import Prepared, draw_codes, prepare
from jaxhash.bench.timing import alternate


class Point(NamedTuple):
    """What was measured of one loss at one setting."""

    loss: str
    which: Pass
    batch: int
    bits: int
    dtype: str
    devices: int
    repeats: int
    """Calls that count: those of all rounds."""
    median_seconds: float
    quartiles_seconds: Sequence[float]
    compile_seconds: float | None
    """Lowering and compiling; None where nothing is compiled."""
    peak_bytes: int | None
    """Arguments, outputs and temporaries of the compiled program, on each device."""
    moved_bytes: int
    """What any implementation must move: see `bytes_to_move`."""
    copy_share: float | None
    """Bytes to move in the median time, as a share of the bandwidth of a plain copy, on each
    device; None if that was not measured."""

    @property
    def setting(self) -> Setting:
        """What all losses were given alike."""
        return Setting(self.batch, self.bits, self.dtype, self.devices)


def measure(
    losses: Mapping[str, Loss],
    setting: Setting,
    *,
    passes: Sequence[Pass] = get_args(Pass),
    repeats: int = 200,
    budget_seconds: float = 10.0,
) -> list[Point]:
    """Time losses of one's own at one setting, in alternation.

    Args:
        losses: by name, each a function of codes, key and axis name (None on one device).
        setting: size and dtype of the codes, and how many devices share them.
        passes: value alone, or value and gradient.
        repeats: rounds at the most.
        budget_seconds: seconds of rounds, unless five rounds take longer.

    Raises:
        OutOfMemory: if a loss needs more memory than there is.

    Example:
        >>> losses = {"energy": lambda codes, key, axis_name: jnp.mean(codes**2)}
        >>> forward, backward = measure(losses, Setting(batch=16, bits=4), repeats=2)
        >>> backward.loss, backward.which, backward.repeats >= 2, backward.moved_bytes
        ('energy', 'forward+backward', True, 512)
    """
    codes, key = draw_codes(setting)
    prepared = {
        (name, which): prepare(loss, which, codes, key)
        for name, loss in losses.items()
        for which in passes
    }
    return time_in_turn(prepared, setting, repeats=repeats, budget_seconds=budget_seconds)


def time_in_turn(
    prepared: Mapping[tuple[str, Pass], Prepared],
    setting: Setting,
    *,
    repeats: int,
    budget_seconds: float,
    copy_bandwidth: float | None = None,
) -> list[Point]:
    """Time the prepared losses of one setting against each other.

    ``copy_bandwidth`` is that of one device, in bytes a second.
    """
    calls = {name: one.call for name, one in prepared.items()}
    seconds = alternate(calls, repeats=repeats, budget_seconds=budget_seconds)
    points = []
    for (loss, which), one in prepared.items():
        lower, median, upper = np.quantile(seconds[loss, which], (0.25, 0.5, 0.75)).tolist()
        moved = bytes_to_move(which, setting)
        share = copy_bandwidth and moved / setting.devices / median / copy_bandwidth
        points.append(
            Point(
                loss,
                which,
                *setting,
                repeats=len(seconds[loss, which]),
                median_seconds=median,
                quartiles_seconds=[lower, upper],
                compile_seconds=one.compile_seconds,
                peak_bytes=one.peak_bytes,
                moved_bytes=moved,
                copy_share=share,
            )
        )
    return points


def bytes_to_move(which: Pass, setting: Setting) -> int:
    """The bytes that no implementation can save: codes read once, and the gradient written once.

    Example:
        >>> bytes_to_move("forward+backward", Setting(batch=1024, bits=64, dtype="bfloat16"))
        262144
    """
    codes = setting.batch * setting.bits * jnp.dtype(setting.dtype).itemsize
    return 2 * codes if which == "forward+backward" else codes
