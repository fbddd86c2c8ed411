"""Retrieval metrics of a database that comes in pieces, or is spread over processes."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Int, Shaped

from jaxhash.metrics._conventions import Convention, get_convention
from jaxhash.metrics._counts import DistanceCounts, count_by_distance
from jaxhash.metrics._inputs import ZeroSign, code_side, infer_form
from jaxhash.metrics._lists import ItemLists
from jaxhash.metrics._retrieval import RetrievalResult, evaluate_counts
from jaxhash.metrics._values import input_error
from jaxhash.ops.arguments import IntLike

#: Formats of codes that are read alike: by whether a bit is set, and by sign.
_SET_BITS, _SIGNS = ("bool", "0/1"), ("-1/+1", "real-valued")


class Accumulator:
    """Every retrieval metric of `evaluate_retrieval`, of a database in pieces.

    Each piece is counted and forgotten: memory is that of the counts, ``queries * (bits + 1)``
    integers for each kind, however large the database is. Counts are integers, so the metrics equal
    those of the whole database at once to the last bit, whatever the pieces and their order; also with
    the relevance of the convention graded, or with lists of items. Unlike `evaluate_retrieval` it does
    not warn of implausible codes, see `jaxhash.metrics.code_warnings`. It does not compute
    `jaxhash.metrics.code_health`, nor the hierarchical metrics of `jaxhash.metrics.similarity_counts`,
    whose counts of several pieces may be added.

    Args:
        query_codes: codes of the queries; see `jaxhash.metrics.infer_code_format`.
        query_labels: class ids [queries] with -1 for none, or multi-hot rows [queries, classes]; None
            where every piece comes with lists of its relevant items.
        convention: a name in `jaxhash.metrics.CONVENTIONS`, or a `Convention`.
        bits: length of a code, if packed codes do not fill their last byte.
        zero: meaning of an exact zero of real-valued codes: ``"+1"``, ``"-1"`` or ``"error"``.

    Example:
        >>> codes, labels = np.array([[1, 1], [1, -1], [-1, -1]]), np.array([0, 0, 1])
        >>> first = Accumulator(codes, labels)
        >>> first.update(codes[:1], labels[:1])
        >>> second = Accumulator(codes, labels)  # in another process
        >>> second.update(codes[1:], labels[1:])
        >>> first.merge(second)
        >>> first.compute(k=1).scores["map_at_k"].expected
        1.0

        A process may send the accumulator pickled, or its ``counts``, which are arrays of int64.
    """

    def __init__(
        self,
        query_codes: Shaped[np.ndarray, "queries columns"],
        query_labels: Shaped[np.ndarray, " queries *classes"] | None = None,
        *,
        convention: str | Convention = "jaxhash",
        bits: IntLike | None = None,
        zero: ZeroSign = "+1",
    ) -> None:
        self._side, self._labels = code_side("query", query_codes), query_labels
        self._convention = get_convention(convention)
        self._form = {"bits": bits, "zero": zero}
        self._is_listed = query_labels is None
        self._kind: str | None = None
        self._counts: DistanceCounts | None = None

    @property
    def counts(self) -> DistanceCounts:
        """The counts of all pieces until now.

        Raises:
            ValueError: if there was no piece.
        """
        if self._counts is None:
            raise ValueError("no piece of the database has been counted")
        return self._counts

    def update(
        self,
        database_codes: Shaped[np.ndarray, "items columns"],
        database_labels: Shaped[np.ndarray, " items *classes"] | None = None,
        *,
        relevance: ItemLists | None = None,
        excluded: ItemLists | None = None,
        block: IntLike | None = None,
        devices: Sequence[jax.Device] | None = None,
    ) -> None:
        """Counts a piece of the database.

        Args:
            database_codes: codes of the piece, of the form of the queries'.
            database_labels: their labels, of the kind of the queries'; None with ``relevance``.
            relevance: the relevant items of each query in place of labels, as positions in the piece:
                `ItemLists.of_rows` takes them out of lists of the whole database.
            excluded: items that each query must not find, likewise.
            block: number of items per block of the piece.
            devices: devices to count on; all local devices by default.

        Raises:
            ValueError: if codes, labels or lists are invalid, or codes are of another form than before.
            TypeError: if codes or labels are not numbers.
        """
        side = code_side("database", database_codes)
        form = infer_form(self._side, side, **self._form)
        kind = form.kind
        if self._kind is not None and not _read_alike(kind, self._kind):
            raise input_error(
                "database codes",
                f"database codes are {kind} in this piece, and {self._kind} in the pieces before",
            )
        counts = count_by_distance(
            (self._side.codes, self._labels),
            (side.codes, database_labels),
            form,
            relevance=self._convention.relevance if relevance is None else relevance,
            excluded=excluded,
            block=block,
            devices=devices,
        )
        self._is_listed |= isinstance(relevance, ItemLists)
        self._add(counts, kind)

    def merge(self, other: "Accumulator | DistanceCounts") -> None:
        """Adds what another accumulator of the same queries has counted, or its counts.

        Raises:
            ValueError: if the queries, their labels, the form of the codes or the convention differ.
        """
        if isinstance(other, DistanceCounts):
            self._add(other, self._kind)
            return
        for name, are_equal in (
            ("queries", np.array_equal(self._side.codes, other._side.codes)),
            ("labels of the queries", np.array_equal(self._labels, other._labels)),
            ("conventions", self._convention == other._convention),
            ("forms of the codes", self._form == other._form),
        ):
            if not are_equal:
                raise ValueError(f"the {name} of both accumulators must be equal")
        if other._counts is None:
            return
        if self._kind is not None and not _read_alike(self._kind, other._kind):
            raise ValueError(f"codes are {self._kind} here, and {other._kind} in the other")
        self._is_listed |= other._is_listed
        self._add(other._counts, other._kind)

    def compute(
        self, *, k: IntLike | None = None, ranks: Sequence[IntLike] = (), radius: IntLike = 2
    ) -> RetrievalResult:
        """Computes the metrics of all pieces until now, as `evaluate_retrieval` does.

        Args:
            k: rank of mAP@k, precision@k and the like; None omits these.
            ranks: further ranks; see `jaxhash.metrics.evaluate_counts`.
            radius: Hamming radius of precision, recall and the empty-bucket rate.

        Raises:
            ValueError: if there was no piece, or k is larger than the database.
        """
        convention = self._convention
        if self._is_listed:
            convention = dataclasses.replace(convention, relevance="listed")
        return evaluate_counts(self.counts, k=k, ranks=ranks, radius=radius, convention=convention)

    def _add(self, counts: DistanceCounts, kind: str | None) -> None:
        total, relevant, gains = counts
        queries = len(self._side.codes)
        bits = total.shape[1] if self._counts is None else self._counts.total.shape[1]
        if total.shape != (queries, bits):
            raise ValueError(f"counts must have shape {(queries, bits)}, got {total.shape}")
        if self._counts is not None:
            total, relevant = total + self._counts.total, relevant + self._counts.relevant
            gains = _add_levels(gains, self._counts.gains)
        self._counts, self._kind = DistanceCounts(total, relevant, gains), kind


def _read_alike(kind: str, other: str | None) -> bool:
    return kind == other or any({kind, other} <= set(group) for group in (_SET_BITS, _SIGNS))


def _add_levels(
    first: Int[np.ndarray, "queries distances levels"] | None,
    second: Int[np.ndarray, "queries distances others"] | None,
) -> Int[np.ndarray, "queries distances most"] | None:
    """Adds items by gain; one side may have no item of the highest gains."""
    if first is None or second is None:
        if first is not second:
            raise ValueError("only one of the counts has gains")
        return None
    levels = max(each.shape[2] for each in (first, second))
    return sum(
        np.pad(each, ((0, 0), (0, 0), (0, levels - each.shape[2]))) for each in (first, second)
    )
