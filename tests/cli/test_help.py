"""Help: what it says holds, it fits into any terminal, and its examples are commands that can be read."""

import re
import shlex

import pytest

from jaxhash.cli import bench, compile, train, usage
from jaxhash.cli.data import CaptionArguments, CheckArguments, FeatureArguments, IndexArguments
from jaxhash.cli.dedupe import DedupeArguments
from jaxhash.cli.encode import EncodeArguments
from jaxhash.cli.evaluate import EvaluateArguments
from jaxhash.cli.export import ExportArguments
from jaxhash.cli.fit import FitArguments
from jaxhash.cli.help import fit
from jaxhash.cli.index import IndexArguments as ChangeArguments
from jaxhash.cli.mistakes import _flags
from jaxhash.cli.parsing import parse
from jaxhash.cli.report import ReportArguments
from jaxhash.cli.search import SearchArguments
from jaxhash.cli.serve import ServeArguments
from jaxhash.runs.presets import PRESETS

KINDS = {
    "evaluate": EvaluateArguments,
    "report": ReportArguments,
    "fit": FitArguments,
    "encode": EncodeArguments,
    "index": ChangeArguments,
    "search": SearchArguments,
    "serve": ServeArguments,
    "dedupe": DedupeArguments,
    "export": ExportArguments,
    "data check": CheckArguments,
    "data index": IndexArguments,
    "data features": FeatureArguments,
    "data captions": CaptionArguments,
}
TABLE = "jaxhash train --objective help"  # looked at before the parser


def read(line):
    """Parses a command as its verb does."""
    name, verb, *words = shlex.split(line)
    assert name == "jaxhash"
    if verb in ("train", "compile", "bench"):
        return {"train": train, "compile": compile, "bench": bench}[verb].parse_arguments(words)
    if verb == "data":
        verb, words = f"data {words[0]}", words[1:]
    return parse(KINDS[verb], words, prog=f"jaxhash {verb}")


def examples(text):
    return text.partition("examples:\n")[2].partition("\n\n")[0].splitlines()


SHORT = {
    "": usage.COMMANDS,
    **{verb: usage.short_help(verb, ["--help"]) for verb in ("data", "train", "compile")},
}
EXAMPLES = [line.strip() for text in SHORT.values() for line in examples(text)] + [
    line.strip() for text in usage.EXAMPLES.values() for line in text.splitlines()
]


@pytest.mark.parametrize("line", sorted({*EXAMPLES} - {TABLE}))
def test_examples_can_be_read(line):
    assert read(line)


def test_every_command_has_examples():
    commands = {*usage.VERBS} - {"data"} | {*KINDS}
    assert usage.EXAMPLES.keys() == commands
    for command, lines in usage.EXAMPLES.items():
        assert all(line.startswith(f"  jaxhash {command} ") for line in lines.splitlines())


def test_the_values_of_the_first_preset_are_its_values():
    assert next(iter(PRESETS)) == usage.FIRST_PRESET
    first = PRESETS[usage.FIRST_PRESET]()
    assert {name: first.get(name) for name in usage.MAIN_VALUES} == usage.MAIN_VALUES


@pytest.mark.parametrize(
    ("verb", "kind"), [("train", train.TrainArguments), ("compile", compile.CompileArguments)]
)
def test_the_main_options_are_options(verb, kind):
    named = re.findall(r"^  (--[a-z-]+)", SHORT[verb], re.MULTILINE)
    assert len(named) >= 5 and {*named} - {"--for"} <= {*_flags(kind)}


def test_a_preset_shows_its_own_values(output):
    text = " ".join(output("train", "cifar10-features-csq", "--help").split())
    assert "values of cifar10-features-csq" in text and "(default: 32)" not in text
    for value in ("64", "csq", "own", "40", "125"):
        assert f"(default: {value})" in text


@pytest.mark.parametrize("verb", usage.VERBS)
def test_examples_are_at_the_end_and_the_help_is_short(output, verb):
    text = output(verb, "--help")
    assert examples(text) and text.endswith(examples(text)[-1] + "\n")
    assert verb == "fit" or len(text.splitlines()) <= 72


@pytest.mark.parametrize("verb", ["evaluate", "data check", "compile", "bench"])
def test_all_options_are_those_of_the_parser(output, verb):
    text = output(*verb.split(), "--help-all")
    kind = (
        KINDS.get(verb) or {"compile": compile.CompileArguments, "bench": bench.BenchConfig}[verb]
    )
    flags = {*_flags(kind)} - {"--path", "--target"}
    assert flags <= {*re.findall(r"^  (--[a-z-]+)", text, re.MULTILINE)}
    assert "None" not in text


@pytest.mark.parametrize("width", [40, 60, 80, 100])
@pytest.mark.parametrize("words", [(), ("train",), ("compile",), ("search",), ("train", "-all")])
def test_no_line_is_wider_than_the_terminal(output, monkeypatch, words, width):
    """But for one word, such as a path, alone in its line; and no word is broken or lost."""
    asked = [*words, "--help"] if words != ("train", "-all") else ["train", "--help-all"]
    monkeypatch.setenv("COLUMNS", "1000")
    whole = output(*asked).split()
    monkeypatch.setenv("COLUMNS", str(width))
    text = output(*asked)
    assert text.split() == whole
    for line in text.splitlines():
        assert len(line) <= width or len(line.split()) <= 2, line


def test_a_row_stays_a_row_where_there_is_room():
    line = "  --bits N  length of a code, in bits, of an item"
    assert fit(line, 100) == line
    assert fit(line, 40).splitlines() == [
        "  --bits N  length of a code, in bits,",
        "            of an item",
    ]
    assert fit(line, 30).splitlines() == [
        "  --bits N",
        "      length of a code, in",
        "      bits, of an item",
    ]
