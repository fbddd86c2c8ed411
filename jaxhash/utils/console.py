"""Lines and progress on a console: bars on a terminal, plain lines now and then elsewhere.

Progress tells how much is done, at which rate, and the time left. Of progress within progress the inner
one is shown. `hide_progress` turns all of it off.
"""

import contextlib
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

T = TypeVar("T")

#: Seconds before the first plain line. The pauses grow with the time that has passed, up to the greatest.
_FIRST_LINE, _LONGEST_PAUSE = 5.0, 60.0

#: Columns of a terminal below which bars and rates are left out, and from which bars are long.
_NARROW, _WIDE = 72, 110

#: More columns than any table has.
_ANY_WIDTH = 10**4

_is_hidden = False

#: Progress that goes on, the inner one last.
_on_screen: list[Progress] = []


@contextlib.contextmanager
def hide_progress() -> Iterator[None]:
    """Shows no progress until the end, in all of the process; lines are printed as ever."""
    global _is_hidden
    before, _is_hidden = _is_hidden, True
    try:
        yield
    finally:
        _is_hidden = before


def print_line(console: Console, line: str) -> None:
    """Prints a line without markup: on a terminal broken between words, elsewhere as one line."""
    if console.is_terminal:
        line = "\n".join(wrap_line(part, console.width) for part in line.split("\n"))
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def wrap_line(line: str, width: int, indent: str = "") -> str:
    """Breaks a line between words; a word that is longer, such as a path, stays whole.

    Args:
        line: the line.
        width: most columns of a line.
        indent: begins each line but the first.
    """
    if len(line) <= width:
        return line
    options = {"break_long_words": False, "break_on_hyphens": False}
    return textwrap.fill(line, width, subsequent_indent=indent, **options)


def track_progress(
    items: Iterable[T],
    what: str,
    total: int,
    console: Console | None = None,
    *,
    size: Callable[[T], int] = lambda item: 1,
) -> Iterator[T]:
    """Yields the items with a progress bar on a terminal, else with a line now and then.

    One item, of which nothing is known before it is done, is shown as `show_work` shows it.

    Args:
        items: items of work.
        what: description of the work.
        total: number of items, or sum of their sizes.
        console: where to print; the error stream by default.
        size: what an item counts as.
    """
    if total == 1:
        with show_work(what, console):
            yield from items
        return
    console = console or Console(stderr=True)
    start, done, bar = time.monotonic(), 0, _make_bar(console, transient=True)
    lines = _PlainLines(console, bar)
    with _show(bar):
        task = bar.add_task(what, total=total, rate="", count=f"0/{total:,}")
        for item in items:
            yield item
            done += size(item)
            rate = done / max(time.monotonic() - start, 1e-9)
            bar.update(task, completed=done, rate=_per_second(rate), count=f"{done:,}/{total:,}")
            if 0 < done < total and lines.are_due():
                left = f"{_duration((total - done) / rate)} left"
                lines.print(f"{what}: {done:,} of {total:,}, {_per_second(rate)}, {left}")


def print_table(console: Console, table: Table) -> None:
    """Prints a table; where it is too wide for the console, a line for each value, so that none is cut."""
    free = console.options.update(width=_ANY_WIDTH)
    size = table.__rich_measure__(console, free)
    excess = size.maximum - console.width
    for column in table.columns:
        if column.justify != "right":  # titles of numbers are broken first: room is for the texts
            continue
        least = max(map(len, (*f"{column.header}".split(), *map(str, column.cells))))
        if (cut := min(excess, len(f"{column.header}") - least)) > 0:
            column.width, excess = len(f"{column.header}") - cut, excess - cut
    if size.minimum <= console.width and not any(
        "…" in segment.text for segment in console.render(table)
    ):
        console.print(table)
        return
    columns = [list(column.cells) for column in table.columns]
    titles = [column.header for column in table.columns]
    if table.title is not None:
        console.print(table.title)
    for first, *values in zip(*columns, strict=True):
        console.print(first, style="bold")
        lines = Table(box=None, show_header=False)
        for title, value in zip(titles[1:], values, strict=True):
            lines.add_row(title, value)
        console.print(lines)
    if table.caption is not None:
        console.print(table.caption)


@contextlib.contextmanager
def show_work(what: str, console: Console | None = None) -> Iterator[None]:
    """Shows that work of unknown length goes on, and for how long.

    Args:
        what: description of the work.
        console: where to print; the error stream by default.
    """
    console = console or Console(stderr=True)
    is_shown = console.is_terminal and not _is_hidden
    spinner = Progress(
        SpinnerColumn(),
        _text("{task.description}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not is_shown,
        expand=is_shown,
    )
    ended, start, lines = threading.Event(), time.monotonic(), _PlainLines(console, spinner)

    def print_lines() -> None:
        while not ended.wait(lines.pause):
            if lines.are_due():
                lines.print(f"{what}: {_duration(time.monotonic() - start)} so far")

    thread = threading.Thread(target=print_lines, name="show_work", daemon=True)
    with _show(spinner):
        spinner.add_task(what, total=None)
        if not console.is_terminal:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            if not console.is_terminal:
                thread.join()


class ProgressLine:
    """Step, loss terms, images a second and time left: a bar on a terminal, else a line now and then.

    Args:
        console: where to print.
        total: steps of the training.
        start: first step of this process.
        batch_size: images a step, for the rate.
    """

    def __init__(self, console: Console, *, total: int, start: int, batch_size: int):
        self._console, self._total, self._batch_size = console, total, batch_size
        self._first = None  # step and time of the first update: compilation lies before it
        self._bar = _make_bar(console, transient=False)
        self._lines = _PlainLines(console, self._bar, first_at_once=True)
        self._showing = contextlib.ExitStack()
        self._task = self._bar.add_task(
            "", total=total, completed=start, rate="", count=f"step {start:,}/{total:,}"
        )

    def __enter__(self) -> "ProgressLine":
        self._showing.enter_context(show_work("compiling the step", self._console))
        return self

    def __exit__(self, *_: object) -> None:
        self._showing.close()

    def update(self, step: int, metrics: dict[str, Any]) -> None:
        """Shows the metrics of a step."""
        now = time.monotonic()
        if self._first is None:
            self._first = step, now
            self._showing.close()
            self._showing.enter_context(_show(self._bar))
        done, seconds = step - self._first[0], now - self._first[1]
        rate = done / seconds if done else 0.0
        terms = "  ".join(f"{name} {_shown(value)}" for name, value in metrics.items())
        images = f"{rate * self._batch_size:,.0f} images/s"
        count = f"step {step:,}/{self._total:,}"
        self._bar.update(self._task, completed=step, description=terms, rate=images, count=count)
        if self._lines.are_due() or step == self._total:
            left = f"{_duration((self._total - step) / rate)} left" if rate else "compiled"
            self._lines.print(f"step {step}/{self._total}  {terms}  {images}  {left}")

    def print(self, line: str) -> None:
        """Prints a line, above the bar if there is one."""
        print_line(self._console, line)


class _PlainLines:
    """Progress as lines, where the console is no terminal; pauses grow with the time so far."""

    def __init__(self, console: Console, bar: Progress, *, first_at_once: bool = False):
        self._console, self._bar = console, bar
        self._start = time.monotonic()
        self._next = self._start + (0 if first_at_once else _FIRST_LINE)

    @property
    def pause(self) -> float:
        """Seconds until the next line, and a little more than none."""
        return max(0.05, self._next - time.monotonic())

    def are_due(self) -> bool:
        return not self._console.is_terminal and time.monotonic() >= self._next

    def print(self, line: str) -> None:
        is_inner = _on_screen[-1:] == [self._bar]
        if _is_hidden or self._console.is_terminal or not is_inner:
            return
        now = time.monotonic()
        self._next = now + min(max(_FIRST_LINE, (now - self._start) / 10), _LONGEST_PAUSE)
        print_line(self._console, line)


@contextlib.contextmanager
def _show(bar: Progress) -> Iterator[None]:
    """Shows a bar in place of the one that is on the screen, until the end."""
    outer = _on_screen[-1] if _on_screen else None
    if outer is not None:
        outer.stop()
    _on_screen.append(bar)
    try:
        with bar:
            yield
    finally:
        _on_screen.remove(bar)
        if outer in _on_screen:
            outer.start()


def _make_bar(console: Console, *, transient: bool) -> Progress:
    """Makes a bar whose tasks have a description, a ``count`` and a ``rate``, as wide as the terminal."""
    count, rate = TextColumn("{task.fields[count]}"), TextColumn("{task.fields[rate]}")
    columns: tuple[ProgressColumn, ...] = count, TimeRemainingColumn(compact=True)
    if console.width >= _NARROW:
        bar_width = 20 if console.width >= _WIDE else 8
        columns = BarColumn(bar_width=bar_width), count, rate, TimeRemainingColumn()
    is_shown = console.is_terminal and not _is_hidden
    return Progress(
        _text("{task.description}"),
        *columns,
        console=console,
        transient=transient,
        disable=not is_shown,
        expand=is_shown,
    )


def _text(form: str) -> TextColumn:
    """Returns a column of text that gives way to the others, and is cut where it is too long."""
    column = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    return TextColumn(form, markup=False, table_column=column)


def _per_second(rate: float) -> str:
    return f"{rate:,.0f}/s" if rate >= 100 else f"{rate:,.1f}/s"


def _duration(seconds: float) -> str:
    """Formats a duration by its two largest units.

    Example:
        >>> [_duration(seconds) for seconds in (4.2, 83.0, 7384.0)]
        ['4 s', '1 min 23 s', '2 h 3 min']
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _shown(value: int | float | list[int | float | None]) -> str:
    """Formats a metric; for the members of a sweep, the least and the greatest value."""
    if isinstance(value, list):
        finite = sorted(number for number in value if number is not None)
        ends = dict.fromkeys(_shown(number) for number in finite[:1] + finite[-1:])
        return "..".join(ends) or "nan"
    return f"{value}" if isinstance(value, int) else f"{value:.4f}"
