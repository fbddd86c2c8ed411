"""The members of a sweep as runs: each gets a folder with all that a run's folder has.

A member's folder lies in that of the sweep and is named after its seed and its numbers. It holds what
``jaxhash train`` writes with that seed and those numbers, so it is used like any run; only the times in
it are those of all members together. A member that diverged has no folder.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxhash.data.form_files import write_input_form
from jaxhash.runs.config import Config
from jaxhash.runs.encoding import SplitEncoder, encode_sample
from jaxhash.runs.evaluation import NotFinite, validation_scores
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.folder import open_folder
from jaxhash.runs.metrics_file import write_metrics
from jaxhash.runs.train_run import finished_results, open_checkpoints, write_results
from jaxhash.training.members import Member, drop_zero_penalty, member_state
from jaxhash.training.model_selection import select_model
from jaxhash.training.state import TrainState
from jaxhash.training.stop import raise_if_stop_requested
from jaxhash.utils.console import print_line, track_progress


def finish_members(
    experiment: Experiment,
    members: Sequence[Member],
    state: TrainState,
    records: Sequence[dict[str, Any]],
    notes: dict[str, Any],
    console: Console,
    *,
    folder: Path,
    diverged: Sequence[int | None],
) -> list[dict[str, Any] | None]:
    """Evaluates each member that has not diverged, and writes its folder; one after the other.

    A finished folder is not changed, and an unfinished one is finished, so the same call goes on after
    an interruption. Baselines are computed once for the members of a seed.

    Args:
        experiment: what is varied, with tables whole on each device.
        members: the members.
        state: the last state of all members.
        records: the metrics.jsonl of all members.
        notes: what the results of each member hold beside its numbers.
        console: where progress is printed.
        folder: folder of the sweep.
        diverged: for each member the step at which it diverged, or None.

    Returns:
        For each member the content of its results.json, with its `validation_scores`; None if it has
        diverged, or makes codes that are not finite.
    """
    track = partial(track_progress, console=console)
    encode, found, known = SplitEncoder(experiment), [None] * len(members), None
    config = experiment.config.replace(run_dir=folder)
    seeds = list(dict.fromkeys(member.seed for member in members))
    for seed, initial in zip(seeds, experiment.initial_states(seeds), strict=True):
        before = None
        for number, member in enumerate(members):
            if member.seed != seed or diverged[number] is not None:
                continue
            raise_if_stop_requested()
            own = experiment.with_config(config_of_member(config, member))
            own_folder, own_state = own.config.run.run_dir, member_state(state, number)
            print_line(
                console, f"member {number + 1} of {len(members)}, {member.name}: {own_folder}"
            )
            results = finished_results(own_folder, own.config)
            if results is None:
                if before is None:
                    before = encode_sample(encode, experiment, initial.variables, track)
                own_records = [_of_member(record, number) for record in records]
                with open_folder(own_folder, own.config.to_json()):
                    write_input_form(own_folder, own.input_form, own.findings.data_sha256)
                    write_metrics(own_folder / "metrics.jsonl", own_records)
                    _save_checkpoint(own, own_state, console)
                    try:
                        results = write_results(
                            own,
                            encode,
                            own_state.variables,
                            _last_model(own),
                            own_records,
                            console,
                            before=before,
                            notes=notes,
                            known=known,
                        )
                    except NotFinite:  # after the last update, which no metric covers
                        continue
            known = results if results["baselines"] else None  # there may be none
            found[number] = results | validation_scores(own, encode, own_state.variables)
    return found


def config_of_member(config: Config, member: Member) -> Config:
    """Returns the configuration of a member, in its folder."""
    folder = config.run.run_dir / member.folder
    return config.replace(run_dir=folder, seed=member.seed, **member.setting)


def _of_member(record: dict[str, Any], number: int) -> dict[str, Any]:
    """Returns a member's part of a record."""
    return {name: v[number] if isinstance(v, list) else v for name, v in record.items()}


def _save_checkpoint(own: Experiment, state: TrainState, console: Console) -> None:
    """Writes the checkpoint of the last step of a member, unless it exists."""
    if own.config.objective.quantizer_weight == 0:
        state = drop_zero_penalty(state, own.initial_state())
    with open_checkpoints(own, console) as checkpoints:
        if own.total_steps not in checkpoints.steps:
            checkpoints.save(own.total_steps, own.make_step().replicate(state))


def _last_model(own: Experiment) -> dict[str, Any]:
    return select_model("last", [], epochs=own.config.optimizer.epochs, total_steps=own.total_steps)
