"""The explanation of what the parser refuses, beside the parser itself."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from jaxhash.bench.config import BenchConfig, InputConfig
from jaxhash.cli.bench import CompareArguments
from jaxhash.cli.config_flags import take_preset
from jaxhash.cli.data import CaptionArguments, CheckArguments, FeatureArguments
from jaxhash.cli.evaluate import EvaluateArguments
from jaxhash.cli.fit import FitArguments
from jaxhash.cli.parsing import parse
from jaxhash.cli.train import parse_arguments
from jaxhash.data.config import DATASET_KINDS
from jaxhash.data.load import load_source
from jaxhash.utils.errors import UserError

KINDS = {
    "evaluate": EvaluateArguments,
    "fit": FitArguments,
    "check": CheckArguments,
    "features": FeatureArguments,
    "captions": CaptionArguments,
    "bench": BenchConfig,
    "input": InputConfig,
    "compare": CompareArguments,
}


@pytest.fixture
def mistake():
    """A function that parses a line, and returns what the error says before its hint of help."""

    def parse_line(line):
        name, *words = shlex.split(line)
        with pytest.raises(UserError, match="; jaxhash .*--help(-all)? lists") as raised:
            if name == "train":
                parse_arguments(words)
            else:
                parse(KINDS[name], words, prog=f"jaxhash {name}")
        return str(raised.value).split("; jaxhash")[0]

    return parse_line


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("train --bitz 8 --flip", "unrecognized: --bitz 8, did you mean --bits?"),
        ("train --batch_sise 8", "unrecognized: --batch_sise 8, did you mean --batch-size?"),
        ("train --flip yes", "unrecognized: yes"),
        ("train --epochs 1 --bits many", "--bits: expected INT, got 'many'"),
        ("train --chunk-size 1.5", "--chunk-size: expected INT, got '1.5'"),
        ("train --bits --epochs 3", "--bits needs a value"),
        ("train --choose first", "--choose: expected one of last, "),
        ("train --log-to x", "--log-to: expected one of tensorboard, wandb, got 'x'"),
        ("fit x --keep-floats int8", "--keep-floats: expected one of float16, float32, got 'int8'"),
        ("bench --through 8", "--through: expected {INT INT}, got '8'"),
        ("bench --bits 8 x 9", "--bits: expected [INT [INT ...]], got '8' 'x' '9'"),
        ("captions --pool", "missing: --captions, --output"),
        ("evaluate --k 3", "missing: PATH"),
        ("evaluate run run", "unrecognized: run"),
    ],
)
def test_the_mistake_is_named(mistake, line, expected):
    assert mistake(line).startswith(expected)


def test_dashes_do_not_make_an_unknown_flag_like_another(mistake):
    assert mistake("train --bogus 3") == "unrecognized: --bogus 3"


@pytest.mark.parametrize(
    "line",
    [
        "train --bits 3 4",
        "train --no-dry-run",
        "train --config.bits 3",
        "train -b 3",
        "train --seed",
        "check --train a --query",
        "features",
        "bench --devices 1 x",
        "input",
        "compare --compare a --preset x",
    ],
)
def test_what_is_refused_is_one_line(mistake, line):
    said = mistake(line)
    assert said.isprintable() and not set("│╭─") & set(said)


def test_a_tyro_without_the_hook_is_refused_in_a_line_too(mistake, monkeypatch):
    monkeypatch.setitem(sys.modules, "tyro._errors", None)
    assert mistake("evaluate --k three run") == "cannot read --k three run"


def test_what_is_allowed_is_read():
    assert parse(EvaluateArguments, ["--k", "3", "run"], prog="jaxhash evaluate").path == Path(
        "run"
    )
    assert parse_arguments(["--bits=8", "--seed", "1"]).config.get("bits") == 8
    named = parse_arguments(["folder:photos", "--bits", "8"]).config
    assert (named.data.dataset, named.model.bits) == ("folder:photos", 8)


def test_a_data_set_of_any_kind_stands_in_place_of_the_preset():
    with pytest.raises(UserError) as told:
        load_source("unknown")  # says which kinds there are
    assert set(re.findall(r"'(\w+:)", str(told.value))) == set(DATASET_KINDS)
    for kind in DATASET_KINDS:
        named = take_preset([f"{kind}name", "--bits", "8"])
        assert named.rest == ["--dataset", f"{kind}name", "--bits", "8"]
