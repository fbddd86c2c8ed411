"""Processes that share a sweep give what one process gives, in any order, and without one another."""

import io
import json
import shutil

import jax
import numpy as np
import pytest
from rich.console import Console
from trainings import without_plots, without_seconds

from jaxhash.runs import train_sweep
from jaxhash.runs.evaluate_run import evaluate
from jaxhash.runs.folder import check_free
from jaxhash.runs.metrics_file import read_metrics
from jaxhash.runs.presets import digits_hashnet_hswd
from jaxhash.runs.report_sweep import report_sweep
from jaxhash.runs.sweep_members import make_members
from jaxhash.runs.sweep_process import SweepProcess, join_records
from jaxhash.runs.train_sweep import sweep
from jaxhash.utils.errors import UserError

#: Six members. Of four processes the second trains both seeds, of two settings, the second seed first; and
#: the members of the last one diverge at once.
AXES, SEEDS = {"quantizer_weight": (0.1, 1.0, 3e38)}, 2
OPTIONS = dict(model="mlp", epochs=1, bits=8, train_per_class=20, validation=0.1, baselines="none")
PROCESSES = 4
MEMBERS = make_members([{"quantizer_weight": w} for w in AXES["quantizer_weight"]], [0, 1])


def config(folder, **options):
    return digits_hashnet_hswd().replace(**(OPTIONS | {"run_dir": folder} | options))


def run(folder, process, processes=PROCESSES, **options):
    """Runs one process of a sweep; returns its results, and what it printed."""
    console = Console(file=io.StringIO(), width=200)
    numbers = {"seeds": SEEDS, "processes": processes, "process": process}
    return sweep(config(folder, **options), AXES, console, **numbers), console.file.getvalue()


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """The same sweep by one process, and by several that run one after another, the last first."""
    folder = tmp_path_factory.mktemp("sweeps")
    with pytest.MonkeyPatch.context() as patch, without_plots():
        first = jax.devices()[:1]
        for name in ("devices", "local_devices"):
            patch.setattr(jax, name, lambda: first)
        one, _ = run(folder / "one", 0, 1)
        order = reversed(range(PROCESSES))
        return folder, one, [run(folder / "shared", process) for process in order]


def test_the_last_process_has_the_results_of_one_process(swept):
    folder, one, outcomes = swept
    assert [results for results, _ in outcomes[:-1]] == [None] * (PROCESSES - 1)
    last, said = outcomes[-1]
    assert last | {"seconds": 0} == one | {"seconds": 0}
    diverged = [member["diverged_at_step"] is not None for member in last["members"]]
    assert diverged == [False] * 4 + [True] * 2
    assert json.loads((folder / "shared" / "results.json").read_text()) == last
    assert "best by validation" in said
    assert "those of process 0, 1 are not" in outcomes[1][1] and "best by" not in outcomes[1][1]


def test_members_have_the_bits_of_one_process(swept):
    """Members of all settings and seeds, whichever process trained them."""
    folder, one, _ = swept
    own, shared = (
        without_seconds(read_metrics(folder / name / "metrics.jsonl", 6))
        for name in ("one", "shared")
    )
    assert own == shared and len(own) == 2
    assert len(set(own[0]["hashnet"])) == 2 and len(set(own[1]["loss"][:4])) == 4
    members = sorted(path.name for path in (folder / "one").glob("seed*"))
    assert len(members) == 4
    assert members == sorted(path.name for path in (folder / "shared").glob("seed*"))
    for member in members:
        codes = (dict(np.load(folder / name / member / "codes.npz")) for name in ("one", "shared"))
        jax.tree.map(np.testing.assert_array_equal, *codes)
    evaluate(folder / "shared" / members[0], Console(quiet=True))


def test_a_shared_sweep_is_reported_and_finished(swept, tmp_path):
    folder, _, outcomes = swept
    html = tmp_path / "page.html"
    report_sweep(folder / "shared", Console(quiet=True), html=html)
    assert html.exists()
    results, said = run(folder / "shared", 2)
    assert results == outcomes[-1][0] and "is finished" in said
    with pytest.raises(UserError, match="`processes` is 4 there and 3 here"):
        run(folder / "shared", 0, 3)


def test_other_data_on_another_host_are_refused(swept, tmp_path):
    """Members of other data would be compared as if they were of the same."""
    folder, _, _ = swept
    again = tmp_path / "again"
    shutil.copytree(folder / "shared", again)
    (again / "results.json").unlink()
    form = json.loads((again / "process1" / "inputs.json").read_text())
    (again / "process1" / "inputs.json").write_text(json.dumps(form | {"data_sha256": "other"}))
    process = SweepProcess(0, PROCESSES)
    own = json.loads((again / "process0" / "members.json").read_text())
    assert process.finish(again, own) == []
    sha256 = json.loads((again / "process0" / "inputs.json").read_text())["data_sha256"]
    with pytest.raises(UserError, match="process1 are not those of .*process0"):
        process.join(again, own, MEMBERS, sha256)
    (again / "process2" / "members.json").unlink()
    assert process.finish(again, own) == [2]


@pytest.mark.parametrize(
    "change", [{"members": 5}, {"members": []}, {"seconds": "1"}, {"members": [{}]}]
)
def test_damaged_results_of_another_process_are_refused(swept, tmp_path, change):
    folder, _, _ = swept
    again = tmp_path / "again"
    shutil.copytree(folder / "shared", again)
    process, path = SweepProcess(0, PROCESSES), again / "process3" / "members.json"
    own = json.loads((again / "process0" / "members.json").read_text())
    sha256 = json.loads((again / "process0" / "inputs.json").read_text())["data_sha256"]
    assert len(process.join(again, own, MEMBERS, sha256)["members"]) == 6
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match="process3/members.json is damaged"):
        process.join(again, own, MEMBERS, sha256)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 8])
@pytest.mark.parametrize("members", [8, 13])
def test_shares_are_all_members_in_order(members, count):
    shares = [SweepProcess(index, count).share(range(members)) for index in range(count)]
    assert [member for share in shares for member in share] == list(range(members))
    sizes = {len(share) for share in shares}
    assert min(sizes) >= 1 and max(sizes) - min(sizes) <= 1


def test_records_that_a_process_lacks_are_left_out():
    first = [
        {"step": n, "seconds": n / 2, "loss": [float(n)], "compile_seconds": 1} for n in (1, 2, 4)
    ]
    second = [{"step": n, "seconds": n / 4, "loss": [0.0, None]} for n in (1, 3, 4)]
    assert join_records([first, second]) == [
        {"step": n, "seconds": n / 2, "loss": [float(n), 0.0, None]} for n in (1, 4)
    ]


def test_a_folder_with_folders_of_processes_alone_is_free_for_a_sweep(tmp_path):
    """Another process may have made its own before there is a config.json."""
    (tmp_path / "process12").mkdir()
    assert check_free(tmp_path, "sweep")
    with pytest.raises(UserError, match="is not the folder of a run"):
        check_free(tmp_path, "run")
    (tmp_path / "processes").mkdir()
    with pytest.raises(UserError, match="is not the folder of a sweep"):
        check_free(tmp_path, "sweep")


def test_a_process_that_comes_second_with_other_flags_is_refused(swept, tmp_path, monkeypatch):
    """It found the folder empty, and the first has written there since."""
    folder, _, _ = swept
    late = tmp_path / "late"
    enter = train_sweep.training_folder

    def enter_later(*arguments):
        late.mkdir()
        shutil.copy(folder / "shared" / "config.json", late)
        return enter(*arguments)

    monkeypatch.setattr(train_sweep, "training_folder", enter_later)
    with pytest.raises(UserError, match="holds another sweep: `bits` is 8 there and 16 here"):
        run(late, 1, bits=16)
    assert not (late / "process1" / "checkpoints").exists()


def test_memory_is_that_of_the_members_on_a_device(tmp_path, monkeypatch):
    """Eight devices hold a member each: less than eight members need."""
    asked = []
    monkeypatch.setattr(train_sweep, "device_memory", lambda: asked.append(1) or 0)
    with pytest.raises(UserError, match="^1 members of"):
        sweep(config(tmp_path / "sweep"), {}, Console(quiet=True), seeds=8)
    with pytest.raises(UserError, match="^3 members of"):  # each of all devices holds all three
        sweep(config(tmp_path / "sweep"), {}, Console(quiet=True), seeds=3)


def test_joined_processes_without_members_of_their_own_are_refused(tmp_path, monkeypatch):
    """Each of them would train all members."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match="`processes=1` is fewer than the 2 processes"):
        sweep(config(tmp_path / "sweep"), {}, Console(quiet=True), seeds=8)


def test_a_joined_process_trains_on_its_own_devices(tmp_path, monkeypatch):
    """A member on each of its four devices, as its share is four of eight members."""
    own, asked = jax.devices()[4:], []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    monkeypatch.setattr(jax, "local_devices", lambda backend=None: own)

    def of_device():
        asked.append((jax.process_count(), jax.process_index(), jax.devices(), jax.device_count()))
        return 0

    monkeypatch.setattr(jax, "local_device_count", lambda backend=None: len(own))
    monkeypatch.setattr(train_sweep, "device_memory", of_device)
    options = {"seeds": 8, "processes": 2, "process": 1}
    with pytest.raises(UserError, match="^1 members of"):
        sweep(config(tmp_path / "sweep"), {}, Console(quiet=True), **options)
    assert asked == [(1, 0, own, 4)]
    assert (jax.process_count(), jax.process_index(), jax.device_count()) == (2, 1, 8)
