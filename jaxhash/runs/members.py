"""The members of a sweep as runs: each has a folder with all that a run's has.

A member's folder lies in that of the sweep and is named after its seed and its numbers. It is what
``jaxhash train`` would have left with that seed and those numbers, so whatever takes a run takes it;
only the times in it are those of all members together. A member that diverged has none.
"""

import dataclasses
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxhash.data.input_form import keep_form
from jaxhash.runs import train as run
from jaxhash.runs.config import Config, differences
from jaxhash.runs.evaluation import SplitEncoder, encode_drawn, validation_scores
from jaxhash.runs.experiment import (
    Parts,
    initial_state,
    initial_states,
    make_data_parallel,
    make_step,
    with_hyperparams,
)
from jaxhash.runs.files import read_finished
from jaxhash.runs.fitting import data_fingerprint
from jaxhash.runs.folder import open_folder
from jaxhash.training.checkpoint import Checkpoints
from jaxhash.training.members import Member, drop_zero_penalty, member_state
from jaxhash.training.model_selection import select_model
from jaxhash.training.state import TrainState
from jaxhash.training.stop import raise_if_stop_requested
from jaxhash.utils.console import print_line, track_progress
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import whole_file


def finish_members(
    config: Config,
    parts: Parts,
    members: Sequence[Member],
    state: TrainState,
    records: Sequence[dict[str, Any]],
    notes: dict[str, Any],
    console: Console,
    *,
    diverged: Sequence[int | None],
) -> list[dict[str, Any] | None]:
    """Evaluate each member that has not diverged, and leave its folder; one after the other.

    A folder that is finished is left as it is, and one that is not is finished, so the same call goes
    on after an interruption. Baselines are computed once for the members of a seed.

    Args:
        config: what is varied, in the folder of the sweep.
        parts: what it determines, with tables that are whole on each device.
        members: the members.
        state: the last state of them all.
        records: the sweep's metrics.jsonl.
        notes: what the results of each hold beside its numbers.
        console: where progress is printed.
        diverged: of each member the step at which it diverged, or None.

    Returns:
        Of each member the content of its results.json, with `validation_scores` of its items beside
        it; None if it has diverged, or makes codes that are not finite.
    """
    track = partial(track_progress, console=console)
    encode, found, known = SplitEncoder(parts), [None] * len(members), None
    seeds = list(dict.fromkeys(member.seed for member in members))
    for seed, initial in zip(seeds, initial_states(config, parts, seeds), strict=True):
        before = None
        for number, member in enumerate(members):
            if member.seed != seed or diverged[number] is not None:
                continue
            raise_if_stop_requested()
            own = config_of_member(config, member)
            mine = member_state(state, number)
            print_line(
                console, f"member {number + 1} of {len(members)}, {member.name}: {own.run_dir}"
            )
            results = run.finished(own.run_dir, own)
            if results is None:
                if before is None:
                    before = encode_drawn(encode, parts, initial.variables, track)
                picked = [_of_member(record, number) for record in records]
                own_parts = with_hyperparams(own, parts, {})
                with open_folder(own.run_dir, own.to_json()):
                    keep_form(own.run_dir, parts.form, parts.data_sha256)
                    _write_metrics(own.run_dir / "metrics.jsonl", picked)
                    _save(own, own_parts, mine)
                    try:
                        results = run.finish(
                            own,
                            own_parts,
                            encode,
                            picked,
                            console,
                            before=before,
                            notes=notes,
                            chosen=(mine, _last(own, parts)),
                            known=known,
                        )
                    except run.NotFinite:  # broken by the last update, which no metric has seen
                        continue
            known = results if results["baselines"] else None  # there may be none
            found[number] = results | validation_scores(parts, encode, mine.variables)
    return found


def evaluate_members(
    config: Config, parts: Parts, members: Sequence[Member], console: Console
) -> list[dict[str, Any]]:
    """Evaluate finished members again from their checkpoints, and compare each with its results.

    Raises:
        UserError: if a member has no folder, or a number differs.
    """
    encode, found = SplitEncoder(parts), []
    for member in members:
        own = config_of_member(config, member)
        print_line(console, f"{member.name}: {own.run_dir}")
        if not own.run_dir.is_dir():
            raise UserError(
                f"{config.run_dir} has no folder {own.run_dir.name} of that member; where its results "
                "are of an older version, its command trains it anew in another --run-dir"
            )
        stored, _ = read_finished(own.run_dir, config.data_dir)
        if other := differences(stored, own):
            raise UserError(f"{own.run_dir} is another run: {'; '.join(other)}")
        found.append(run.compare_again(own, with_hyperparams(own, parts, {}), encode, console))
    return found


def config_of_member(config: Config, member: Member) -> Config:
    """The configuration of a member, in its folder."""
    folder = config.run_dir / member.folder
    return dataclasses.replace(config, run_dir=folder, seed=member.seed, **member.setting)


def _of_member(record: dict[str, Any], number: int) -> dict[str, Any]:
    """A member's part of a record."""
    return {name: v[number] if isinstance(v, list) else v for name, v in record.items()}


def _write_metrics(path: Path, records: Sequence[dict[str, Any]]) -> None:
    with whole_file(path, "w") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)


def _save(config: Config, parts: Parts, state: TrainState) -> None:
    """Leave the checkpoint of the last step, if it is not there."""
    if config.quantizer_weight == 0:
        state = drop_zero_penalty(state, initial_state(config, parts))
    parallel_step = make_data_parallel(config, parts, make_step(config, parts))
    with Checkpoints(config.run_dir / "checkpoints", data=data_fingerprint(parts)) as checkpoints:
        if parts.total_steps not in checkpoints.steps:
            checkpoints.save(parts.total_steps, parallel_step.replicate(state))


def _last(config: Config, parts: Parts) -> dict[str, Any]:
    return select_model("last", [], epochs=config.epochs, total_steps=parts.total_steps)
