"""The numbers of a trained model: its metrics, those of the baselines, and what the results hold."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, PyTree
from rich.console import Console

from jaxhash import metrics
from jaxhash.data.augment import Augment
from jaxhash.data.pipeline import evaluation_batches, rows_of_process
from jaxhash.ops.codes import binarize
from jaxhash.retrieval.counting import count_by_distance
from jaxhash.retrieval.encode import make_block_encoder
from jaxhash.retrieval.packed_codes import CodePacker, PackedCodes, as_packed_codes, sample_step
from jaxhash.retrieval.vectors import ProgressTracker, no_progress
from jaxhash.runs.baselines import compare_with_baselines, describe_stronger_baselines
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
from jaxhash.runs.ways import WAYS_CONVENTIONS, Way, codes_by_way, score_ways, ways_of
from jaxhash.training.collapse import CollapseAlarm
from jaxhash.training.model_selection import SelectionRule
from jaxhash.utils.console import print_line, track_progress
from jaxhash.utils.errors import UserError

#: Rows encoded at a time: a multiple of any usual number of devices.
ENCODING_BATCH = 512

#: Convention of results without what needs all real values of the codes.
REAL_VALUES = "real values"

_NO_AUGMENT = Augment()


class NotFinite(UserError):
    """A model makes codes that are not finite."""


class SplitEncoder:
    """Encodes parts of a split by the experiment's model, compiled once for all of them.

    Args:
        experiment: the data, its split and the model.
    """

    def __init__(self, experiment: Experiment):
        self._source, self._split = experiment.source, experiment.split
        self._encode = make_block_encoder(experiment.model)

    def pack(
        self,
        variables: PyTree,
        name: str,
        *,
        values_bytes: int = 0,
        track: ProgressTracker = no_progress,
    ) -> PyTree[PackedCodes]:
        """Returns the codes of the items of a part as packed bits; of modalities, a tuple.

        Args:
            variables: the model's variables.
            name: ``train``, ``validation``, ``query`` or ``database``.
            values_bytes: the real values are kept too where they take no more than that.
            track: shows the progress.
        """
        blocks = self._blocks(variables, name, track=track)
        first = next(blocks)
        make = partial(CodePacker, len(getattr(self._split, name)), values_bytes=values_bytes)
        packers = jax.tree.map(lambda _: make(), first)
        for block in itertools.chain([first], blocks):
            jax.tree.map(CodePacker.add, packers, block)
        return jax.tree.map(CodePacker.finish, packers)

    def __call__(
        self, variables: PyTree, name: str, **options: Any
    ) -> PyTree[Float[np.ndarray, "items bits"]]:
        """Returns the real-valued codes of the items of a part, in order; of modalities, a tuple.

        Args:
            variables: the model's variables.
            name: ``train``, ``validation``, ``query`` or ``database``.
            options: ``augment``, an augmentation of the inputs before they are encoded, with its ``seed``;
                ``rows``, a slice of the part's items; and ``track``, which shows the progress.
        """
        blocks = self._blocks(variables, name, **options)
        return jax.tree.map(lambda *parts: np.concatenate(parts), *blocks)

    def _blocks(
        self,
        variables: PyTree,
        name: str,
        *,
        augment: Augment = _NO_AUGMENT,
        seed: int = 0,
        rows: slice = slice(None),
        track: ProgressTracker = no_progress,
    ) -> Iterator[PyTree[Float[np.ndarray, "n bits"]]]:
        rng = np.random.default_rng(seed)
        index, processes = jax.process_index(), jax.process_count()
        size = ENCODING_BATCH + -ENCODING_BATCH % processes
        own_rows = rows_of_process(size, index, processes)
        items = getattr(self._split, name)[rows]
        batches = evaluation_batches(
            self._source,
            items,
            batch_size=size,
            process_index=index,
            process_count=processes,
        )
        augmented = (
            batch._replace(
                inputs=augment.sample_and_apply(batch.inputs, rng, rows=size, of=own_rows)
            )
            for batch in batches
        )
        steps = -(-len(items) // size)
        return self._encode(variables, track(augmented, f"encoding the {name} items", steps))


def encode_split(
    encode: SplitEncoder, variables: PyTree, **options: Any
) -> dict[str, PyTree[PackedCodes]]:
    """Encodes the queries and the database by the model with these variables.

    Args:
        encode: encoder of the split's parts.
        variables: the model's variables.
        options: ``values_bytes`` and ``track``, as `SplitEncoder.pack` takes them.
    """
    return {name: encode.pack(variables, name, **options) for name in QUERY_AND_DATABASE}


def encode_sample(
    encode: SplitEncoder,
    experiment: Experiment,
    variables: PyTree,
    track: ProgressTracker = no_progress,
) -> Float[np.ndarray, "items bits"]:
    """Encodes the items of the database whose code values are plotted; see `sampled_rows`.

    Of several modalities it is that which the first way searches.
    """
    codes = encode(variables, "database", rows=sampled_rows(experiment), track=track)
    ways = ways_of(experiment)
    return codes[experiment.modalities.index(ways[0].database)] if ways else codes


def encode_initial(
    experiment: Experiment, encode: SplitEncoder, console: Console
) -> Float[np.ndarray, "items bits"]:
    """Encodes a sample of the database by the model before its first step; see `encode_sample`."""
    variables = experiment.initial_state().variables
    return encode_sample(encode, experiment, variables, partial(track_progress, console=console))


def sampled_rows(experiment: Experiment) -> slice:
    """Returns the rows of the database whose values `PackedCodes` keep as a sample."""
    return slice(None, None, sample_step(len(experiment.split.database)))


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
    options = {"memory_bytes": config.run.memory_bytes, "track": track}
    found = {
        **score_all(experiment, codes, **options),
        "baselines": {},
        "float_rankings": {},
        "conventions": conventions(experiment) | {"baselines": _why_no_baselines(experiment)},
        "health": _health(codes["database"], labels["database"]).to_json(),
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
