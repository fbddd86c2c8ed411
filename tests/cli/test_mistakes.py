"""The explanation of what the parser refuses, beside the parser itself."""

import contextlib
import io
import shlex

import pytest
import tyro

from jaxhash.bench.config import BenchConfig, InputConfig
from jaxhash.cli.bench import CompareArguments
from jaxhash.cli.data import CaptionArguments, CheckArguments, FeatureArguments
from jaxhash.cli.evaluate import EvaluateArguments
from jaxhash.cli.mistakes import explain
from jaxhash.cli.train import TrainArguments, parse_arguments
from jaxhash.utils.errors import UserError

KINDS = {
    "evaluate": EvaluateArguments,
    "check": CheckArguments,
    "features": FeatureArguments,
    "captions": CaptionArguments,
    "bench": BenchConfig,
    "input": InputConfig,
    "compare": CompareArguments,
}

#: Command lines that the parser accepts and others that it refuses.
LINES = """\
train
train --bitz 8
train --bits many
train --bits
train --bits --epochs 3
train --bits=3
train --bits= 3
train --bits 3 4
train --flip
train --no-flip
train --flip yes
train --no-dry-run
train --dry-run
train --dry-run=True
train --flip=True
train --model transformer
train --model cnn
train --learning-rate 1e-3
train --learning-rate -1
train --learning-rate -inf
train --learning-rate fast
train --learning-rate nan
train --weights
train --weights None
train --weights x:y
train --batch_size 3
train --sweep
train --sweep a=1 b=2
train --sweep a=1 --bits 8
train --seeds 1.5
train --chunk-size None
train --chunk-size x
train --chunk-size 4
train --seed -1
train --objective-options a=b --bits x
train -- bits
train -b 3
train --b 8
train --bits 8 --bits 9
train --bits 8 --bits x
train --bits x --bits 8
train --data-dir --bits 8
train --bits -x
train --bits 1_000
train --bits " 8"
train --dataset -abc
train --dataset=-abc
train --dataset=--bits
train --config.bits 3
evaluate
evaluate run
evaluate run run
evaluate --k 3
evaluate --k 3 run
evaluate run --k 3
evaluate run --k three
evaluate run --zero +1
evaluate run --zero -1
evaluate run --relevance no
evaluate run --data-dir a b
evaluate --data-dir a run
check
check --lists a
check --train a --query
features
features --backbone resnet18 --weights x --data y --output z
features --backbone resnet18 --weights x --dataset y --output z
features --backbone resnet --weights x --dataset y --output z
captions --captions a --output b --pool
captions --pool a --captions a --output b
bench --bits 8 16 --through 8 4
bench --through 8
bench --through 8 4 5
bench --through None
bench --bits
bench --dtypes float64
bench --losses a b --dtypes float32 bfloat16
bench --devices 1 x
input --data
input --data a b --flip
input --data a b --no-flip --workers 0 1 --augment-on host
input
compare --compare a b --output c
compare --compare
compare --compare a --preset x
"""


def refused(name, words):
    """Whether the parser refuses the words."""
    try:
        if name == "train":
            parse_arguments(words)
        else:
            with contextlib.redirect_stderr(io.StringIO()):
                tyro.cli(KINDS[name], args=words)
    except UserError as error:
        return "--help lists" in str(error)
    except SystemExit as exit:
        return bool(exit.code)
    return False


@pytest.mark.parametrize("line", LINES.splitlines())
def test_what_the_parser_refuses_is_explained_and_nothing_else(line):
    name, *words = shlex.split(line)
    kind = KINDS.get(name, TrainArguments)
    assert refused(name, words) == (explain(kind, words) is not None)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("train --bitz 8 --flip", "unrecognized: --bitz 8, did you mean --bits?"),
        ("train --batch_sise 8", "unrecognized: --batch-sise 8, did you mean --batch-size?"),
        ("train --flip yes", "unrecognized: yes"),
        ("train --epochs 1 --bits many", "--bits: expected an integer, got 'many'"),
        ("train --chunk-size 1.5", "--chunk-size: expected an integer, got '1.5'"),
        ("train --bits --epochs 3", "--bits needs a value"),
        ("train --choose first", "--choose: expected one of last, "),
        ("bench --through 8", "--through needs 2 values"),
        ("bench --bits 8 x 9", "--bits: expected an integer, got 'x'"),
        ("captions --pool", "missing: --captions, --output"),
        ("evaluate --k 3", "missing: PATH"),
        ("evaluate run run", "unrecognized: run"),
    ],
)
def test_the_mistake_is_named(line, expected):
    name, *words = shlex.split(line)
    assert explain(KINDS.get(name, TrainArguments), words).startswith(expected)
