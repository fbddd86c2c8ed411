"""What a sweep notices of its members."""

import pytest

from jaxhash.training.collapse import MIN_STEPS
from jaxhash.training.members import Member, MemberMonitor
from jaxhash.utils.errors import UserError

TWO = [Member(0, {}), Member(1, {"clip_norm": 0.5})]


def watched(records, before=()):
    monitor = MemberMonitor(TWO, bits=8, rows=100, records=before)
    return monitor, [monitor(record["step"], record) for record in records]


def records(losses, dead=None):
    dead = dead or [[0, 0]] * len(losses)
    return [
        {"step": i + 1, "seconds": 0.1, "loss": loss, "dead_bits": number}
        for i, (loss, number) in enumerate(zip(losses, dead, strict=True))
    ]


def test_divergence_is_said_once_and_names_member_and_step():
    monitor, said = watched(records([[1.0, 1.0], [1.0, None], [1.0, None]]))
    assert monitor.diverged == [None, 2]
    assert said == [
        None,
        "warning: step 2: seed 1, clip-norm 0.5 diverged: loss not finite",
        None,
    ]


def test_collapse_is_said_for_the_member_and_not_for_one_that_diverged():
    losses = [[1.0, 1.0]] + [[None, 1.0]] * MIN_STEPS
    monitor, said = watched(records(losses, [[8, 8]] * len(losses)))
    assert monitor.diverged == [2, None]
    assert [alarm.steps for alarm in monitor.alarms] == [[], [MIN_STEPS]]
    assert said[MIN_STEPS - 1].startswith(
        f"seed 1, clip-norm 0.5: warning: step {MIN_STEPS}: 8 of 8 bits"
    )
    assert sum(line is not None for line in said) == 2


def test_watch_that_goes_on_from_records_is_one_that_saw_them():
    seen = records([[1.0, 1.0], [1.0, None], [1.0, None]])
    monitor, said = watched(seen[2:], before=seen[:2])
    assert monitor.diverged == [None, 2] and said == [None]


def test_watch_stops_when_all_have_diverged():
    with pytest.raises(UserError, match="step 2: every member"):
        watched(records([[None, 1.0], [None, None]]))
