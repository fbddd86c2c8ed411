"""A sweep trains what single runs train, goes on where it stopped, and chooses by validation."""

import io
import json
import os
import shutil
import statistics
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax._src import compiler  # XLA's options of one program are nowhere else
from rich.console import Console
from trainings import start_with_an_interruption, without_plots, without_seconds

from jaxhash.cli.train import TrainArguments, parse_arguments
from jaxhash.runs import artifacts, members, train_sweep
from jaxhash.runs import train_run as run
from jaxhash.runs.config import TRACED_HYPERPARAMS
from jaxhash.runs.encoding import SplitEncoder
from jaxhash.runs.evaluate_run import evaluate
from jaxhash.runs.evaluation import candidate_score
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.metrics_file import read_metrics
from jaxhash.runs.presets import digits_hashnet_hswd
from jaxhash.runs.settings import summarize
from jaxhash.runs.train_sweep import sweep
from jaxhash.training.checkpoint import Checkpoints
from jaxhash.training.members import StackedBatches, member_step, stack_states
from jaxhash.training.parallel import DataParallel, MemberParallel
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import write_json

#: 16 steps of 8 an epoch, with a checkpoint amid an epoch. The last weight diverges at once.
OPTIONS = dict(epochs=2, checkpoint_every=5, train_per_class=80, seed=3)


AXES = {"quantizer_weight": (0.1, 1.0, 3e38), "learning_rate": (2e-3, 4e-3)}


SEEDS = 2


#: A member of the sweep, and its number.
MEMBER = dict(seed=4, quantizer_weight=1.0, learning_rate=4e-3)


NUMBER = 7


def member_folder(whole):
    return whole.run.run_dir / "seed4-quantizer-weight1.0-learning-rate0.004"


def config(folder, **options):
    return digits_hashnet_hswd().replace(**(OPTIONS | {"run_dir": folder} | options))


def on_one_device(patch):
    """On one device a member has the bits of its run, if XLA fuses as it does for users.

    Without its emitters of fusions, which conftest turns off, it contracts elsewhere in the loop.
    """
    options = compiler.get_compile_options

    def fused(*args, env_options_overrides=None, **named):
        overrides = (env_options_overrides or {}) | {"xla_cpu_use_fusion_emitters": True}
        return options(*args, env_options_overrides=overrides, **named)

    if "xla_cpu_use_fusion_emitters" in os.environ["XLA_FLAGS"]:
        patch.setattr(compiler, "get_compile_options", fused)
    first = jax.devices()[:1]
    patch.setattr(jax, "devices", lambda: first)
    patch.setattr(jax, "local_devices", lambda: first)


@pytest.fixture
def one_device(monkeypatch):
    on_one_device(monkeypatch)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A finished sweep on one device, its results and what it printed."""
    whole = config(tmp_path_factory.mktemp("sweep") / "sweep")
    console = Console(file=io.StringIO(), width=120)

    def save_plots(
        folder, *rest
    ):  # for the member that is looked at: the rest takes most of the time
        if folder == member_folder(whole) / "report":
            artifacts.save_plots(folder, *rest)

    with pytest.MonkeyPatch.context() as patch:
        on_one_device(patch)
        patch.setattr(run, "save_plots", save_plots)
        results = sweep(whole, AXES, console, seeds=SEEDS)
    return whole, results, console.file.getvalue()


def final_state(config, steps, like):
    with Checkpoints(config.run.run_dir / "checkpoints") as checkpoints:
        assert checkpoints.latest_step == steps
        return checkpoints.restore(like)


def state_of(swept):
    experiment = Experiment.open(swept.replace(validation=0.1))
    like = stack_states(experiment.initial_states([3, 4]), 12)
    return final_state(swept, experiment.total_steps, like)


def bits(state):
    return state.replace(key=jax.random.key_data(state.key))


def test_member_has_the_bits_of_its_own_run(swept, tmp_path, one_device):
    """State, every metric of every step, and what the codes are worth."""
    whole, results, _ = swept
    single = config(tmp_path / "run", validation=0.1, **MEMBER)
    found = run.train(single, Console(quiet=True))
    experiment = Experiment.open(single)
    state = final_state(single, experiment.total_steps, experiment.initial_state())
    together = state_of(whole)
    mine = jax.tree.map(lambda leaf: leaf[NUMBER], bits(together))
    jax.tree.map(np.testing.assert_array_equal, bits(state), mine)

    records, own = (read_metrics(c.run.run_dir / "metrics.jsonl") for c in (whole, single))
    picked = [
        {k: v[NUMBER] if isinstance(v, list) else v for k, v in record.items()}
        for record in records
    ]
    assert without_seconds(picked) == without_seconds(own) and len(own) == 16

    member = results["members"][NUMBER]
    assert member["seed"] == MEMBER["seed"]
    assert member["values"] == {name: MEMBER[name] for name in AXES}
    scores = member["scores"]
    validation = candidate_score("validation", experiment, SplitEncoder(experiment))(
        state.variables
    )
    assert scores.pop("validation_map") == validation
    assert scores == {name: found[name] for name in scores} and len(scores) == 8
    scores["validation_map"] = validation

    folder = member_folder(whole)
    stored = json.loads((folder / "results.json").read_text())
    assert stored.pop("trained_together") == 12
    del found["seconds"], found["speed"], stored["seconds"]
    assert stored == found
    left, own = (dict(np.load(path / "codes.npz")) for path in (folder, single.run.run_dir))
    assert left.keys() == own.keys()
    jax.tree.map(np.testing.assert_array_equal, left, own)
    drawn = [
        sorted(path.name for path in (c / "report").iterdir()) for c in (folder, single.run.run_dir)
    ]
    assert [*drawn[0], "report.html"] == drawn[1]  # members get it by jaxhash report
    again = final_state(
        single.replace(run_dir=folder),
        experiment.total_steps,
        experiment.initial_state(),
    )
    jax.tree.map(np.testing.assert_array_equal, bits(state), bits(again))
    said = Console(file=io.StringIO(), width=200)
    assert run.train(single.replace(run_dir=folder), said)["map"] == found["map"]
    assert "is finished" in said.file.getvalue()


@pytest.mark.parametrize(
    ("mapping", "model"),
    [
        pytest.param("vmap", "cnn", marks=pytest.mark.slow),
        ("vmap", "mlp"),
        pytest.param("scan", "mlp", marks=pytest.mark.slow),
        pytest.param("unroll", "cnn", marks=pytest.mark.slow),
    ],
)
def test_members_over_eight_devices_are_their_own_runs_up_to_rounding(tmp_path, mapping, model):
    """XLA adds and contracts elsewhere in the program of all; every number that can vary does."""
    base = config(tmp_path, epochs=2, clip_norm=0.5, model=model)
    numbers = dict(
        zip(
            TRACED_HYPERPARAMS,
            ([1e-3, 2e-3], [1, 0.5], [0.1, 1], [1e-4, 0.1], [5, 0.3]),
            strict=True,
        )
    )
    numbers = {name: np.array(values, np.float32) for name, values in numbers.items()}
    experiment = Experiment.open(base)
    step = member_step(
        lambda one: experiment.with_hyperparams(**one).step_function(),
        {name: np.repeat(values, 2) for name, values in numbers.items()},
        mapping=mapping,
    )
    states, metrics = trained(
        DataParallel(step),
        stack_states(experiment.initial_states([3, 4]), 4),
        StackedBatches([experiment.batches(seed=s) for s in (3, 4)]),
    )
    values = {name: float(f"{array[1]:.6g}") for name, array in numbers.items()}
    single = base.replace(seed=4, **values)
    own = Experiment.open(single)
    state, expected = trained(DataParallel(own.step_function()), own.initial_state(), own.batches())
    for one, all in zip(expected, metrics, strict=True):
        for name in one:
            np.testing.assert_allclose(all[name][3], one[name], rtol=2e-5, atol=1e-6, err_msg=name)
    # Adam divides rounding by itself where a gradient is 0, so no bound holds for each parameter.
    mine = jax.tree.map(lambda leaf: leaf[3], states.params)
    moved, apart = (
        optax.global_norm(jax.tree.map(jnp.subtract, state.params, other))
        for other in (own.initial_state().params, mine)
    )
    assert apart < 5e-3 * moved
    first = jax.device_get(states.params["model"]["head"]["kernel"])
    assert len({leaf.tobytes() for leaf in first}) == 4


@pytest.mark.parametrize(
    "devices",
    [4, pytest.param(3, marks=pytest.mark.slow)],  # 6 members: copies fill up the last device
)
def test_members_on_devices_of_their_own_have_the_bits_of_one_device(tmp_path, devices):
    """Two members a device, of three seeds: neither seeds nor values begin anew on a device."""
    experiment = Experiment.open(config(tmp_path, model="mlp", bits=8))
    values, seeds = np.repeat(np.array([1e-3, 4e-3], np.float32), 3), [3, 4, 5]

    def make_step(numbers, devices):
        step = member_step(
            lambda traced: experiment.with_hyperparams(**traced).step_function(),
            {"learning_rate": values[numbers]},
            mapping="scan",
        )
        return DataParallel(step, devices)

    def train_on(parallel_step):
        batches = StackedBatches([experiment.batches(seed=seed) for seed in seeds])
        state = stack_states(experiment.initial_states(seeds), 6)
        local, metrics = trained(parallel_step, state, batches, steps=2)
        resumed = parallel_step.to_local(parallel_step.to_global(local))  # as from a checkpoint
        batch = parallel_step.shard_batch(next(batches))
        local, found = parallel_step(resumed, batch)
        return bits(parallel_step.to_global(local)), [*metrics, jax.device_get(found)]

    expected = train_on(make_step(np.arange(6), jax.devices()[:1]))
    placed = MemberParallel(make_step, 6, 3, jax.devices()[:devices])
    jax.tree.map(np.testing.assert_array_equal, train_on(placed), expected)


@pytest.mark.parametrize("objective", ["dsdh", "asymmetric-dsh"])
def test_mapped_members_take_the_discrete_step_once_an_epoch(tmp_path, objective):
    """A branch stays one where its condition is not mapped; elsewhere both sides are computed."""
    base = config(tmp_path, objective=objective, quantizer="own")
    experiment = Experiment.open(base)
    of_one = jax.make_jaxpr(experiment.step_function())(
        experiment.initial_state(), next(experiment.batches())
    )
    of_members = jax.make_jaxpr(
        member_step(lambda _: experiment.step_function(), {}, mapping="vmap")
    )(
        stack_states(experiment.initial_states([3, 4]), 2),
        next(StackedBatches([experiment.batches()] * 2)),
    )
    assert str(of_members).count("cond[") == str(of_one).count("cond[") > 0


def trained(parallel_step, state, batches, steps=6):
    """The state after a few steps, and their metrics."""
    state, metrics = parallel_step.to_local(parallel_step.replicate(state)), []
    for _ in range(steps):
        state, found = parallel_step(state, parallel_step.shard_batch(next(batches)))
        metrics.append(jax.device_get(found))
    return state, metrics


@pytest.mark.slow
@pytest.mark.usefixtures("plotless")
@pytest.mark.parametrize("method", ["greedyhash", "dfh", "dsdh"])
def test_member_whose_own_penalty_weighs_nothing(tmp_path, one_device, method):
    """The penalty is left out of a single run, with its state; of a member it is 0 times itself."""
    options = {"objective": method, "quantizer": "own", "quantizer_weight": 0.0}
    small = {"model": "mlp", "epochs": 2, "bits": 8, "train_per_class": 20, "validation": 0.1}
    both = config(tmp_path / "sweep", **options, **small)
    found = sweep(both, {"quantizer_weight": (0.0, 1.0)}, Console(quiet=True))
    for member in found["members"]:
        weight = member["values"]["quantizer_weight"]
        single = both.replace(
            run_dir=tmp_path / f"run{weight:g}", quantizer_weight=weight, seed=member["seed"]
        )
        alone = run.train(single, Console(quiet=True))
        assert member["scores"]["map"] == pytest.approx(alone["map"], abs=1e-3)
    evaluate(both.run.run_dir, Console(quiet=True))


def test_batches_of_seeds_are_their_batches_side_by_side_and_go_on(tmp_path):
    base = config(tmp_path, crop=1)
    experiment = Experiment.open(base)

    def of_seed(seed, start=0):
        return experiment.batches(seed=seed, start=start)

    seeds = (5, 2)
    both, alone = (
        StackedBatches([of_seed(seed) for seed in seeds]),
        [of_seed(seed) for seed in seeds],
    )
    for _ in range(4):
        batch = next(both)
        assert batch.inputs.shape[:2] == batch.mask.shape == (100, 2)
        for i, batches in enumerate(alone):
            jax.tree.map(
                lambda all, one, i=i: np.testing.assert_array_equal(all[:, i], one),
                batch,
                next(batches),
            )
    again = StackedBatches([of_seed(seed, start=2) for seed in seeds])
    next(again)
    jax.tree.map(np.testing.assert_array_equal, next(again), batch)


def test_results_hold_what_was_trained(swept):
    whole, results, _ = swept
    stored = json.loads((whole.run.run_dir / "results.json").read_text())
    assert results == stored
    names = list(stored)
    assert names[names.index("notes") :][:4] == ["notes", "warnings", "left_out", "objective"]
    assert stored["items"] == {"train": 720, "validation": 80, "query": 200, "database": 797}
    assert stored["seeds"] == [3, 4] and stored["axes"] == {k: list(v) for k, v in AXES.items()}
    assert [m["seed"] for m in stored["members"]] == [3, 4] * 6
    assert [tuple(s["values"].values()) for s in stored["settings"]] == [
        (weight, rate) for weight in AXES["quantizer_weight"] for rate in AXES["learning_rate"]
    ]
    for key in ("split_sha256", "hardware", "versions", "seconds", "leaks", "objective"):
        assert key in stored
    assert json.loads((whole.run.run_dir / "config.json").read_text())["sweep"]["seeds"] == 2


def test_member_that_diverges_leaves_the_others_and_is_not_chosen(swept):
    _, results, said = swept
    for member in results["members"]:
        broken = member["values"]["quantizer_weight"] == 3e38
        assert (member["diverged_at_step"] is not None) == broken
        assert (member["scores"] is None) == broken
    assert [setting["diverged"] for setting in results["settings"]] == [[]] * 4 + [[3, 4]] * 2
    means = [
        statistics.fmean(m["scores"]["validation_map"] for m in results["members"][i : i + 2])
        for i in range(0, 8, 2)
    ]
    assert results["best"] == means.index(max(means))
    step = results["members"][8]["diverged_at_step"]
    name = "seed 3, quantizer-weight 3e+38, learning-rate 0.002"
    assert f"warning: step {step}: {name} diverged" in said
    assert f"{name}: diverged at step {step}" in said


def test_finished_sweep_prints_its_table_and_does_nothing(swept, capsys):
    whole, results, said = swept
    before = {p: p.stat().st_mtime_ns for p in whole.run.run_dir.rglob("*")}
    assert sweep(whole, AXES, Console(width=120), seeds=SEEDS) == results
    again = capsys.readouterr().out
    assert (
        "is finished" in again
        and again.splitlines()[1:] == said.splitlines()[-len(again.splitlines()) : -1]
    )
    assert before == {p: p.stat().st_mtime_ns for p in whole.run.run_dir.rglob("*")}


def test_first_lines_say_what_is_trained_and_what_chooses(swept):
    _, _, said = swept
    lines = [line for line in said.splitlines() if not line.endswith("so far")]  # a busy machine
    assert "720 training items, 80 validation items, 200 queries" in lines[0]
    assert lines[1].startswith("hashnet + hswd, 32 bits, 2 epochs of 8 steps on 1 x ")
    assert lines[2] == (
        "12 members: 2 seeds from 3, quantizer-weight=0.1,1,3e+38 learning-rate=0.002,0.004"
    )
    assert "chosen on 0.1 of the training items" in lines[3]


@pytest.mark.slow
@pytest.mark.usefixtures("plotless")
@pytest.mark.parametrize("at", [3, 13])  # before the first checkpoint, and amid an epoch
def test_interrupted_and_started_again(swept, tmp_path, monkeypatch, one_device, at):
    whole, results, _ = swept
    again = config(tmp_path / "sweep")
    start = partial(sweep, again, AXES, Console(quiet=True), seeds=SEEDS)
    found = start_with_an_interruption(again.run.run_dir, start, monkeypatch, at)
    state, same = state_of(whole), state_of(again)
    jax.tree.map(np.testing.assert_array_equal, bits(state), bits(same))
    first, second = (read_metrics(c.run.run_dir / "metrics.jsonl") for c in (whole, again))
    assert without_seconds(first) == without_seconds(second)
    assert found | {"seconds": 0} == results | {"seconds": 0}


@pytest.mark.slow
@pytest.mark.usefixtures("plotless")
def test_seeds_alone_need_no_validation(tmp_path, one_device):
    console = Console(file=io.StringIO(), width=120)
    results = sweep(config(tmp_path / "sweep"), {}, console, seeds=3)
    (setting,) = results["settings"]
    maps = [member["scores"]["map"] for member in results["members"]]
    assert setting["scores"]["map"] == {
        "mean": statistics.fmean(maps),
        "deviation": statistics.stdev(maps),
        "count": 3,
    }
    assert results["items"]["validation"] == 0 and results["best"] is None
    said = console.file.getvalue()
    assert "validation" not in said
    assert f"mAP {statistics.fmean(maps):.4f} ± {statistics.stdev(maps):.4f} over 3 seeds" in said


def test_training_in_which_all_diverge_stops(tmp_path):
    with pytest.raises(UserError, match=r"step \d+: every member of the sweep has diverged"):
        sweep(config(tmp_path / "sweep", quantizer_weight=3e38), {}, Console(quiet=True), seeds=2)
    assert not (tmp_path / "sweep" / "results.json").exists()


def test_axes_and_folder_of_a_command():
    parsed = parse_arguments(
        ["--seed", "5", "--seeds", "3", "--sweep", "quantizer-weight=0.01,1", "clip-norm=2e0"]
    )
    assert parsed.axes == {"quantizer_weight": (0.01, 1.0), "clip_norm": (2.0,)}
    name = "digits-hashnet-hswd-32bit"
    assert parsed.config.run.run_dir == Path(f"runs/{name}-sweep-quantizer-weight-clip-norm-3seeds")
    assert parse_arguments([]).config.run.run_dir == Path(f"runs/{name}-seed0")
    assert parse_arguments(["--sweep", "clip-norm=1"]).folder == "sweep-clip-norm"
    assert TrainArguments(digits_hashnet_hswd(), seeds=4).folder == "sweep-4seeds"
    assert TrainArguments(digits_hashnet_hswd(), seeds=0).is_sweep  # to be refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--seeds 0", "--seeds must be at least 1, got 0"),
        ("--seeds 1000000", "ask for 1,000,000 members; at most 1,000 are trained together"),
        ("--seeds many", "--seeds"),
        ("--seed 4294967295 --seeds 2", "--seed must be at most 4294967295, got 4294967296"),
        ("--sweep", "--sweep"),
        ("--sweep clip-norm", "--sweep clip-norm: expected numbers, as in"),
        ("--sweep clip-norm=", "--sweep clip-norm=: expected numbers"),
        ("--sweep clip-norm=1,,2", "expected numbers"),
        ("--sweep clip-norm=1,high", "expected numbers"),
        ("--sweep clip-norm=1,2 clip-norm=3", "--sweep names clip-norm twice"),
        ("--sweep clip-norm=1,2,1.0", "--sweep clip-norm has 1 twice"),
        (
            "--sweep bits=16,32",
            "--sweep cannot vary 'bits'; it can vary learning-rate, backbone-rate, quantizer-weight, "
            "weight-decay, clip-norm",
        ),
        ("--sweep learning-rate=1e-3,0", "--learning-rate must be above 0 and finite, got 0.0"),
        ("--sweep learning-rate=nan", "--learning-rate must be above 0 and finite, got nan"),
        ("--sweep quantizer-weight=1 --quantizer none", "needs a quantizer"),
        (
            "--seeds 2 --choose validation --validation 0.1",
            "--choose validation is not for a sweep",
        ),
        ("--seeds 2 --on-nan skip", "--on-nan skip is not for a sweep"),
        ("--seeds 2 --batch-size 7", "--batch-size 7 is smaller than the 8 devices"),
        (
            "--seeds 2 --run-dir sweep --distributed --processes 2 --process 0",
            "sweep holds another sweep: --processes is 1 there and 2 here",
        ),
        ("--seeds 2 --bits 0", "--bits must be at least 1, got 0"),
        ("--seeds 2 --run-dir run", "run holds a single run, not a sweep"),
        ("--run-dir sweep", "sweep holds a sweep, not a single run"),
        ("--seeds 3 --run-dir sweep", "sweep holds another sweep: --seeds is 2 there and 3 here"),
        (
            "--seeds 2 --sweep clip-norm=1,2 --validation 0.5 --run-dir sweep",
            "--validation is 0.0 there and 0.5 here; --sweep is not given there and clip-norm=1,2",
        ),
        ("--seeds 2 --run-dir photos", "photos exists and is not the folder of a sweep"),
        ("--seeds 2 --run-dir broken", "broken/config.json is damaged (it holds no JSON object)"),
    ],
)
def test_refused(refusal, tmp_path, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    fields = digits_hashnet_hswd().to_json()
    contents = {"run": fields, "sweep": fields | {"sweep": {"seeds": 2, "axes": {}}}, "broken": []}
    for name, content in contents.items():
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "config.json", content)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("mine")
    assert said in refusal("train", *options.split())


@pytest.mark.parametrize(
    ("varied", "said"),
    [
        ({"seeds": 10**12, "axes": {}}, "1,000,000,000,000 members"),  # not a list of so many
        ({"seeds": 0, "axes": {}}, "`seeds` must be at least 1"),
        ({"seeds": 2, "axes": {"bits": [8.0]}}, "cannot vary 'bits'"),
    ],
)
def test_configurations_are_checked_as_those_of_commands(tmp_path, varied, said):
    write_json(tmp_path / "config.json", digits_hashnet_hswd().to_json() | {"sweep": varied})
    write_json(tmp_path / "results.json", {})
    with pytest.raises(UserError, match=f"config.json: .*{said}"):
        evaluate(tmp_path, Console(quiet=True))


def test_members_whose_results_are_gone_are_not_finished(tmp_path):
    members = [{"seed": seed, "values": {}, "scores": {}} for seed in (0, 1, 2)]
    members[2]["scores"] = None  # diverged
    for name in ("seed0", "seed1", "seed2"):
        (tmp_path / name).mkdir()
    (tmp_path / "seed0" / "results.json").touch()
    assert train_sweep._unfinished(tmp_path, {"members": members}) == ["seed1"]
    with pytest.raises(UserError, match="results.json is damaged"):
        train_sweep._unfinished(tmp_path, {"members": 5})


@pytest.mark.slow
def test_sweep_is_evaluated_again_by_its_members(swept, one_device, capsys, tmp_path):
    whole, _, _ = swept
    folder = tmp_path / "sweep"
    shutil.copytree(whole.run.run_dir, folder, ignore=shutil.ignore_patterns("cache"))
    results = json.loads((folder / "results.json").read_text())
    for member in results["members"]:  # two are enough
        if (member["seed"], member["values"]["learning_rate"]) != (4, 4e-3):
            member["scores"] = None
        member["diverged_at_step"] = None if member["scores"] else 1
    results["settings"] = summarize(results["members"])
    write_json(folder / "results.json", results | {"best": 1})
    with pytest.raises(UserError, match="do not follow from its members"):
        evaluate(folder, Console(quiet=True))
    results["best"] = None
    write_json(folder / "results.json", results)
    evaluate(folder, Console(width=200))
    assert capsys.readouterr().out.count("to the last digit") == 3
    results["members"][NUMBER]["scores"]["map"] += 1e-15
    write_json(folder / "results.json", results)
    with pytest.raises(UserError, match="seed 4, quantizer-weight 1, learning-rate 0.004: map"):
        evaluate(folder, Console(quiet=True))
    shutil.rmtree(folder / member_folder(whole).name)
    with pytest.raises(UserError, match="has no folder seed4-quantizer-weight1.0"):
        evaluate(folder, Console(quiet=True))


SMALL = {"model": "mlp", "epochs": 2, "bits": 8, "train_per_class": 20}


@pytest.fixture(scope="module")
def three_seeds(tmp_path_factory):
    """A finished sweep on one device, and its results."""
    whole = config(tmp_path_factory.mktemp("three") / "sweep", **SMALL)
    with pytest.MonkeyPatch.context() as patch, without_plots():
        on_one_device(patch)
        return whole, sweep(whole, {}, Console(quiet=True), seeds=3)


@pytest.mark.slow
@pytest.mark.usefixtures("plotless")
@pytest.mark.parametrize("at", ["metrics", "checkpoint", "codes", "results", "sweep"])
def test_sweep_that_stops_among_its_members_goes_on(
    three_seeds, tmp_path, one_device, monkeypatch, at
):
    (whole, expected), again = three_seeds, config(tmp_path / "again", **SMALL)
    holder, name = {
        "metrics": (members, "write_metrics"),
        "checkpoint": (Checkpoints, "save"),
        "codes": (run, "write_codes"),
        "results": (run, "write_json"),
        "sweep": (train_sweep, "write_json"),
    }[at]
    plain = getattr(holder, name)

    def interrupt(*arguments, **options):
        text = str(arguments[0])
        if (
            "seed4" in text
            or at == "sweep"
            or (at == "checkpoint" and (again.run.run_dir / "seed4").exists())
        ):
            raise KeyboardInterrupt
        return plain(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(holder, name, interrupt)
        with pytest.raises(KeyboardInterrupt):
            sweep(again, {}, Console(quiet=True), seeds=3)
    assert (again.run.run_dir / "seed3" / "results.json").exists()
    assert not (again.run.run_dir / "results.json").exists()
    found = sweep(again, {}, Console(quiet=True), seeds=3)
    assert found | {"seconds": 0} == expected | {"seconds": 0}
    for seed in (3, 4, 5):
        one, other = (
            json.loads((c.run.run_dir / f"seed{seed}" / "results.json").read_text())
            for c in (whole, again)
        )
        assert one | {"seconds": 0} == other | {"seconds": 0}
        codes = (dict(np.load(c.run.run_dir / f"seed{seed}" / "codes.npz")) for c in (whole, again))
        jax.tree.map(np.testing.assert_array_equal, *codes)
    for seed in (4, 5):  # the one that was stopped, and one that had not begun
        evaluate(again.run.run_dir / f"seed{seed}", Console(quiet=True))
