"""Linear hash functions without labels: unit length, mean, projection, sign.

Four methods find the projection. The codes before the sign are scaled by one factor to be as close as
possible to -1 and +1, so that their quantization error compares with that of learned codes; the factor
changes no bit.
"""

import dataclasses
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Float64
from threadpoolctl import threadpool_limits

from jaxhash.retrieval.baselines.training_vectors import Features, TrainingVectors
from jaxhash.retrieval.vectors import ProgressTracker, no_progress, normalize_rows

#: Principal directions, orthonormal rows in float64.
Directions = Float64[np.ndarray, "directions dimensions"]

#: Steps of ITQ, as many as in the paper.
ITQ_STEPS = 50

#: Items, evenly spaced, that ITQ's rotation is fitted to at most; mean and components are of all.
MAX_ROTATED_ITEMS = 2**16

#: Parts of the items that ITQ rotates at the same time: as many on any machine, for the same sums.
_PARTS = 8


@dataclasses.dataclass(frozen=True)
class LinearHash:
    """A hash function of vectors: the vector at length 1, without the mean, times a projection.

    Attributes:
        mean: mean of the training vectors at length 1.
        projection: a column for each bit.
    """

    mean: Float32[np.ndarray, " dimensions"]
    projection: Float32[np.ndarray, "dimensions bits"]

    @property
    def bias(self) -> Float32[np.ndarray, " bits"]:
        """The projection of the mean, negated: what a linear layer adds in place of it."""
        return -(self.mean.astype(np.float64) @ self.projection).astype(np.float32)

    def __call__(self, vectors: Float[np.ndarray, "n dimensions"]) -> Float32[np.ndarray, "n bits"]:
        """Returns the real-valued codes of vectors."""
        return normalize_rows(vectors).astype(np.float32) @ self.projection + self.bias


@threadpool_limits.wrap(limits=1)  # results do not depend on cores; many small products are faster
def fit_linear_hashes(
    train: Features,
    methods: Iterable[str],
    bits: int,
    *,
    seed: int = 0,
    memory_bytes: int = 2**30,
    track: ProgressTracker = no_progress,
) -> dict[str, LinearHash]:
    """Fits hash functions to vectors by some of the `METHODS`, with their principal components in common.

    - ``itq``: principal components, rotated so that their signs are closest to them [1].
    - ``pca-rotation``: principal components, rotated at random, which spreads the variance evenly
      over the bits: the baseline PCA-RR of [1].
    - ``random``: random hyperplanes through the mean [2].
    - ``pca-sign``: principal components, a bit for each.

    Where vectors differ in fewer directions than there are bits, a rotation becomes an isometry into
    the longer code; ``pca-sign`` has columns of zeros then, the same bit for all vectors.

    Args:
        train: the vectors, at any length.
        methods: names of `METHODS`.
        bits: length of a code.
        seed: seed of rotations and hyperplanes.
        memory_bytes: bound on the memory in bytes, beside the vectors and the results.
        track: shows the progress of what takes longest.

    References:
        [1] Gong and Lazebnik, "Iterative quantization", CVPR 2011. Departure: vectors are scaled to
        length 1 first, as the paper's authors do in released code and faiss does in `ITQTransform`.
        [2] Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002.

    Example:
        >>> vectors = np.random.default_rng(0).normal(size=(100, 8)).astype(np.float32)
        >>> hashes = fit_linear_hashes(vectors, ["itq", "random"], bits=4)
        >>> {name: hash_function(vectors).shape for name, hash_function in hashes.items()}
        {'itq': (100, 4), 'random': (100, 4)}
    """
    training = TrainingVectors(train, memory_bytes, track)
    directions, hashes = None, {}
    for name in methods:
        method = METHODS[name]
        if method.takes_directions and directions is None:
            directions = training.principal_directions(bits)
        projection = method.project(training, directions, bits, np.random.default_rng(seed))
        hashes[name] = LinearHash(
            training.mean.astype(np.float32),
            (projection * best_scale(training, projection)).astype(np.float32),
        )
    return hashes


def fit_rotation(
    scores: Float32[np.ndarray, "items directions"],
    rotation: Float64[np.ndarray, "directions bits"],
    steps: int = ITQ_STEPS,
    track: ProgressTracker = no_progress,
) -> Float64[np.ndarray, "directions bits"]:
    r"""Fits the rotation of ITQ from a first one.

    .. math:: \min_R \lVert B - V R \rVert^2, \quad B = \mathrm{sign}(V R), \quad R R^T = I

    alternates between B and R, which is the orthogonal Procrustes problem; no step raises the objective.

    Args:
        scores: V, the principal components of the items.
        rotation: orthonormal rows.
        steps: number of alternations.
        track: shows the progress.

    Example:
        >>> rotation = fit_rotation(np.eye(2, dtype=np.float32), np.array([[0.6, 0.8], [-0.8, 0.6]]))
        >>> np.abs(rotation).round(4).tolist()
        [[0.7071, 0.7071], [0.7071, 0.7071]]
    """
    parts = [scores[rows] for rows in np.array_split(np.arange(len(scores)), _PARTS)]

    def correlate(rows: Float32[np.ndarray, "rows directions"]) -> Float32[np.ndarray, "..."]:
        return rows.T @ np.where(rows @ narrow >= 0, np.float32(1), np.float32(-1))

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for _ in track(range(steps), "ITQ", steps):
            narrow = rotation.astype(np.float32)
            products = sum(product.astype(np.float64) for product in threads.map(correlate, parts))
            left, _, right = np.linalg.svd(products, full_matrices=False)
            rotation = left @ right
    return rotation


class Method(NamedTuple):
    """A way to find the projection.

    Attributes:
        project: function of the training vectors, their principal directions, the bits and a random
            generator; returns the projection before it is scaled.
        takes_directions: whether it needs the principal directions, or gets none.
        description: a few words on it.
    """

    project: Callable[
        [TrainingVectors, Directions, int, np.random.Generator],
        Float64[np.ndarray, "dimensions bits"],
    ]
    takes_directions: bool
    description: str


def _project_by_itq(training, directions, bits, rng):
    scores = components_of_some(training, directions, bits)
    return directions.T @ fit_rotation(
        scores, random_isometry(len(directions), bits, rng), track=training.track
    )


def _project_by_rotation(training, directions, bits, rng):
    return directions.T @ random_isometry(len(directions), bits, rng)


def _project_at_random(training, directions, bits, rng):
    return rng.normal(size=(training.dimensions, bits))


def _project_by_sign(training, directions, bits, rng):
    return np.pad(directions.T, ((0, 0), (0, bits - len(directions))))


#: The methods by name, the one to take first.
METHODS = {
    "itq": Method(
        _project_by_itq, True, "principal components, rotated to be close to their signs"
    ),
    "pca-rotation": Method(_project_by_rotation, True, "principal components, rotated at random"),
    "random": Method(_project_at_random, False, "random hyperplanes through the mean"),
    "pca-sign": Method(_project_by_sign, True, "principal components, a bit for each"),
}
MethodName = Literal["itq", "pca-rotation", "random", "pca-sign"]


def components_of_some(
    training: TrainingVectors, directions: Directions, bits: int
) -> Float32[np.ndarray, "items directions"]:
    """Returns the components of some items in given directions, evenly spaced, as many as codes of so many bits allow."""
    allowed = training.memory_bytes // 8 // (4 * bits)
    every = -(-training.items // max(2, min(MAX_ROTATED_ITEMS, allowed)))
    scores = np.empty((-(-training.items // every), len(directions)), np.float32)
    projection, mean = directions.T.astype(np.float32), training.mean.astype(np.float32)
    for rows, block in training.blocks(every):
        scores[rows] = (block - mean) @ projection
    return scores


def random_isometry(
    directions: int, bits: int, rng: np.random.Generator
) -> Float64[np.ndarray, "directions bits"]:
    """Returns orthonormal rows, a square matrix where there are as many directions as bits."""
    columns, _ = np.linalg.qr(rng.normal(size=(bits, directions)))
    return columns.T


def best_scale(
    training: TrainingVectors, projection: Float64[np.ndarray, "dimensions bits"]
) -> float:
    """Returns the factor that brings the codes of the training vectors closest to -1 and +1."""
    projection, mean = projection.astype(np.float32), training.mean.astype(np.float32)
    size = squares = 0.0
    for _, block in training.blocks():
        values = (block - mean) @ projection
        size += np.abs(values).sum(dtype=np.float64)
        squares += np.square(values).sum(dtype=np.float64)
    return size / squares if squares else 1.0
