"""Hash functions of feature vectors without a network: the baselines of a learned hash function.

Functions that cut projections return real-valued codes. One factor scales these codes to be as close
as possible to -1 and +1, so that their quantization error compares with that of learned codes; the
factor changes no bit.

The functions are fitted to training features: an array, or `LazyVectors`, which are read block by
block. ``memory_bytes`` bounds the memory beside the features, and `max_fitting_items` returns how many
items it allows.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jaxhash.retrieval.vectors import LazyVectors

#: Names, in the results of a run, of the baselines that use no labels.
UNSUPERVISED = ("random hyperplanes", "PCA + random rotation")

Features = LazyVectors | Float[np.ndarray, "items dimensions"]
HashFunction = Callable[[Float[np.ndarray, "n dimensions"]], Float[np.ndarray, "n bits"]]


def random_hyperplanes(
    train: Features, bits: int, *, seed: int = 0, memory_bytes: int = 2**30
) -> HashFunction:
    """Fits random hyperplanes through the mean of the training features (LSH).

    Reference:
        Charikar, "Similarity estimation techniques from rounding algorithms", STOC 2002.

    Example:
        >>> features = np.eye(4, dtype=np.float32)
        >>> random_hyperplanes(features, bits=16)(features).shape
        (4, 16)
    """
    normals = np.random.default_rng(seed).normal(size=(train.shape[1], bits))
    return _linear(train, _mean(train, memory_bytes), normals, memory_bytes)


def pca_random_rotation(
    train: Features, bits: int, *, seed: int = 0, memory_bytes: int = 2**30
) -> HashFunction:
    """Fits randomly rotated principal components of the training features.

    The rotation spreads the variance evenly over the bits. Where the features have fewer components
    than there are bits, the components are mapped into the longer code by a random isometry.

    Reference:
        The baseline of Gong and Lazebnik, "Iterative quantization", CVPR 2011 (PCA-RR).

    Example:
        >>> features = np.eye(4, dtype=np.float32)
        >>> pca_random_rotation(features, bits=16)(features).shape
        (4, 16)
    """
    mean = _mean(train, memory_bytes)
    components = _principal_components(train, mean, bits, memory_bytes)
    noise = np.random.default_rng(seed).normal(size=(bits, bits))
    rotation, _ = np.linalg.qr(noise)
    return _linear(train, mean, components.T @ rotation[: len(components)], memory_bytes)


def class_index(
    train: Features,
    labels: Int[np.ndarray, " items"],
    bits: int,
    *,
    seed: int = 0,
) -> HashFunction:
    """Fits a ridge classifier; the code of an item is a random code of its predicted class.

    Such codes hold nothing but a class id, and by mAP they beat much of what is published as
    hashing. Codes that hold more than the class rank the other classes too.

    Args:
        train: features of the training items.
        labels: class ids of the training items.
        bits: length of a code.
        seed: seed of the codes of the classes.

    Reference:
        Sablayrolles, Douze, Usunier, Jégou, "How should we evaluate supervised hashing?", 2017,
        whose classifier is a network. This library uses scikit-learn's ridge regression, which
        takes seconds.

    Example:
        >>> features = np.eye(4, dtype=np.float32)
        >>> class_index(features, np.array([0, 1, 0, 1]), bits=16)(features).shape
        (4, 16)
    """
    from sklearn.linear_model import RidgeClassifier

    only, *others = np.unique(labels)
    if not others:
        return class_index_from_predictor(
            lambda rows: np.full(len(rows), only), labels, bits, seed=seed
        )
    return class_index_from_predictor(
        RidgeClassifier().fit(train[:], labels).predict, labels, bits, seed=seed
    )


def max_fitting_items(train: Features, memory_bytes: int, *, ridge: bool = False) -> int:
    """Returns how many training items fit into the memory while the baselines are fitted to them.

    A quarter of the memory holds the items in their stored dtype. Principal components of n items
    of d dimensions come from a matrix [d, d] or [n, n], the smaller one, and four such matrices are
    held in float64. Ridge regression holds all items three times in float32, in half of the memory.

    Args:
        train: features of the training items.
        memory_bytes: bound on the memory in bytes.
        ridge: whether `class_index` is among the baselines.

    Example:
        >>> max_fitting_items(np.zeros((5, 3), np.float32), memory_bytes=2**30)
        5
    """
    items, dimensions = train.shape
    limits = [items, memory_bytes // 4 // _bytes_per_item(train)]
    largest = math.isqrt(memory_bytes // 32)
    if dimensions > largest:
        limits.append(largest)
    if ridge:
        limits.append(memory_bytes // (24 * dimensions))
    return max(2, min(limits))


def class_index_from_predictor(
    predict: Callable[[Float[np.ndarray, "n dimensions"]], Int[np.ndarray, " n"]],
    labels: Int[np.ndarray, " items"],
    bits: int,
    *,
    seed: int = 0,
) -> HashFunction:
    """Returns a hash function: the code of an item is a random code of its predicted class.

    Args:
        predict: function from features to class ids.
        labels: class ids; there is a code for each id up to the largest one.
        bits: length of a code.
        seed: seed of the codes of the classes.

    Example:
        >>> codes = class_index_from_predictor(lambda rows: np.array([0, 1, 0]), np.array([0, 1]), bits=4)(np.eye(3))
        >>> codes[0].tolist() == codes[2].tolist(), sorted(set(codes.ravel().tolist()))
        (True, [-1.0, 1.0])
    """
    shape = (int(labels.max()) + 1, bits)
    codes = np.random.default_rng(seed).choice(np.array([-1.0, 1.0], np.float32), shape)
    return lambda features: codes[predict(features)]


def describe_stronger_baselines(scores: Mapping[str, Any]) -> list[str]:
    """Lists the unsupervised baselines whose mAP is above that of the learned codes, a line each.

    Args:
        scores: results with ``map`` of the learned codes, and ``baselines``, the scores of each
            baseline by name, if there are any.

    Example:
        >>> describe_stronger_baselines({"map": 0.5, "baselines": {"random hyperplanes": {"map": 0.6}}})
        ['the learned codes have mAP 0.5000, and random hyperplanes without training 0.6000']
    """
    values = {name: scores.get("baselines", {}).get(name, {}).get("map") for name in UNSUPERVISED}
    return [
        f"the learned codes have mAP {scores['map']:.4f}, and {name} without training {value:.4f}"
        for name, value in values.items()
        if value is not None and value > scores["map"]
    ]


def _bytes_per_item(train: Features) -> int:
    return train.bytes_per_item if isinstance(train, LazyVectors) else train[:1].nbytes


def _principal_components(
    train: Features, mean: Float[np.ndarray, " dimensions"], count: int, memory_bytes: int
) -> Float[np.ndarray, "components dimensions"]:
    """Computes unit vectors, the largest variance first, from the smaller matrix of products.

    Its eigenvectors take a fraction of the time of singular vectors.
    """
    items, dimensions = train.shape
    if items >= dimensions:
        covariance = sum(
            centered.T @ centered for _, centered in _centered(train, mean, memory_bytes)
        )
        _, vectors = np.linalg.eigh(covariance)
        return vectors.T[::-1][:count]
    products = np.empty((items, items))
    for rows, centered in _centered(train, mean, memory_bytes):
        for columns, others in _centered(train, mean, memory_bytes):
            products[rows, columns] = centered @ others.T
    _, vectors = np.linalg.eigh(products)
    weights = vectors.T[:0:-1][:count]  # without the last: the centered items add up to zero
    components = sum(
        weights[:, rows] @ centered for rows, centered in _centered(train, mean, memory_bytes)
    )
    return components / np.maximum(np.linalg.norm(components, axis=1, keepdims=True), 1e-12)


def _linear(
    train: Features,
    mean: Float[np.ndarray, " dimensions"],
    projection: Float[np.ndarray, "dimensions bits"],
    memory_bytes: int,
) -> HashFunction:
    """Returns the projection, with the factor that brings its values closest to -1 and +1."""
    projection = projection.astype(np.float32)
    size, squares, count = 0.0, 0.0, len(train) * projection.shape[1]
    for _, block in _blocks(train, memory_bytes):
        values = np.abs((block - mean) @ projection)
        size += np.sum(values, dtype=np.float64)
        squares += np.sum(values**2, dtype=np.float64)
    scale = np.float32((size / count) / (squares / count))
    return lambda features: (features - mean) @ projection * scale


def _mean(train: Features, memory_bytes: int) -> Float[np.ndarray, " dimensions"]:
    """Computes the mean, in the precision of the features."""
    parts = (
        (block.mean(axis=0), len(block) / len(train)) for _, block in _blocks(train, memory_bytes)
    )
    mean = sum(mean.astype(np.float64) * share for mean, share in parts)
    return mean.astype(train[:1].dtype)


def _centered(
    train: Features, mean: Float[np.ndarray, " dimensions"], memory_bytes: int
) -> Iterator[tuple[slice, Float[np.ndarray, "rows dimensions"]]]:
    """Yields the blocks of `_blocks` without the mean, in float64."""
    blocks = _blocks(train, memory_bytes)
    return ((rows, (block - mean).astype(np.float64)) for rows, block in blocks)


def _blocks(
    train: Features, memory_bytes: int
) -> Iterator[tuple[slice, Float[np.ndarray, "rows dimensions"]]]:
    """Yields all rows in order, in one block if half of the memory allows it.

    A block is held twice in float32 and once in float64.
    """
    items, dimensions = train.shape
    numbers = memory_bytes // 32
    step = items if items * dimensions <= numbers else max(1, numbers // 4 // dimensions)
    slices = (slice(at, min(at + step, items)) for at in range(0, items, step))
    return ((rows, train[rows]) for rows in slices)
