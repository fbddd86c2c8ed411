"""The lines of the log before a training starts."""

import pytest

from jaxhash.cli.flags import with_flags
from jaxhash.runs import describe
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.presets import digits_hashnet_hswd


@pytest.mark.parametrize(
    "method, options, rows, remedy",
    [
        ("hashnet", (), "800 rows", "--objective-options pairs=batch"),
        ("dch", ("pairs=bank", "bank_size=70"), "70 rows", "--objective-options bank_size="),
        ("dsdh", (), "800 rows", "options of dsdh"),
        ("dch", (), None, None),
        ("dsah", (), None, None),
    ],
)
def test_the_cost_of_a_large_bank(monkeypatch, method, options, rows, remedy):
    """Large is what compares more pairs than 70 rows of a bank with a batch."""
    config = digits_hashnet_hswd().replace(objective=method, objective_options=options)
    monkeypatch.setattr(describe, "MANY_PAIRS", 70 * config.optimizer.batch_size)
    lines = map(with_flags, describe.describe(Experiment.open(config), method))
    found = [line for line in lines if "rows of a bank" in line]
    assert len(found) == (rows is not None)
    assert all(f" {rows} " in line and remedy in line for line in found)


def test_a_small_bank_is_not_worth_a_line():
    experiment = Experiment.open(digits_hashnet_hswd())
    assert not any("of a bank" in line for line in describe.describe(experiment, "hashnet"))
