"""Where a run's numbers go: files that survive a kill."""

import errno
import json
import os
from types import SimpleNamespace

import pytest

from jaxhash.runs import metrics_file
from jaxhash.runs.metrics_file import (
    MAX_RECORDS,
    MetricsFile,
    missing_records,
    read_metrics,
    record_interval,
)
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import check_output, write_json


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand: ``clock.now``."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(metrics_file, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def path(tmp_path):
    return tmp_path / "some.json"


# JSON files


def test_write_json(path):
    for content in ({"a": [1, None]}, {"b": 0.1}):
        write_json(path, content)
        assert json.loads(path.read_text()) == content
    assert list(path.parent.iterdir()) == [path]


def test_write_json_that_fails_leaves_the_old_file(path):
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": 2, "b": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_disk_that_is_full_names_the_file_and_keeps_the_old_one(path, monkeypatch):
    write_json(path, {"a": 1})

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=path.name):
        write_json(path, {"a": 2})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(path.parent.iterdir()) == [path]


# Metrics


def write_metrics(path, step, steps):
    """Open the file at ``step`` and write the records of ``steps``."""
    with MetricsFile(path, step=step) as file:
        for step in steps:
            file.write(step, {"loss": 1.5})


def test_metrics_file(path, clock):
    with MetricsFile(path, step=0) as file:
        clock.now += 2.5
        file.write(1, {"loss": 3.0})
        clock.now += 1.0
        file.write(2, {"loss": 2.0})
        assert read_metrics(path) == [  # while it is open: nothing waits in a buffer
            {"step": 1, "seconds": 2.5, "loss": 3.0},
            {"step": 2, "seconds": 3.5, "loss": 2.0},
        ]


def test_metrics_file_that_is_opened_again_drops_what_runs_again(path, clock):
    write_metrics(path, 0, [1, 2, 3, 4])
    write_metrics(path, 2, [3, 4, 5])
    assert [record["step"] for record in read_metrics(path)] == [1, 2, 3, 4, 5]
    write_metrics(path, 0, [1])
    assert [record["step"] for record in read_metrics(path)] == [1]


def test_seconds_go_on_from_the_last_record_kept(path, clock):
    """Neither the records dropped nor the time between two processes count."""
    with MetricsFile(path, step=0) as file:
        for step in (1, 2, 3):
            clock.now += 10
            file.write(step, {})
    clock.now += 1e6
    with MetricsFile(path, step=2) as file:
        clock.now += 4
        file.write(3, {})
    assert [record["seconds"] for record in read_metrics(path)] == [10, 20, 24]


def test_records_between_two_are_left_out_unless_required(path, clock):
    with MetricsFile(path, step=0, interval=3) as file:
        for step in range(1, 8):
            file.write(step, {}, required=step in (1, 5, 7))
    found = read_metrics(path)
    assert [record["step"] for record in found] == [1, 3, 5, 6, 7]
    assert missing_records(found, 3, 7) == 0
    assert missing_records(found[:3] + found[4:], 3, 7) == 1
    assert missing_records(found[:-1], 3, 7) == 1
    assert missing_records(found, 1, 7) == 2


@pytest.mark.parametrize("steps", [1, MAX_RECORDS, MAX_RECORDS + 1, 10**7 + 1])
def test_the_records_of_a_long_training_are_bounded(steps):
    interval = record_interval(None, steps)
    assert steps / interval <= MAX_RECORDS
    assert interval == 1 or steps / (interval - 1) > MAX_RECORDS
    assert record_interval(4, steps) == 4


@pytest.mark.parametrize("cut", range(1, 12))
def test_metrics_without_a_last_line_that_was_cut_off(path, clock, cut):
    write_metrics(path, 0, [1, 2, 3])
    whole = path.read_text()
    path.write_text(whole[:-cut])
    kept = [1, 2, 3] if cut == 1 else [1, 2]  # cut == 1 takes the line break only
    assert [record["step"] for record in read_metrics(path)] == kept
    write_metrics(path, 2, [3])
    assert path.read_text() == whole


def test_metrics_that_are_not_there(path):
    assert read_metrics(path) == []


# What is read again


@pytest.mark.parametrize(
    "line",
    [
        "null",
        "{}",
        "5",
        "[" * 10**5,
        "\xff",
        '{"step": 2}',
        '{"step": "2", "seconds": 1}',
        '{"step": true, "seconds": 1}',
        '{"step": 1, "seconds": 1}',
        '{"step": 2, "seconds": NaN}',
        '{"step": 2, "seconds": null}',
        '{"step": 2, "seconds": 1, "loss": "low"}',
        '{"step": 2, "seconds": 1, "loss": [1.0]}',
        '{"step": 2, "seconds": 1, "dead_bits": null}',
        '{"step": 2, "seconds": 1, "step_seconds": 0.1}',
        '{"step": 2, "seconds": 1, "loss": 1' + "0" * 400 + "}",
    ],
)
def test_metrics_with_a_line_that_is_no_record(path, clock, line):
    write_metrics(path, 0, [1, 2, 3])
    first, _, third = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([first, line.encode("latin-1"), third, b""]))
    with pytest.raises(UserError, match="line 2 is no record of a step after 1\); put .* remove"):
        read_metrics(path, 0)


def test_metrics_of_members(path):
    path.write_text('{"step": 1, "seconds": 0.1, "loss": [1.0, null]}\n')
    assert (
        read_metrics(path, 2)
        == read_metrics(path)
        == [{"step": 1, "seconds": 0.1, "loss": [1.0, None]}]
    )
    for members in (0, 3):
        with pytest.raises(UserError, match="line 1"):
            read_metrics(path, members)


# What will be written


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("out.txt", "must end in .json"),
        ("nowhere/out.json", "there is no such folder"),
        ("folder.json", "is a folder"),
        ("pipe.json", "is no file"),
        ("cut.json", "cut.json.partial is there, and is no file"),
        ("file/out.json", "there is no such folder"),
        ("/proc/out.json", "nothing can be written into /proc"),
    ],
)
def test_outputs_that_cannot_be_written_are_told_before_the_work(tmp_path, name, said):
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "cut.json.partial").symlink_to(tmp_path / "file")
    with pytest.raises(UserError, match=f"`output=.*{said}"):
        check_output(tmp_path / name, ".json")


def test_outputs_that_can_be_written(tmp_path):
    check_output(tmp_path / "out.json", ".json", new=True)
    check_output(tmp_path / "a" / "b" / "out.json", ".json", makes_folder=True)
    assert list(tmp_path.iterdir()) == []
    write_json(tmp_path / "out.json", {})
    check_output(tmp_path / "out.json", ".json")
    with pytest.raises(UserError, match="exists"):
        check_output(tmp_path / "out.json", ".json", new=True)
