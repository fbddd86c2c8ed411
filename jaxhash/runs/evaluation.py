"""The numbers of a trained model: its metrics, those of the baselines, and what the results hold."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, PyTree
from rich.console import Console

from jaxhash import metrics
from jaxhash.data.augment import Augment
from jaxhash.ops.codes import binarize
from jaxhash.retrieval.counting import count_by_distance
from jaxhash.retrieval.packed_codes import PackedCodes, as_packed_codes
from jaxhash.retrieval.vectors import ProgressTracker, no_progress
from jaxhash.runs.baselines import compare_with_baselines, describe_stronger_baselines
from jaxhash.runs.encoding import SplitEncoder, encode_split
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.scores import (
    QUERY_AND_DATABASE,
    Codes,
    conventions,
    is_hierarchical,
    of_both_parts,
    score_all,
    score_by_similarity,
)
from jaxhash.runs.ways import WAYS_CONVENTIONS, Way, codes_by_way, score_ways
from jaxhash.training.collapse import CollapseAlarm
from jaxhash.training.model_selection import SelectionRule
from jaxhash.utils.console import print_line, track_progress
from jaxhash.utils.errors import UserError

#: Convention of results without what needs all real values of the codes.
REAL_VALUES = "real values"

_NO_AUGMENT = Augment()


class NotFinite(UserError):
    """A model makes codes that are not finite."""


def evaluate_model(
    experiment: Experiment,
    encode: SplitEncoder,
    variables: PyTree,
    choice: dict[str, Any],
    records: Sequence[dict[str, Any]],
    console: Console,
    known: dict[str, Any] | None = None,
) -> tuple[dict[Way | None, Codes], dict[str, Any]]:
    """Encodes queries and database, and computes all numbers that follow from the codes.

    Args:
        experiment: what was trained.
        encode: encoder of its data.
        variables: the model's variables.
        choice: why this model is evaluated, by `jaxhash.training.model_selection.select_model`.
        records: the run's metrics.jsonl.
        console: where progress is printed.
        known: results of another run; see `evaluate_codes`.

    Returns:
        The codes by `Way`, None for the only one of a single modality; and the numbers, of which those
        outside ``ways`` are of the first way.

    Raises:
        NotFinite: if the codes are not finite.
    """
    config, split = experiment.config, experiment.split
    console.print(
        f"evaluating {len(split.query):,} queries on {len(split.database):,} items", highlight=False
    )
    track = partial(track_progress, console=console)
    codes = encode_split(encode, variables, values_bytes=config.run.memory_bytes, track=track)
    if not all(part.is_finite for part in jax.tree.leaves(codes)):
        raise NotFinite(
            f"the model of step {choice['step']} makes codes that are not finite; a lower "
            "`learning_rate` or `clip_norm` may help"
        )
    facts = {
        "bits": config.model.bits,
        "seed": config.run.seed,
        **data_facts(experiment),
        "objective": experiment.objective_name,
        "epochs": config.optimizer.epochs,
        "model_choice": choice,
        "skipped_steps": sum(record.get("skipped", 0) for record in records),
        "collapsed_at_step": next(iter(collapse_alarm(experiment, records).steps), None),
        "flip_rate": flip_rate(experiment, encode, variables, codes["query"]),
    }
    by_way = codes_by_way(experiment, codes) or {None: codes}
    if left_out := _why_no_real_values(next(iter(by_way.values()))["database"]):
        print_line(
            console,
            "the ranking by learned floats, and the quantization error and distance to signs of the "
            f"health, are {left_out}",
        )
    measured = evaluate_codes(experiment, next(iter(by_way.values())), track=track, known=known)
    if experiment.modalities:
        options = {"memory_bytes": config.run.memory_bytes, "track": track}
        measured["ways"] = score_ways(experiment, by_way, **options)
        measured["conventions"] |= WAYS_CONVENTIONS
    lost = describe_stronger_baselines(measured)
    facts["warnings"] += [*measured["warnings"], *lost]
    return by_way, measured | facts


def data_facts(experiment: Experiment) -> dict[str, Any]:
    """Returns what results hold of the data: its name, its split, and what was found in it."""
    source, split, findings = experiment.source, experiment.split, experiment.findings
    parts = ("train", "validation", "query", "database")
    return {
        "dataset": source.name,
        "split": split.name,
        "split_sha256": split.sha256,
        "items": {name: len(getattr(split, name)) for name in parts},
        "leaks": list(findings.leaks),
        "equal_inputs": dict(findings.equal_inputs),
        "notes": list(findings.notes),
        "warnings": list(findings.warnings),
        "left_out": list(source.left_out),
    }


def collapse_alarm(experiment: Experiment, records: Sequence[dict[str, Any]]) -> CollapseAlarm:
    """Returns the collapse alarm after a run's records; skipped steps are left out."""
    taken = [record for record in records if not record.get("skipped")]
    return CollapseAlarm(
        bits=experiment.config.model.bits, rows=experiment.batch_rows, records=taken
    )


def candidate_score(
    rule: SelectionRule, experiment: Experiment, encode: SplitEncoder
) -> Callable[[PyTree], float] | None:
    """Returns how a rule scores a model during training: mAP over all items that are searched.

    Args:
        rule: ``"validation"`` searches the validation items with each other, as most of a database
            is unseen too: among training items, whose codes have been fitted, overfitting looks
            good; ``"best-on-test"`` searches the database with the queries; ``"last"`` scores
            nothing.
        experiment: the data and its split.
        encode: encoder of its parts.

    Returns:
        A function of the model's variables; None where nothing is scored.
    """
    if rule == "last":
        return None
    split, labels = experiment.split, experiment.source.labels

    parts = dict.fromkeys(QUERY_AND_DATABASE, "validation")
    if rule == "best-on-test":
        parts = {name: name for name in QUERY_AND_DATABASE}
    sides = {side: labels[getattr(split, name)] for side, name in parts.items()}

    def score_sides(codes: Codes) -> float:
        query, database = ((codes[side], sides[side]) for side in QUERY_AND_DATABASE)
        lists = split.lists.counting if rule == "best-on-test" else {}
        counts = count_by_distance(*query, *database, **lists)
        if rule == "validation" and not experiment.modalities:
            counts = metrics.leave_one_out(counts)  # else it is found by its other modality
        return metrics.mean_average_precision(counts)

    def score(variables: PyTree) -> float:
        found = {name: encode.pack(variables, name) for name in sorted(set(parts.values()))}
        codes = {side: found[name] for side, name in parts.items()}
        ways = list(codes_by_way(experiment, codes).values()) or [codes]
        return float(np.mean([score_sides(way) for way in ways]))

    return score


def validation_scores(
    experiment: Experiment, encode: SplitEncoder, variables: PyTree
) -> dict[str, float]:
    """Returns the scores of the validation items in search of one another; empty without any."""
    split = experiment.split
    items = split.validation
    if not len(items):
        return {}
    scores = {"validation_map": candidate_score("validation", experiment, encode)(variables)}
    if is_hierarchical(experiment):
        among = dataclasses.replace(split, query=items, database=items)
        codes = dict.fromkeys(QUERY_AND_DATABASE, encode(variables, "validation"))
        found = score_by_similarity(dataclasses.replace(experiment, split=among), codes)
        if (name := "mahp_at_250_among_queries") in found:  # one item has no other to search for
            scores["validation_mahp_at_250"] = found[name]
    return scores


def flip_rate(
    experiment: Experiment,
    encode: SplitEncoder,
    variables: PyTree,
    codes: PyTree[PackedCodes],
) -> float | None:
    """Returns the share of the queries' bits that change under the augmentation of training.

    Args:
        experiment: the data, with augmentation and seed.
        encode: encoder of its parts.
        variables: the model's variables.
        codes: codes of the queries without augmentation.

    Returns:
        A share in [0, 1], of several modalities that of the bits of all; None where training does not
        augment.
    """
    augment, seed = experiment.augment, experiment.config.run.seed
    if augment == _NO_AUGMENT:
        return None
    augmented = encode(variables, "query", augment=augment, seed=seed)
    both = (
        np.concatenate([each[:] for each in jax.tree.leaves(codes)], axis=1),
        binarize(np.concatenate(jax.tree.leaves(augmented), axis=1)),
    )
    return metrics.flip_rate(*both).mean


def evaluate_codes(
    experiment: Experiment,
    codes: Codes,
    *,
    track: ProgressTracker = no_progress,
    known: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns the metrics of codes, of baselines of the same length, and of rankings by floats.

    The configuration has the seed of the baselines and of the sample that they are fitted to,
    whether there are any, and the bound on what is held in memory besides data and codes. The size
    of the sample depends on that bound, and last digits of what is ranked or cut as floats may.

    Args:
        experiment: the data and its split.
        codes: codes to measure; real-valued ones are packed first.
        track: shows the progress.
        known: results of other codes of the same length, with ``seed``: the ranking of the inputs is
            taken from them and, where the seed is the same, the baselines.

    Returns:
        The metrics of `score_all`, with ``baselines``, ``float_rankings``, ``conventions``, ``health``
        of the database, ``query_health`` and ``warnings`` beside them. Where classes have distances,
        the class index is among the baselines.
    """
    config = experiment.config
    codes = {name: as_packed_codes(part) for name, part in codes.items()}
    labels = of_both_parts(experiment, experiment.source.labels)
    if experiment.split.relevant is not None:  # labels are no classes
        labels = dict.fromkeys(labels)
    code_format = metrics.CodeFormat("real-valued", codes["query"].bits)
    health = _health(codes["database"], labels["database"])
    options = {"memory_bytes": config.run.memory_bytes, "track": track}
    found = {
        **score_all(experiment, codes, health=health, **options),
        "baselines": {},
        "float_rankings": {},
        "conventions": conventions(experiment) | {"baselines": _why_no_baselines(experiment)},
        "health": health.to_json(),
        "query_health": _health(codes["query"], labels["query"]).to_json(),
        "warnings": metrics.code_warnings(
            *(codes[name].statistics for name in QUERY_AND_DATABASE), code_format
        ),
    }
    if left_out := _why_no_real_values(codes["database"]):
        found["conventions"][REAL_VALUES] = left_out
    if config.run.baselines != "none" and not experiment.modalities:
        rows = compare_with_baselines(experiment, codes, track=track, known=known)
        found["conventions"] |= rows.pop("conventions")
        found |= rows
    return found


def _health(
    codes: PackedCodes, labels: Int[np.ndarray, " n *classes"] | None
) -> metrics.CodeHealth:
    if codes.values is not None:
        return metrics.code_health(codes.values, labels)
    return metrics.code_health(codes.packed, labels, form=metrics.CodeFormat("packed", codes.bits))


def _why_no_real_values(codes: PackedCodes) -> str:
    """Returns why what needs all real values is left out, where it is."""
    if codes.values is not None:
        return ""
    size = len(codes) * codes.sample[:1].nbytes
    return (
        f"left out, as the real values of the {len(codes):,} codes of the database take "
        f"{size / 2**20:,.0f} MiB, more than --memory-bytes"
    )


def _why_no_baselines(experiment: Experiment) -> str:
    """Returns why there are no baselines, where there are none."""
    if experiment.modalities:
        return "left out, as queries and database are of different modalities"
    return "left out, as --baselines is none"
