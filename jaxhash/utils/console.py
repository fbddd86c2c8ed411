"""Lines and progress on a console: bars on a terminal, plain lines at intervals elsewhere."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")


def print_line(console: Console, line: str) -> None:
    """Prints a line unwrapped, without markup."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def track_progress(
    items: Iterable[T],
    what: str,
    total: int,
    console: Console | None = None,
    every: float = 5.0,
    *,
    size: Callable[[T], int] = lambda item: 1,
) -> Iterator[T]:
    """Yields the items with a progress bar on a terminal, else with a line at intervals.

    Args:
        items: items of work.
        what: description of the work.
        total: number of items, or sum of their sizes.
        console: where to print; the error stream by default.
        every: seconds between two plain lines.
        size: what an item counts as.
    """
    console = console or Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    bar = Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    start = printed = time.monotonic()
    done = 0
    with bar:
        task = bar.add_task(what, total=total)
        for item in items:
            yield item
            done += size(item)
            now = time.monotonic()
            rate = done / max(now - start, 1e-9)
            bar.update(task, completed=done, description=f"{what}: {rate:,.1f} a second")
            if not console.is_terminal and now - printed >= every and 0 < done < total:
                printed = now
                left = f"{(total - done) / rate:,.0f} s left"
                print_line(console, f"{what}: {done:,} of {total:,}, {rate:,.1f} a second, {left}")


class ProgressLine:
    """Step, loss terms, images a second and time left: a bar on a terminal, else a line at intervals.

    Args:
        console: where to print.
        total: steps of the training.
        start: first step of this process.
        batch_size: images a step, for the rate.
        every: seconds between two plain lines.
    """

    def __init__(
        self, console: Console, *, total: int, start: int, batch_size: int, every: float = 5.0
    ):
        self._console, self._total, self._batch_size = console, total, batch_size
        self._every, self._printed = every, 0.0
        self._first = None  # step and time of the first update: compilation lies before it
        self._bar = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("compiling", total=total, completed=start)

    def __enter__(self) -> "ProgressLine":
        self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        self._bar.stop()

    def update(self, step: int, metrics: dict[str, Any]) -> None:
        """Shows the metrics of a step."""
        now = time.monotonic()
        self._first = self._first or (step, now)
        done, seconds = step - self._first[0], now - self._first[1]
        rate = done / seconds if done else 0.0
        terms = "  ".join(f"{name} {_shown(value)}" for name, value in metrics.items())
        shown = f"{terms}  {rate * self._batch_size:,.0f} images/s"
        self._bar.update(self._task, completed=step, description=shown)
        if not self._console.is_terminal and (
            now - self._printed >= self._every or step == self._total
        ):
            self._printed = now
            left = f"{(self._total - step) / rate:.0f} s left" if rate else "compiled"
            self.print(f"step {step}/{self._total}  {shown}  {left}")

    def print(self, line: str) -> None:
        """Prints an unwrapped line, above the bar if there is one."""
        print_line(self._console, line)


def _shown(value: int | float | list[int | float | None]) -> str:
    """Formats a metric; for the members of a sweep, the least and the greatest value."""
    if isinstance(value, list):
        finite = sorted(number for number in value if number is not None)
        ends = dict.fromkeys(_shown(number) for number in finite[:1] + finite[-1:])
        return "..".join(ends) or "nan"
    return f"{value}" if isinstance(value, int) else f"{value:.4f}"
