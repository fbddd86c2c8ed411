"""``--quiet`` with any command: results and warnings, and no progress."""

import contextlib
import re

import pytest

from jaxhash.cli.main import main
from jaxhash.utils import console

PROGRESS = re.compile("^step [0-9,]+/|[0-9]/s, | so far$", re.MULTILINE)


@pytest.fixture
def progress(monkeypatch):
    """Lets progress off a terminal print a line at each step."""
    monkeypatch.setattr(console, "_FIRST_LINE", 0.0)
    monkeypatch.setattr(console, "_LONGEST_PAUSE", 0.0)


@pytest.mark.usefixtures("plotless")
def test_quiet_leaves_the_results_and_no_progress(capsys, progress, tmp_path):
    words = ["train", "--epochs", "1", "--run-dir", str(tmp_path / "run")]
    words += ["--baselines", "none", "--bits", "8"]
    main([*words[:3], "--quiet", *words[3:]])
    printed = capsys.readouterr()
    lines = (printed.out + printed.err).splitlines()
    assert any("mAP" in line for line in lines)
    assert not [line for line in lines if PROGRESS.search(line)]


@pytest.mark.usefixtures("plotless")
def test_without_quiet_there_is_progress(capsys, progress, tmp_path):
    main(["train", "--epochs", "1", "--run-dir", str(tmp_path), "--baselines", "none"])
    assert PROGRESS.search(capsys.readouterr().out)


@pytest.mark.parametrize("verb", ["train", "evaluate", "index", "search", "bench"])
def test_help_of_every_command_has_it(capsys, verb):
    with contextlib.suppress(SystemExit):
        main([verb, "--help"])
    assert "--quiet" in capsys.readouterr().out


def test_a_slip_in_its_name_is_named(refusal):
    assert "--quiet" in refusal("index", "there", "--quite")
