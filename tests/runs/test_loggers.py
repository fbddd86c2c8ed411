"""Loggers beside metrics.jsonl, read by the packages that show them."""

import contextlib
import math
import struct
import subprocess
import sys
import time

import pytest
from rich.console import Console

from jaxhash.runs import loggers
from jaxhash.runs.config import Config
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.loggers import check_loggers, open_metrics
from jaxhash.runs.metrics_file import read_metrics
from jaxhash.runs.presets import digits_hashnet_hswd
from jaxhash.runs.train_sweep import check_sweep
from jaxhash.utils.errors import UserError

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def opened():
    return Experiment.open(digits_hashnet_hswd())


@pytest.fixture
def experiment(opened, tmp_path):
    """A run of 1,600 steps in an empty folder, without loggers."""
    return opened.with_config(opened.config.replace(run_dir=tmp_path, baselines="none"))


def logging_to(experiment, *names):
    return experiment.with_config(experiment.config.replace(log_to=names))


def write(experiment, losses, *, step=0):
    """Writes records of the steps after ``step``."""
    with open_metrics(experiment, QUIET, step=step, members=0) as metrics_file:
        for number, loss in enumerate(losses, step + 1):
            metrics_file.write(number, {"loss": loss, "dead_bits": number})
    return read_metrics(experiment.config.run.run_dir / "metrics.jsonl", 0)


def tensorboard_steps(folder, name="loss"):
    """Returns what TensorBoard shows of a metric: its steps and values."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    shown = reader.EventAccumulator(str(folder / "tensorboard"))
    shown.Reload()
    return [(event.step, pytest.approx(event.value, nan_ok=True)) for event in shown.Scalars(name)]


def leveldb_records(content):
    """Yields the records of a file of W&B: LevelDB's log format, after a header of seven bytes."""
    block, place, whole = 2**15, 7, b""
    while place + 7 <= len(content):
        if place % block > block - 7:  # the rest of a block is too short for a header
            place += -place % block
            continue
        _, size, kind = struct.unpack_from("<IHB", content, place)
        whole += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


def wandb_steps(folder):
    """Returns the steps and losses that W&B would upload of the last start, and all names of the run."""
    from wandb.proto.wandb_internal_pb2 import Record

    names = set()
    for file in sorted(folder.glob("wandb/offline-run-*/*.wandb")):
        names.add(file.stem)
        steps = []
        for _ in range(500):  # a process of its own writes it
            records = [Record.FromString(each) for each in leveldb_records(file.read_bytes())]
            if records and records[-1].HasField("exit"):
                break
            time.sleep(0.02)
        for record in records:
            items = {"".join(i.nested_key) or i.key: i.value_json for i in record.history.item}
            if items:
                loss = float(items["loss"].strip('"'))
                steps.append((int(items["_step"]), pytest.approx(loss, nan_ok=True)))
    return steps, names


def shown_of(records, name="loss"):
    return [(r["step"], math.nan if r[name] is None else r[name]) for r in records]


@pytest.fixture
def offline(monkeypatch):
    """W&B without a network or an account."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")


def test_tensorboard_shows_the_records(experiment, tmp_path):
    """One that was not finite too, and each step once where a run goes on from a checkpoint."""
    pytest.importorskip("tensorboardX")
    logged = logging_to(experiment, "tensorboard")
    records = write(logged, [1.0, math.inf, 0.5, 0.25, 0.125])
    assert tensorboard_steps(tmp_path) == shown_of(records)
    records = write(logged, [7.0, 6.0, 5.0], step=3)
    assert tensorboard_steps(tmp_path) == shown_of(records)
    assert tensorboard_steps(tmp_path, "dead_bits") == shown_of(records, "dead_bits")
    assert [record["step"] for record in records] == [1, 2, 3, 4, 5, 6]


def test_tensorboard_reads_what_a_killed_run_left(tmp_path):
    pytest.importorskip("tensorboardX")
    script = """if True:
        import os, signal, sys
        from rich.console import Console
        from jaxhash.runs.experiment import Experiment
        from jaxhash.runs.loggers import open_metrics
        from jaxhash.runs.presets import digits_hashnet_hswd
        config = digits_hashnet_hswd().replace(run_dir=sys.argv[1], log_to=("tensorboard",))
        with open_metrics(Experiment.open(config), Console(quiet=True), step=0, members=0) as file:
            for step in range(1, 40):
                file.write(step, {"loss": 1 / step})
            os.kill(os.getpid(), signal.SIGKILL)
        """
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], timeout=120)
    assert done.returncode == -9
    records = read_metrics(tmp_path / "metrics.jsonl", 0)
    shown = tensorboard_steps(tmp_path)
    assert len(shown) >= 30 and shown == shown_of(records)[: len(shown)]


@pytest.mark.usefixtures("offline")
def test_wandb_has_the_records(experiment, tmp_path):
    """A run that goes on keeps its name, and what is to be uploaded last has each step once."""
    logged = logging_to(experiment, "wandb")
    first = write(logged, [1.0, math.inf, 0.5, 0.25, 0.125])
    steps, (name,) = wandb_steps(tmp_path)
    assert steps == shown_of(first)
    records = write(logged, [0.25, 0.125, 0.0625], step=3)
    steps, names = wandb_steps(tmp_path)
    assert steps == shown_of(records) and names == {name}


@pytest.mark.usefixtures("offline")
def test_a_run_that_goes_on_may_begin_to_log(experiment, tmp_path):
    """The loggers are given the records so far, without those of steps that are done again."""
    pytest.importorskip("tensorboardX")
    write(experiment, [1.0, 0.5, 9.0])
    assert not (tmp_path / "tensorboard").exists() and not (tmp_path / "wandb").exists()
    records = write(logging_to(experiment, "tensorboard", "wandb"), [0.25], step=2)
    assert tensorboard_steps(tmp_path) == shown_of(records)
    assert wandb_steps(tmp_path)[0] == shown_of(records)
    assert [record["loss"] for record in records] == [1.0, 0.5, 0.25]


@pytest.mark.usefixtures("offline")
def test_wandb_is_not_given_what_its_server_has(experiment, monkeypatch):
    """Its ``step`` is then the first one that it lacks."""
    import wandb

    given = []

    class Run(contextlib.nullcontext):
        step, offline, url = 3, False, "https://wandb.example/run"

        def log(self, values, step):
            given.append((step, values["loss"]))

    monkeypatch.setattr(wandb, "init", lambda **_: Run())
    write(experiment, [1.0, 0.5, 0.25, 9.0])
    write(logging_to(experiment, "wandb"), [0.125, 0.0625], step=3)
    assert given == [(3, 0.25), (4, 0.125), (5, 0.0625)]


def test_only_the_first_process_logs(experiment, tmp_path, monkeypatch):
    monkeypatch.setattr(loggers, "is_main_process", lambda: False)
    logged = logging_to(experiment, "tensorboard")
    with open_metrics(logged, QUIET, step=0, members=0) as metrics_file:
        assert metrics_file is None
    assert not any(tmp_path.iterdir())


@pytest.mark.usefixtures("offline")
def test_a_refusal_by_wandb_is_one_line(experiment, monkeypatch):
    import wandb

    def refuse(**_):
        raise wandb.errors.UsageError("no API key\nmore")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(UserError, match="`log_to=wandb`: no API key; .*WANDB_MODE=offline"):
        write(logging_to(experiment, "wandb"), [1.0])


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_package_that_is_missing_is_named_before_the_data_are_opened(refusal, monkeypatch, name):
    monkeypatch.setitem(sys.modules, loggers.LOGGERS[name][1], None)
    line = refusal("train", "--data-dir", "nowhere", "--log-to", name)
    assert f"--log-to {name} needs" in line and f'pip install "jaxhash[{name}]"' in line


def test_a_folder_named_like_a_package_is_not_taken_for_it(tmp_path, monkeypatch):
    (tmp_path / "some_logger").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(loggers.LOGGERS, "wandb", (loggers.wandb_logger, "some_logger"))
    with pytest.raises(UserError, match="not installed"):
        check_loggers(["wandb"])


def test_a_sweep_is_refused():
    config = digits_hashnet_hswd().replace(log_to=("wandb",))
    with pytest.raises(UserError, match="`log_to` is for a single run"):
        check_sweep(config, {}, 2)


@pytest.mark.parametrize("given", [["mlflow"], "wandb", [1]])
def test_a_logger_that_there_is_not(given):
    with pytest.raises(ValueError, match="'log_to' cannot be"):
        Config.from_json(Config().to_json() | {"log_to": given})
