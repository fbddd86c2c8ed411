"""Runs the examples of a page in the working directory, in order, and compares what they print.

    python page_runner.py PAGE [transcripts]

A fence of ``python`` is run in one session, one of ``sh`` by bash, one of ``sql`` by psql where there is a
server; the fence of ``text`` after it is what it prints. In a fence of ``console`` a line that begins with
``$ `` is a command, and those below it are what it prints; with ``transcripts`` these alone are run.

A line ``...`` stands for any lines, ``...`` within a line for any text. What is measured (seconds, rates,
bytes) may be any number, other numbers may be a little apart, as another processor rounds otherwise. A fence
whose first line is ``# needs MODULE`` is left out where the module is not installed.
"""

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

#: Largest differences of numbers: of an integer and of a fraction of one, relative to the number, or in all.
RELATIVE, ABSOLUTE = 0.25, 0.03

FENCE = re.compile(r"^(`{3,})([\w-]*)[^\n]*\n(.*?)^\1\n", re.M | re.S)
MEASURED = re.compile(r"\b[\d,.]+ ?(?:ms|s|µs|images/s|examples/s|[KMG]i?B|kB|%|/s)(?!\w)")
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?![\w])")


class Step(NamedTuple):
    """An example: what is run, and what it must print; None if nothing is said of that."""

    language: str
    code: str
    expected: str | None
    line: int


def steps(text: str) -> Iterator[Step]:
    """Yields the examples of a page."""
    fences = [*FENCE.finditer(text)]
    for fence, follower in zip(fences, [*fences[1:], None], strict=True):
        _, language, code = fence.groups()
        line = text.count("\n", 0, fence.start()) + 1
        if language in ("python", "sh", "sql") and not code.startswith(">>>"):
            is_shown = follower is not None and follower[2] == "text"
            yield Step(language, code, follower[3] if is_shown else None, line)
        elif language == "console":
            for command in re.split(r"^\$ ", code, flags=re.M)[1:]:
                first, _, printed = command.partition("\n")
                yield Step("console", first, printed, line)


def run_page(page: Path, languages: tuple[str, ...]) -> int:
    """Runs the examples of a page in these languages, and returns how many."""
    names: dict = {"__name__": "__main__"}
    count = 0
    for step in steps(page.read_text()):
        if step.language not in languages:
            continue
        needed = re.match(r"# needs (\w+)", step.code)
        if needed and find_spec(needed[1]) is None:
            continue
        where = f"{page.name}, line {step.line}"
        if step.language == "sql" and "PSQL" not in os.environ:
            continue
        print(f"== {where}: {step.code.splitlines()[0]}", flush=True)
        printed = run(step, names, where)
        if step.expected is not None:
            problem = difference(step.expected, printed)
            if problem:
                raise SystemExit(f"{where} prints something else: {problem}\n\n{printed}")
        count += 1
    return count


def run(step: Step, names: dict, where: str) -> str:
    """Runs an example, and returns what it printed."""
    if step.language == "python":
        with contextlib.redirect_stdout(io.StringIO()) as out:
            exec(compile(step.code, where, "exec"), names)
        return out.getvalue()
    if step.language == "sql":
        command, code = os.environ["PSQL"].split(), step.code
    else:
        command, code = ["bash", "-euo", "pipefail"], step.code
    done = subprocess.run(command, input=code, text=True, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{where} ends with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done.stdout


@contextlib.contextmanager
def without_progress() -> Iterator[None]:
    """Has ``jaxhash`` print none, as that comes by the clock."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "jaxhash")
        script.write_text(f'#!/bin/sh\nexec "{shutil.which("jaxhash")}" "$@" --quiet\n')
        script.chmod(0o755)
        os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
        yield


def difference(expected: str, printed: str) -> str | None:
    """Returns the first expected line that is not printed; None if all are, in their order."""
    wanted = [line for line in expected.splitlines() if line.strip()]
    lines = [line for line in printed.splitlines() if line.strip()]
    at, may_skip = 0, False
    for line in wanted:
        if line.strip() == "...":
            may_skip = True
            continue
        while at < len(lines) and not same_line(line, lines[at]):
            if not may_skip:
                return f"{line!r} is expected, and {lines[at]!r} is printed"
            at += 1
        if at == len(lines):
            return f"{line!r} is expected"
        at, may_skip = at + 1, False
    if at < len(lines) and not may_skip:
        return f"{lines[at]!r} is printed as well"
    return None


def same_line(expected: str, printed: str) -> bool:
    """Returns whether two lines are equal but for spaces, what is measured, and rounding.

    >>> same_line("csq  0.98, 3 s, 125 codes", "csq 0.9765, 2.15 s, 119 codes")
    True
    >>> same_line("csq 0.98", "csq 0.91"), same_line("csq 0.98", "dpn 0.98")
    (False, False)
    """
    expected, printed = (" ".join(MEASURED.sub("#", line).split()) for line in (expected, printed))
    numbers = [[float(n.replace(",", "")) for n in NUMBER.findall(s)] for s in (expected, printed)]
    pattern = re.escape(NUMBER.sub("#", expected)).replace(r"\.\.\.", ".*")
    if not re.fullmatch(pattern, NUMBER.sub("#", printed)):
        return False
    if "..." in expected:
        return True
    return all(
        abs(a - b) <= (RELATIVE * abs(a) if a == int(a) and a > 10 else ABSOLUTE * max(1, abs(a)))
        for a, b in zip(*numbers, strict=True)
    )


if __name__ == "__main__":
    page, *only = sys.argv[1:]
    languages = ("console",) if only else ("python", "sh", "sql", "console")
    with without_progress():
        print(run_page(Path(page), languages), "examples")
