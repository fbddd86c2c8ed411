"""Every tutorial and every transcript is run as it stands, by a process of its own, in an empty folder."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from page_runner import difference
from postgres import find_postgres, postgres_server

ROOT = Path(__file__).parents[2]
RUNNER = Path(__file__).with_name("page_runner.py")
TUTORIALS = sorted((ROOT / "docs" / "tutorials").glob("*.md"))


def run_page(page, folder, *only, **environment):
    """Runs a page as a user would: with the devices that are here and the compiler as it is."""
    of_tests = ("XLA_FLAGS", "COLUMNS", "LINES")
    inherited = {name: value for name, value in os.environ.items() if name not in of_tests}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = inherited | {"PATH": path, "JAX_PLATFORMS": "cpu"} | environment
    command = [sys.executable, RUNNER, ROOT / page, *only]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return int(done.stdout.splitlines()[-1].split()[0])


def test_transcript_of_the_readme(tmp_path):
    assert run_page("README.md", tmp_path, "transcripts") == 1


@pytest.mark.slow
@pytest.mark.parametrize("page", ["getting-started.md", "guides/evaluate.md"])
def test_transcripts_of_the_guides(page, tmp_path):
    assert run_page(f"docs/{page}", tmp_path, "transcripts")


@pytest.mark.slow
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_tutorial(page, tmp_path):
    """Those of SQL by a server, where there is one."""
    for name in ("docs", "experiments"):  # one of them is run in a clone
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "README.md", tmp_path)
    with contextlib.ExitStack() as stack:
        environment = {}
        if "```sql" in page.read_text() and find_postgres():
            environment["PSQL"] = " ".join(stack.enter_context(postgres_server()))
        assert run_page(page, tmp_path, **environment) >= 3


def test_what_counts_as_the_same():
    table = "mAP  ties\n 0.98  0.97\n"
    assert difference(table, " mAP ties\n\n 0.9743  0.96\n") is None
    assert difference("a 3 s\n...\nb", "a 1.2 s\nx\ny\nb\n") is None
    for other in ("mAP ties\n0.91 0.97", "mAP\n0.98 0.97", "mAP ties\n0.98 0.97\nmore", "mAP ties"):
        assert difference(table, other)
    assert difference("a\n...", "b\na") and difference("a\n...\nb", "a\nx")
