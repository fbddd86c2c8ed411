"""Settings measured one after the other, each loss as far as it goes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jaxhash.bench.config import BenchConfig, Pass, Setting
from jaxhash.bench.growth import reason_to_stop
from jaxhash.bench.measure import Point, time_in_turn
from jaxhash.bench.prepare import OutOfMemory, Prepare, Prepared, draw_codes


class Stop(NamedTuple):
    """The first setting that a loss was not measured at, and why."""

    loss: str
    which: Pass
    setting: Setting
    reason: str

    def reaches(self, loss: str, which: Pass, setting: Setting) -> bool:
        """Whether it holds for this setting too: at the same batch size or beyond, any bits."""
        return (self.loss, self.which, *self.setting[2:]) == (loss, which, *setting[2:]) and (
            self.setting.batch <= setting.batch
        )


class Survey:
    """What has been measured so far, and which losses have come to their end.

    Args:
        losses: what makes each loss ready, by name.
        config: which passes, how often, and when a loss is stopped.
        copy_bandwidth: bytes a second of one device.
    """

    def __init__(
        self, losses: Mapping[str, Prepare], config: BenchConfig, *, copy_bandwidth: float
    ):
        self.points: list[Point] = []
        self.stops: list[Stop] = []
        self._losses, self._config, self._copy_bandwidth = losses, config, copy_bandwidth

    def measure(self, setting: Setting, walked: Sequence[Setting]) -> list[Point]:
        """Measure a setting that follows smaller ones, and return its points, known or new."""
        known = [point for point in self.points if point.setting == setting]
        if known:
            return known  # two walks cross here
        new = time_in_turn(
            self._prepare(setting, walked),
            setting,
            repeats=self._config.repeats,
            budget_seconds=self._config.budget_seconds,
            copy_bandwidth=self._copy_bandwidth,
        )
        self.points += new
        return new

    def _prepare(
        self, setting: Setting, walked: Sequence[Setting]
    ) -> dict[tuple[str, Pass], Prepared]:
        """The losses that go this far, ready; those that do not are noted."""
        codes, key = draw_codes(setting)
        ready = {}
        for which in self._config.passes:
            for loss, prepare in self._losses.items():
                if any(stop.reaches(loss, which, setting) for stop in self.stops):
                    continue
                reason = self._reason_to_stop(loss, which, setting, walked)
                if reason is None:
                    try:
                        ready[loss, which] = prepare(which, codes, key)
                    except OutOfMemory as error:
                        reason = str(error)
                if reason is not None:
                    self.stops.append(Stop(loss, which, setting, reason))
        return ready

    def _reason_to_stop(
        self, loss: str, which: Pass, setting: Setting, walked: Sequence[Setting]
    ) -> str | None:
        """By its times at the settings before; sizes are products, as only one factor varies."""
        medians = {p.setting: p.median_seconds for p in self.points if p[:2] == (loss, which)}
        times = [(s.batch * s.bits, medians[s]) for s in walked if s in medians]
        return reason_to_stop(times, setting.batch * setting.bits, self._config.limit_seconds)
