"""Progress on a terminal of any width, as lines elsewhere, and none where it is hidden."""

import contextlib
import io
import re
import threading
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.table import Table

from jaxhash.utils import console as module
from jaxhash.utils.console import (
    ProgressLine,
    hide_progress,
    print_table,
    show_work,
    track_progress,
)

WIDTHS = (40, 80, 120)


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand: ``clock.now``."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def make_console(*, width=120, terminal=False):
    return Console(file=io.StringIO(), width=width, force_terminal=terminal)


def screen_lines(console):
    """Returns all lines that were ever on a screen, without the sequences that move the cursor."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    return [line for line in re.split(r"[\r\n]", text) if line]


# Training


def shown(clock, updates, *, terminal=False, width=120, **options):
    """Returns the console after updates ``(seconds, step)``."""
    console = make_console(width=width, terminal=terminal)
    options = {"total": 100, "start": 0, "batch_size": 50, **options}
    with ProgressLine(console, **options) as progress:
        for seconds, step in updates:
            clock.now = 1000.0 + seconds
            progress.update(step, {"loss": 1.23456, "dead_bits": 3, "hswd": 0.5})
    return console


def test_plain_lines_where_there_is_no_terminal(clock):
    """The rate counts from the first update: before it lies compilation."""
    lines = screen_lines(shown(clock, [(7, 1), (17, 41), (22, 100)]))
    terms = "loss 1.2346  dead_bits 3  hswd 0.5000"
    assert lines == [
        f"step 1/100  {terms}  0 images/s  compiled",
        f"step 41/100  {terms}  200 images/s  15 s left",
        f"step 100/100  {terms}  330 images/s  0 s left",
    ]


def test_plain_lines_come_at_times_and_at_the_end(clock):
    console = shown(clock, [(0, 1), (1, 2), (4, 3), (5, 4), (9, 5), (9.5, 100)])
    assert [line.split()[1] for line in screen_lines(console)] == ["1/100", "4/100", "100/100"]


def test_pauses_between_lines_grow_with_the_time_that_has_passed(clock):
    """A training of a day must not fill its log: about ten lines for each tenfold of the time."""
    steps = 10**5  # one a second
    console = shown(clock, [(step, step + 1) for step in range(steps)], total=steps)
    seconds = [int(line.split()[1].partition("/")[0]) - 1 for line in screen_lines(console)]
    pauses = [late - early for early, late in zip(seconds, seconds[1:-1], strict=False)]
    assert pauses == sorted(pauses) and pauses[0] == 5 and pauses[-1] == 60
    assert len(seconds) < 1800


def test_rate_of_a_run_that_goes_on_counts_its_own_steps(clock):
    lines = screen_lines(shown(clock, [(0, 61), (10, 81)], start=60))
    assert lines[1].endswith("100 images/s  10 s left")


@pytest.mark.parametrize("width", WIDTHS)
def test_bar_of_a_training(clock, width):
    console = shown(clock, [(0, 1), (10, 100)], terminal=True, width=width)
    *_, last = screen_lines(console)
    assert "step 100/100" in last and "loss 1.2346" in last
    assert ("495 images/s" in last) == (width > 40)
    assert all(len(line) <= width for line in screen_lines(console))


def test_a_line_of_its_own_is_one_line_elsewhere_and_broken_between_words_on_a_terminal():
    line = "warning: " + 20 * "[bits] are dead: " + "/a/path" * 9
    for terminal in (False, True):
        console = make_console(width=40, terminal=terminal)
        with ProgressLine(console, total=9, start=0, batch_size=1) as progress:
            progress.print(line)
        printed = [each for each in screen_lines(console) if "dead" in each or "/a/path" in each]
        assert " ".join(printed) == line if terminal else printed == [line]
        assert not terminal or all(len(each) <= 40 for each in printed[:-1])


# Steps of a known number


def track(clock, console, *, seconds=1.0, total=4, **options):
    for _ in track_progress(range(total), "ranking by [floats]", total, console, **options):
        clock.now += seconds


@pytest.mark.parametrize("width", WIDTHS)
def test_bar_has_count_rate_and_time_left_in_one_line(clock, width):
    console = make_console(width=width, terminal=True)
    track(clock, console, total=2000)
    *_, last = screen_lines(console)
    assert "ranking by" in last and "2,000/2,000" in last and "00:00" in last
    assert ("1.0/s" in last) == (width > 40)
    assert all(len(line) <= width for line in screen_lines(console))


def test_plain_lines_of_steps(clock):
    console = make_console()
    track(clock, console, seconds=6.0)
    assert screen_lines(console) == [
        "ranking by [floats]: 1 of 4, 0.2/s, 18 s left",
        "ranking by [floats]: 2 of 4, 0.2/s, 12 s left",
        "ranking by [floats]: 3 of 4, 0.2/s, 6 s left",
    ]


def test_what_is_quick_prints_no_line(clock):
    console = make_console()
    track(clock, console)
    assert screen_lines(console) == []


def test_steps_count_by_their_size(clock):
    console = make_console()
    track(clock, console, seconds=60.0, total=1200, size=lambda step: 600 * (step < 2))
    assert screen_lines(console)[0] == "ranking by [floats]: 600 of 1,200, 10.0/s, 1 min 0 s left"


# Work of unknown length


@pytest.mark.parametrize("width", WIDTHS)
def test_work_on_a_terminal_leaves_nothing(width):
    console = make_console(width=width, terminal=True)
    with show_work("fitting the product quantizer to 5,000 items", console):
        pass
    shown = [line for line in screen_lines(console) if "fitting" in line]
    assert shown and all(line.rstrip().endswith("0:00:00") for line in shown)
    assert all(len(line) <= width for line in screen_lines(console))
    assert console.file.getvalue().endswith("\x1b[2K")  # the last line is erased


def test_work_prints_lines_until_it_ends(monkeypatch):
    printed = threading.Event()
    monkeypatch.setattr(module, "_FIRST_LINE", 0.0)
    monkeypatch.setattr(module, "print_line", lambda console, line: printed.set())
    with pytest.raises(ZeroDivisionError), show_work("fitting", make_console()):
        assert printed.wait(30)
        raise ZeroDivisionError
    assert all(thread.name != "show_work" for thread in threading.enumerate())


def test_work_that_is_quick_prints_nothing():
    console = make_console()
    with show_work("fitting", console):
        pass
    assert screen_lines(console) == []


def test_one_step_is_work_of_unknown_length(monkeypatch):
    printed = threading.Event()
    monkeypatch.setattr(module, "_FIRST_LINE", 0.0)
    monkeypatch.setattr(module, "print_line", lambda console, line: printed.set())
    assert [printed.wait(30) for _ in track_progress([0], "fitting", 1, make_console())] == [True]


# Progress within progress


@pytest.mark.parametrize("terminal", [False, True])
def test_of_progress_within_progress_the_inner_one_is_shown(clock, terminal):
    console = make_console(terminal=terminal)
    with show_work("opening", console):
        track(clock, console, seconds=6.0)
        track(clock, console, seconds=6.0, total=2)
    with ProgressLine(console, total=2, start=0, batch_size=1) as progress:
        progress.update(1, {"loss": 1.0})
        track(clock, console, seconds=6.0)
        progress.update(2, {"loss": 0.5})
    lines = [line for line in screen_lines(console) if line.strip()]
    ranking = [number for number, line in enumerate(lines) if "ranking by" in line]
    assert len(ranking) >= 3 if terminal else len(ranking) == 7  # bars are drawn at times
    assert "loss 0.5" in lines[-1] and not module._on_screen


def test_progress_that_is_given_up_gives_the_screen_back(clock):
    console = make_console(terminal=True)
    steps = track_progress(range(9), "ranking", 9, console)
    with show_work("opening", console):
        next(steps)
    steps.close()
    assert not module._on_screen


# None


@pytest.mark.parametrize("terminal", [False, True])
def test_hidden_progress_shows_nothing_but_lines(clock, terminal, monkeypatch):
    monkeypatch.setattr(module, "_FIRST_LINE", 0.0)
    console = make_console(terminal=terminal)
    with contextlib.suppress(ZeroDivisionError), hide_progress():
        track(clock, console, seconds=60.0)
        with ProgressLine(console, total=2, start=0, batch_size=1) as progress:
            progress.update(1, {"loss": 1.0})
            progress.print("a warning")
            progress.update(2, {"loss": 1.0})
        if not terminal:
            with show_work("fitting", console):
                pass
        raise ZeroDivisionError
    assert [line.strip() for line in screen_lines(console)] == ["a warning"]
    track(clock, console, seconds=60.0)
    assert len(screen_lines(console)) > 1  # it is shown again


# Tables


def make_table():
    table = Table(title="digits, 797 items", box=None)
    table.add_column("ranking by")
    for title in ("mAP", "worst ties", "P@H<=2", "quant. error"):
        table.add_column(title, justify="right")
    table.add_row("floats, re-ranked from ITQ codes", *("0.7123", "0.7001", "-", "0.2345"))
    table.add_row("hashnet + 0.1 hswd, 32 bits", *("0.8123", "0.8001", "0.9123", "0.1345"))
    return table


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_no_value_of_a_table_is_cut(width):
    console = make_console(width=width)
    print_table(console, make_table())
    lines = screen_lines(console)
    words = " ".join(lines).split()
    assert words.count("0.8123") == words.count("0.1345") == words.count("0.7001") == 1
    assert "floats," in words and "re-ranked" in words and "digits," in words
    assert "…" not in " ".join(lines) and all(len(line) <= width for line in lines)


@pytest.mark.parametrize("width", [70, 80, 90])
def test_titles_of_numbers_give_way_to_the_texts_of_a_table(width):
    """A row for each ranking as long as there is room; its name keeps all of its words."""
    table = Table(box=None)
    table.add_column("ranking by")
    for title in ("mAP", "worst ties", "best ties", "P@H<=2", "bit balance", "quant. error"):
        table.add_column(title, justify="right")
    for name in ("hashnet + 0.1 hswd, 32 bits", "pca-rotation, 32 bits"):
        table.add_row(name, *(f"0.{digit}123" for digit in range(1, 7)))
    console = make_console(width=width)
    print_table(console, table)
    lines = screen_lines(console)
    rows = [line for line in lines if all(f"0.{digit}123" in line for digit in range(1, 7))]
    assert len(rows) == 2 and "hashnet" in rows[0]
    assert "pca-rotation," in " ".join(lines) and "…" not in " ".join(lines)
    assert all(len(line) <= width for line in lines)


def test_a_table_that_fits_has_a_row_for_each_ranking():
    console = make_console(width=120)
    print_table(console, make_table())
    assert len(screen_lines(console)) == 4  # its title and its head
