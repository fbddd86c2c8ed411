"""Arguments in the library's messages are flags where the command prints them."""

import io

import pytest
from rich.console import Console
from rich.table import Table

from jaxhash.cli.flags import FlagConsole, with_flags
from jaxhash.utils.console import ProgressLine, print_line, track_progress
from jaxhash.utils.errors import UserError


@pytest.mark.parametrize(
    ("message", "printed"),
    [
        ("`bits` must be at least 1, got 0", "--bits must be at least 1, got 0"),
        ("`batch_sizes` needs a value", "--batch-sizes needs a value"),
        ("`data_dir=a b/c_d`: no folder", "--data-dir a b/c_d: no folder"),
        ("`dataset=`: expected", "--dataset : expected"),
        ("`a`, `b_c=1` and `d`", "--a, --b-c 1 and --d"),
        ("a file a_b.npz, ``x`` or `Name`", "a file a_b.npz, ``x`` or `Name`"),
    ],
)
def test_arguments_are_printed_as_flags(message, printed):
    assert with_flags(message) == printed


@pytest.fixture
def console():
    return FlagConsole(file=io.StringIO(), width=120, markup=False, emoji=False)


def test_every_way_of_printing_a_line(console, monkeypatch):
    """Lines, and lines beside progress; what is drawn is left as it is."""
    monkeypatch.setattr("jaxhash.utils.console._FIRST_LINE", 0.0)
    print_line(console, "`batch_size` is 8")
    console.print("`seed=3`", "and `bits`", highlight=False)
    with ProgressLine(console, total=1, start=0, batch_size=1) as progress:
        progress.print("`on_nan=skip` drops it")
    list(track_progress([1, 2], "`chunk_size`", 2, console))
    table = Table("`raw`")
    console.print(table)
    lines = console.file.getvalue().splitlines()
    assert lines[:3] == ["--batch-size is 8", "--seed 3 and --bits", "--on-nan skip drops it"]
    assert lines[3].startswith("--chunk-size: 1 of 2")
    assert any("`raw`" in line for line in lines)


def test_a_console_of_the_library_prints_arguments():
    console = Console(file=io.StringIO(), width=120)
    print_line(console, "`batch_size` is 8")
    assert console.file.getvalue() == "`batch_size` is 8\n"


def test_an_error_before_there_is_a_console(refusal, monkeypatch):
    def fail(*_):
        raise UserError("`spread_banks=never` may help")

    monkeypatch.setattr("jaxhash.cli.main._dispatch", fail)
    assert refusal("train") == "jaxhash: --spread-banks never may help\n"


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        ("bench --budget-seconds 0", "--budget-seconds must be"),
        ("bench --output a.txt", "--output a.txt must end"),
        ("bench --data arrays --batch-size 0", "--batch-size must be"),
        ("data captions --captions a_b.txt --output c.npz", "--captions a_b.txt: "),
        ("evaluate a.npz --compare-database b.npz", "--compare-database needs --compare"),
    ],
)
def test_commands_name_their_flags(refusal, tmp_path, monkeypatch, command, flag):
    monkeypatch.chdir(tmp_path)
    line = refusal(*command.split())
    assert flag in line and "`" not in line
