"""Which options are tried for a step that does not fit, and which suffice."""

import pytest

from jaxhash.bench.compile import remedies
from jaxhash.bench.compile.program import CompiledProgram, DoesNotFitError, Memory
from jaxhash.bench.compile.remedies import find_remedies
from jaxhash.bench.compile.targets import parse_target
from jaxhash.runs.config import Config
from jaxhash.runs.outline import DataShape, outline_experiment

TARGET = parse_target("v5e:2x4")
VECTORS = DataShape(1000, 10, (16,)).make_source()
IMAGES = DataShape(1000, 10, (8, 8, 3)).make_source()
GIB = 2**30


def open_experiment(config):
    return outline_experiment(config, *(IMAGES if config.model.model == "cnn" else VECTORS))


@pytest.fixture
def needs(monkeypatch):
    """Sets the bytes that a step needs, by a function of its configuration."""

    def set_needs(function):
        def compile_step(experiment, target):
            needed = function(experiment.config)
            if needed > 100 * GIB:
                raise DoesNotFitError("Ran out of memory", needed, target.chip.memory_bytes)
            memory = Memory(0, 0, needed, 0, 0, needed)
            return CompiledProgram("step", target, 0.0, 0.0, None, None, memory, "")

        monkeypatch.setattr(remedies, "compile_step", compile_step)

    return set_needs


def tried(config, report=lambda line: None):
    found = find_remedies(open_experiment(config), TARGET, open_experiment, report)
    return {tuple(one.options): one for one in found}, found


LINEAR = Config().replace(
    model="linear", batch_size=1024, objective_options=("pairs=bank",), spread_banks="never"
)


def test_one_option_suffices(needs):
    needs(lambda config: 10 * GIB if config.model.remat else 30 * GIB)
    lines = []
    by_name, found = tried(LINEAR, lines.append)
    assert by_name[("remat",)].fits and by_name[("remat",)].needed == 10 * GIB
    assert [one.options for one in found if one.fits] == [{"remat": True}]
    assert len(lines) == len(found) and "remat" in lines[0]


def test_a_chunk_becomes_smaller_until_it_fits(needs):
    needs(lambda config: (config.run.chunk_size or 128) * GIB)
    _, found = tried(LINEAR)
    sizes = [one.options["chunk_size"] for one in found if list(one.options) == ["chunk_size"]]
    assert sizes == [32, 8]  # of 128 rows a device
    assert [one.options for one in found if one.fits] == [{"chunk_size": 8}]


def test_all_together_if_none_suffices(needs):
    def needed(config):
        saved = 2 if config.model.remat else 1
        saved *= 2 if config.run.spread_banks == "always" else 1
        return 60 * GIB // saved

    needs(needed)
    _, found = tried(LINEAR)
    assert not any(one.fits for one in found[:-1])
    assert {"remat": True, "spread_banks": "always"}.items() <= found[-1].options.items()
    assert found[-1].fits


def test_what_does_not_apply_says_why(needs):
    """A CNN normalizes by the batch, so it takes no chunks; its objective has no bank."""
    needs(lambda config: 200 * GIB)
    config = Config().replace(model="cnn", batch_size=1024, objective_options=("pairs=batch",))
    by_name, _ = tried(config)
    assert by_name[("chunk_size",)].needed is None
    assert "whole batch" in by_name[("chunk_size",)].reason
    assert "no bank" in by_name[("spread_banks",)].reason
    assert by_name[("remat",)].needed == 200 * GIB and not by_name[("remat",)].fits


def test_what_is_on_is_not_tried(needs):
    needs(lambda config: 60 * GIB)
    _, found = tried(LINEAR.replace(remat=True, spread_banks="always", chunk_size=8))
    assert not any({"remat", "chunk_size", "spread_banks"} & one.options.keys() for one in found)
