"""Linear hash functions with labels: directions that tell classes apart, rotated to be close to their signs."""

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import numpy as np
import scipy.linalg
import scipy.sparse
from jaxtyping import Float64, Int, Shaped
from threadpoolctl import threadpool_limits

from jaxhash.retrieval.baselines.linear_hashes import (
    LinearHash,
    best_scale,
    components_of_some,
    fit_rotation,
    random_isometry,
)
from jaxhash.retrieval.baselines.training_vectors import Features, TrainingVectors
from jaxhash.retrieval.vectors import ProgressTracker, no_progress
from jaxhash.similarity import has_label
from jaxhash.utils.errors import UserError

#: Added to the variance of each direction and of each class, as in the code of [1].
RIDGE = 1e-4

#: Eigenvalue up to which classes do not differ in a direction, but for rounding.
_ROUNDING = 1e-9

#: Rows in which the vectors differ, and so do the classes.
Directions = Float64[np.ndarray, "directions dimensions"]


class ClassMoments(NamedTuple):
    """Second moments of vectors at length 1 and of their labels, of the items that have a label.

    Attributes:
        covariance: of the vectors.
        cross: covariance of each class, 1 where an item has it and 0 elsewhere, with the vectors.
        of_classes: covariance of the classes.
        frequency: share of the items that each class has.
    """

    covariance: Float64[np.ndarray, "dimensions dimensions"]
    cross: Float64[np.ndarray, "classes dimensions"]
    of_classes: Float64[np.ndarray, "classes classes"]
    frequency: Float64[np.ndarray, " classes"]

    @classmethod
    def of(
        cls, training: TrainingVectors, labels: Shaped[np.ndarray, " n *classes"]
    ) -> "ClassMoments":
        """Sums the moments block by block; raises as `fit_labeled_hashes`."""
        known, used = has_label(labels), used_classes(labels)
        if len(used) < 2:
            raise UserError(f"`labels` must hold at least two classes, got {len(used)}")
        if 32 * len(used) * (len(used) + training.dimensions) > training.memory_bytes:
            raise UserError(
                f"`memory_bytes={training.memory_bytes:,}` are too few for the covariances of "
                f"{len(used):,} classes"
            )

        def labeled_blocks():
            for rows, block in training.blocks():
                here = known[rows]
                yield block[here].astype(np.float64), _one_hot(labels[rows][here], used)

        items = known.sum()
        mean = sum(vectors.sum(axis=0) for vectors, _ in labeled_blocks()) / items
        covariance = cross = of_classes = frequency = 0.0
        for vectors, classes in labeled_blocks():
            vectors -= mean
            covariance += vectors.T @ vectors / items
            cross += classes.T @ vectors / items
            of_classes += (classes.T @ classes).toarray() / items
            frequency += classes.sum(axis=0) / items
        of_classes -= np.outer(frequency, frequency)
        return cls(covariance, cross, of_classes, frequency)


def used_classes(labels: Shaped[np.ndarray, " n *classes"]) -> Int[np.ndarray, " used"]:
    """Returns the classes that some item has.

    Example:
        >>> used_classes(np.array([3, -1, 1])).tolist(), used_classes(np.array([[0, 1], [0, 0]])).tolist()
        ([1, 3], [1])
    """
    if labels.ndim == 2:
        return np.flatnonzero(labels.any(axis=0))
    return np.unique(labels[has_label(labels)])


def _one_hot(
    labels: Shaped[np.ndarray, " n *classes"], used: Int[np.ndarray, " used"]
) -> scipy.sparse.csr_array:
    """Returns the labels as rows of 0 and 1, a column for each class that is used."""
    if labels.ndim == 2:
        return scipy.sparse.csr_array(labels[:, used] != 0, dtype=np.float64)
    places = np.arange(len(labels)), np.searchsorted(used, labels)
    return scipy.sparse.csr_array((np.ones(len(labels)), places), (len(labels), len(used)))


def cca_directions(moments: ClassMoments, count: int) -> Directions:
    r"""Returns the directions of vectors that correlate most with the labels, each times its correlation.

    .. math:: C_{xy} (C_{yy} + \rho I)^{-1} C_{yx} w = \lambda^2 (C_{xx} + \rho I) w,
              \quad w^\top (C_{xx} + \rho I) w = 1

    Args:
        moments: of the vectors and their labels.
        count: how many to return at most; there are no more than those in which classes differ.
    """
    ridge = RIDGE * np.eye(len(moments.of_classes))
    weighted = scipy.linalg.solve(moments.of_classes + ridge, moments.cross, assume_a="pos")
    squares, directions = _top(moments.cross.T @ weighted, moments.covariance, count)
    return np.sqrt(squares)[:, None] * directions


def lda_directions(moments: ClassMoments, count: int) -> Directions:
    r"""Returns the directions in which classes lie apart the most, each of variance 1 within classes.

    .. math:: S_b w = \lambda (S_w + \rho I) w, \quad w^\top (S_w + \rho I) w = 1

    with the covariance :math:`S_b` of the means of classes and :math:`S_w` within them.

    Args:
        moments: of the vectors and their labels, one label each.
        count: how many to return at most; there are no more than classes less one.
    """
    between = moments.cross.T @ (moments.cross / moments.frequency[:, None])
    return _top(between, moments.covariance - between, count)[1]


def _top(
    between: Float64[np.ndarray, "d d"], within: Float64[np.ndarray, "d d"], count: int
) -> tuple[Float64[np.ndarray, " directions"], Directions]:
    """Returns the largest generalized eigenvalues above rounding, and their vectors as rows."""
    ridge = RIDGE * np.eye(len(within))
    values, vectors = scipy.linalg.eigh(between, within + ridge)
    used = np.flatnonzero(values > _ROUNDING)[::-1][:count]
    return values[used], vectors[:, used].T


class LabeledMethod(NamedTuple):
    """A way to find directions by labels.

    Attributes:
        directions: function of the moments and the number of directions.
        takes_several: whether an item may have several labels.
        description: a few words on it.
    """

    directions: Callable[[ClassMoments, int], Directions]
    takes_several: bool
    description: str


#: The methods by name.
LABELED_METHODS = {
    "cca-itq": LabeledMethod(
        cca_directions, True, "canonical correlations with the labels, rotated as by ITQ"
    ),
    "lda-itq": LabeledMethod(
        lda_directions, False, "linear discriminants of the classes, rotated as by ITQ"
    ),
}
LabeledMethodName = Literal["cca-itq", "lda-itq"]


@threadpool_limits.wrap(limits=1)  # results do not depend on cores
def fit_labeled_hashes(
    train: Features,
    labels: Shaped[np.ndarray, " n *classes"],
    methods: Iterable[str],
    bits: int,
    *,
    seed: int = 0,
    memory_bytes: int = 2**30,
    track: ProgressTracker = no_progress,
) -> dict[str, LinearHash]:
    """Fits hash functions to vectors with labels, by some of the `LABELED_METHODS`.

    - ``cca-itq``: canonical correlation analysis [1], section 5.2.
    - ``lda-itq``: linear discriminant analysis; the projection of LDAHash [2], of classes in place of pairs.

    Then the directions are rotated to be close to their signs, as by ITQ. There are no more of them than classes
    less one: where there are more bits, the rotation becomes an isometry into the longer code. The mean is that of all
    vectors; those without a label take part in nothing but it and the rotation.

    Args:
        train: the vectors, at any length.
        labels: class ids, -1 for none, or rows of 0 and 1.
        methods: names of `LABELED_METHODS`.
        bits: length of a code.
        seed: seed of the rotations.
        memory_bytes: bound on the memory in bytes, beside the vectors and the results.
        track: shows the progress of what takes longest.

    Raises:
        UserError: if the labels hold a single class, their covariances do not fit into the memory, or a method takes one
            label an item and the labels are rows.

    References:
        [1] Gong, Lazebnik, Gordo, Perronnin, "Iterative quantization: a Procrustean approach to learning binary codes
        for large-scale image retrieval", TPAMI 2013: directions times their correlation, and 1e-4 on both diagonals, are
        as in the authors' code. Departure: vectors are scaled to length 1 first; and that code goes on to
        directions of no correlation where there are more bits than classes.
        [2] Strecha, Bronstein, Bronstein, Fua, "LDAHash: improved matching with smaller descriptors", TPAMI 2012.
        Departure: a rotation, where they look for a threshold of each direction.

    Example:
        >>> vectors = np.random.default_rng(0).normal(size=(90, 8)).astype(np.float32)
        >>> hashes = fit_labeled_hashes(vectors, np.arange(90) % 3, ["cca-itq"], bits=4)
        >>> hashes["cca-itq"](vectors).shape
        (90, 4)
    """
    training = TrainingVectors(train, memory_bytes, track)
    moments, hashes = ClassMoments.of(training, labels), {}
    for name in methods:
        method = LABELED_METHODS[name]
        if labels.ndim == 2 and not method.takes_several:
            raise UserError(f"{name} is for items of one label each; cca-itq takes several")
        directions = method.directions(moments, bits)
        rotation = fit_rotation(
            components_of_some(training, directions, bits),
            random_isometry(len(directions), bits, np.random.default_rng(seed)),
            track=track,
        )
        projection = directions.T @ rotation
        hashes[name] = LinearHash(
            training.mean.astype(np.float32),
            (projection * best_scale(training, projection)).astype(np.float32),
        )
    return hashes
