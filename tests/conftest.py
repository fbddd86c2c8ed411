"""Eight CPU devices, no silent broadcasting of ranks, and the command line, for every test."""

import os
import signal
from pathlib import Path

import jax
import jaxtyping
import pytest
import tyro  # noqa: F401  (before a doctest leaves a tuple of lists in `builtins._`, which its import hashes)

#: Most programs of the tests run once or twice: they are compiled in a hurry.
HURRY = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if jax.__version_info__ < (0, 11, 1):  # later ones do not know the flag, and end the process
    HURRY.append("--xla_cpu_use_fusion_emitters=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *HURRY])
# Where tests run in the background Ctrl-C is ignored, and every process that they start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="session")
def any_width():
    """The width of lines is not that of the terminal which the tests are started from: xdist passes it on."""
    os.environ.pop("COLUMNS", None)


@pytest.fixture(autouse=True, scope="module")
def forgotten_programs():
    """Let go of what a module compiled: a program holds maps, and Linux grants a process 65,530."""
    yield
    jax.clear_caches()


@pytest.fixture
def refusal(tmp_path, capsys):
    """A function that runs a command that is refused, and returns what it says.

    Nothing under ``tmp_path``, where the test works, may change.
    """
    from jaxhash.cli.main import main  # not above: first the library is put under type checks

    def files():
        return {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}

    def run(*arguments):
        before = files()
        with pytest.raises(SystemExit) as exit:
            main(arguments)
        line = capsys.readouterr().err
        assert exit.value.code == 2
        assert line.startswith("jaxhash: ") and line.index("\n") == len(line) - 1
        assert "---" not in line  # of a box
        assert files() == before
        return line

    return run


@pytest.fixture
def output(capsys):
    """A function that runs a command that succeeds, and returns what it prints."""
    from jaxhash.cli.main import main

    def run(*arguments):
        try:
            main(arguments)
        except SystemExit as exit:
            assert not exit.code
        return capsys.readouterr().out

    return run


@pytest.fixture
def plotless():
    """Trainings of the test draw nothing; those of a fixture that other tests share do."""
    from trainings import without_plots  # not above: first the library is put under type checks

    with without_plots():
        yield


@pytest.fixture
def unchecked(monkeypatch):
    """Without the type checks of the test run, which would speak before the library does."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture(scope="session")
def shared_data():
    """The folder of real data sets, ``../shared/data``; without it the test is skipped."""
    folder = Path(__file__).parents[1] / ".." / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no folder shared/data beside the repository")
    return folder.resolve()


def described_target(name):
    """Devices to compile for that are not here; without their compiler the test is skipped."""
    from jaxhash.bench.compile.targets import parse_target, target_devices
    from jaxhash.utils.errors import UserError

    target = parse_target(name)
    try:
        target_devices(target)
    except UserError as error:
        pytest.skip(str(error))
    return target


@pytest.fixture(scope="session")
def v5e():
    """A slice of TPUs, in tests/accelerators; no conftest of theirs, which pytest takes for this one."""
    return described_target("v5e:2x4")


@pytest.fixture(scope="session")
def h200():
    """Eight GPUs, likewise."""
    return described_target("h200:8")
