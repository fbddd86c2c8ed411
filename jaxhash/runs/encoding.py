"""Encodes the parts of a split by a model."""

import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, PyTree
from rich.console import Console

from jaxhash.data.augment import Augment
from jaxhash.data.pipeline import evaluation_batches, rows_of_process
from jaxhash.retrieval.encode import make_block_encoder
from jaxhash.retrieval.packed_codes import CodePacker, PackedCodes, sample_step
from jaxhash.retrieval.vectors import ProgressTracker, no_progress
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.scores import QUERY_AND_DATABASE
from jaxhash.runs.ways import ways_of
from jaxhash.utils.console import track_progress

#: Rows encoded at a time: a multiple of any usual number of devices.
ENCODING_BATCH = 512

_NO_AUGMENT = Augment()


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
