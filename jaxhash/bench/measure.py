"""Measures losses at one setting."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, get_args

import jax.numpy as jnp
import numpy as np

from jaxhash.bench.config import Pass, Setting
from jaxhash.bench.losses import Loss
from jaxhash.bench.prepare import PreparedLoss, prepare_loss, random_codes
from jaxhash.training.timing import time_alternately


class Measurement(NamedTuple):
    """The times and the memory of one loss at one setting."""

    loss: str
    which: Pass
    batch: int
    bits: int
    dtype: str
    devices: int
    repeats: int
    """Number of timed calls, over all rounds."""
    median_seconds: float
    quartiles_seconds: Sequence[float]
    compile_seconds: float | None
    """Time of lowering and compiling; None if nothing is compiled."""
    peak_bytes: int | None
    """Arguments, outputs and temporaries of the compiled program, on each device; None if unknown."""
    moved_bytes: int
    """Bytes that any implementation must move: see `bytes_to_move`."""
    copy_share: float | None
    """Rate of ``moved_bytes`` in the median time, as a fraction of the bandwidth of a plain copy on
    each device; None if the bandwidth was not measured."""

    @property
    def setting(self) -> Setting:
        """The size, dtype and devices of the codes."""
        return Setting(self.batch, self.bits, self.dtype, self.devices)


def measure_losses(
    losses: Mapping[str, Loss],
    setting: Setting,
    *,
    passes: Sequence[Pass] = get_args(Pass),
    repeats: int = 200,
    budget_seconds: float = 10.0,
) -> list[Measurement]:
    """Times any losses at one setting, in alternation.

    Args:
        losses: losses by name; each is a function of codes, key and axis name (None on one device).
        setting: size and dtype of the codes, and the number of devices that share them.
        passes: value alone, or value and gradient.
        repeats: greatest number of rounds.
        budget_seconds: time of the rounds in seconds, unless five rounds take longer.

    Raises:
        OutOfMemory: if a loss needs more memory than there is.

    Example:
        >>> losses = {"energy": lambda codes, key, axis_name: jnp.mean(codes**2)}
        >>> forward, backward = measure_losses(losses, Setting(batch=16, bits=4), repeats=2)
        >>> backward.loss, backward.which, backward.repeats >= 2, backward.moved_bytes
        ('energy', 'forward+backward', True, 512)
    """
    codes, key = random_codes(setting)
    prepared = {
        (name, which): prepare_loss(loss, which, codes, key)
        for name, loss in losses.items()
        for which in passes
    }
    return time_prepared(prepared, setting, repeats=repeats, budget_seconds=budget_seconds)


def time_prepared(
    prepared: Mapping[tuple[str, Pass], PreparedLoss],
    setting: Setting,
    *,
    repeats: int,
    budget_seconds: float,
    copy_bandwidth: float | None = None,
) -> list[Measurement]:
    """Times the prepared losses of one setting in alternation.

    Args:
        prepared: prepared losses, by name and pass.
        setting: the setting that they were prepared for.
        repeats: greatest number of rounds.
        budget_seconds: time of the rounds in seconds, unless five rounds take longer.
        copy_bandwidth: bandwidth of a plain copy on one device, in bytes a second, if measured.
    """
    calls = {name: one.call for name, one in prepared.items()}
    seconds = time_alternately(calls, repeats=repeats, budget_seconds=budget_seconds)
    measurements = []
    for (loss, which), one in prepared.items():
        lower, median, upper = np.quantile(seconds[loss, which], (0.25, 0.5, 0.75)).tolist()
        moved = bytes_to_move(which, setting)
        share = copy_bandwidth and moved / setting.devices / median / copy_bandwidth
        measurements.append(
            Measurement(
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
    return measurements


def bytes_to_move(which: Pass, setting: Setting) -> int:
    """Returns the bytes that any implementation moves: codes read, gradient written, once each.

    Example:
        >>> bytes_to_move("forward+backward", Setting(batch=1024, bits=64, dtype="bfloat16"))
        262144
    """
    codes = setting.batch * setting.bits * jnp.dtype(setting.dtype).itemsize
    return 2 * codes if which == "forward+backward" else codes
