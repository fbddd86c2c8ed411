"""Monitoring of the members of a sweep."""

import pytest

from jaxhash.training.collapse import MIN_STEPS
from jaxhash.training.members import Member, MemberMonitor
from jaxhash.utils.errors import UserError

TWO = [Member(0, {}), Member(1, {"clip_norm": 0.5})]


def monitored(records, before=()):
    monitor = MemberMonitor(TWO, bits=8, rows=100, records=before)
    return monitor, [monitor(record["step"], record) for record in records]


def records(losses, dead=None):
    dead = dead or [[0, 0]] * len(losses)
    return [
        {"step": i + 1, "seconds": 0.1, "loss": loss, "dead_bits": number}
        for i, (loss, number) in enumerate(zip(losses, dead, strict=True))
    ]


def test_divergence_is_reported_once():
    monitor, lines = monitored(records([[1.0, 1.0], [1.0, None], [1.0, None]]))
    assert monitor.diverged == [None, 2]
    assert lines[0] is lines[2] is None
    assert all(part in lines[1] for part in ("step 2", TWO[1].name, "loss"))


def test_collapse_is_reported_except_for_diverged_members():
    losses = [[1.0, 1.0]] + [[None, 1.0]] * MIN_STEPS
    monitor, lines = monitored(records(losses, [[8, 8]] * len(losses)))
    assert monitor.diverged == [2, None]
    assert [alarm.steps for alarm in monitor.alarms] == [[], [MIN_STEPS]]
    line = lines[MIN_STEPS - 1]
    assert all(part in line for part in (TWO[1].name, f"step {MIN_STEPS}:", "8 of 8 bits"))
    assert sum(line is not None for line in lines) == 2


def test_a_monitor_from_records_equals_one_that_saw_them():
    seen = records([[1.0, 1.0], [1.0, None], [1.0, None]])
    monitor, lines = monitored(seen[2:], before=seen[:2])
    assert monitor.diverged == [None, 2] and lines == [None]


def test_training_ends_when_all_members_have_diverged():
    with pytest.raises(UserError, match="step 2.*every member"):
        monitored(records([[None, 1.0], [None, None]]))
