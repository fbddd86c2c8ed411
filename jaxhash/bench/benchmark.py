"""Measures one setting after the other, and stops losses that become too slow or too large."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax

from jaxhash.bench.config import BenchConfig, Pass, Setting
from jaxhash.bench.measure import Measurement, time_prepared
from jaxhash.bench.prepare import OutOfMemory, PreparedLoss, PrepareLoss, random_codes
from jaxhash.bench.scaling import reason_to_stop
from jaxhash.utils.errors import first_line


class StoppedLoss(NamedTuple):
    """The first setting at which a loss was not measured, and the reason."""

    loss: str
    which: Pass
    setting: Setting
    reason: str

    def covers(self, loss: str, which: Pass, setting: Setting) -> bool:
        """Returns whether the stop covers a setting: its batch size or a larger one, any bits."""
        return (self.loss, self.which, *self.setting[2:]) == (loss, which, *setting[2:]) and (
            self.setting.batch <= setting.batch
        )


class Benchmark:
    """The measurements so far, and the losses that were stopped.

    Args:
        losses: functions that prepare a loss, by name of the loss.
        config: passes, repeats, budget, and limit of a call.
        copy_bandwidth: bandwidth of a plain copy on one device, in bytes a second.
    """

    def __init__(
        self, losses: Mapping[str, PrepareLoss], config: BenchConfig, *, copy_bandwidth: float
    ):
        self.points: list[Measurement] = []
        self.stops: list[StoppedLoss] = []
        self._losses, self._config, self._copy_bandwidth = losses, config, copy_bandwidth

    def measure(self, setting: Setting, previous: Sequence[Setting]) -> list[Measurement]:
        """Returns the measurements at a setting, made now unless they exist.

        Args:
            setting: the setting.
            previous: the smaller settings of the same series.
        """
        known = [point for point in self.points if point.setting == setting]
        if known:
            return known  # two series share this setting
        new = time_prepared(
            self._prepare(setting, previous),
            setting,
            repeats=self._config.repeats,
            budget_seconds=self._config.budget_seconds,
            copy_bandwidth=self._copy_bandwidth,
        )
        self.points += new
        return new

    def _prepare(
        self, setting: Setting, previous: Sequence[Setting]
    ) -> dict[tuple[str, Pass], PreparedLoss]:
        """Prepares the losses that are measured at a setting; adds the others to ``stops``."""
        codes, key = random_codes(setting)
        ready = {}
        for which in self._config.passes:
            for loss, prepare in self._losses.items():
                if any(stop.covers(loss, which, setting) for stop in self.stops):
                    continue
                reason = self._reason_to_stop(loss, which, setting, previous)
                if reason is None:
                    try:
                        ready[loss, which] = prepare(which, codes, key)
                    except (OutOfMemory, jax.errors.JaxRuntimeError) as error:
                        reason = first_line(error)  # other losses are worth measuring
                if reason is not None:
                    self.stops.append(StoppedLoss(loss, which, setting, reason))
        return ready

    def _reason_to_stop(
        self, loss: str, which: Pass, setting: Setting, previous: Sequence[Setting]
    ) -> str | None:
        """Returns why a loss stops, from its times at the previous settings.

        A size is batch times bits, as only one of them varies.
        """
        medians = {p.setting: p.median_seconds for p in self.points if p[:2] == (loss, which)}
        times = [(s.batch * s.bits, medians[s]) for s in previous if s in medians]
        return reason_to_stop(times, setting.batch * setting.bits, self._config.limit_seconds)
