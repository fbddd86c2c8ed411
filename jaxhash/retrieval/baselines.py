"""Hash functions of feature vectors that no network learns: what a learned one has to beat.

Those that cut projections return real-valued codes, scaled by the one factor that brings them closest
to -1 and +1, so their quantization error compares with that of learned codes. The scale changes no bit.

They are fitted to training features that are an array, or `Vectors` that are read block by block;
``memory_bytes`` bounds what is held besides. `fitting_sample` says how many items it allows.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jaxhash.retrieval.vectors import Vectors

#: Names of those that see no labels, in the results of a run.
UNTRAINED = ("random hyperplanes", "PCA + random rotation")

Features = Vectors | Float[np.ndarray, "items dimensions"]
Hash = Callable[[Float[np.ndarray, "n dimensions"]], Float[np.ndarray, "n bits"]]


def random_hyperplanes(
    train: Features, bits: int, *, seed: int = 0, memory_bytes: int = 2**30
) -> Hash:
    """Sides of random hyperplanes through the mean of the training features (LSH).

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
) -> Hash:
    """Signs of randomly rotated principal components of the training features.

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
) -> Hash:
    """The class that ridge regression predicts, each class written as a random code.

    Nothing but a class id is stored, and by mAP such codes beat much of what is published as
    hashing. Codes that say more than the class rank the other classes too.

    Args:
        train: features of the training items.
        labels: their class ids.
        bits: length of a code.
        seed: seed of the codes of the classes.

    Reference:
        Sablayrolles, Douze, Usunier, Jégou, "How should we evaluate supervised hashing?", 2017,
        whose classifier is a network. Ridge regression, by scikit-learn, is a choice of this
        library: it takes seconds.

    Example:
        >>> features = np.eye(4, dtype=np.float32)
        >>> class_index(features, np.array([0, 1, 0, 1]), bits=16)(features).shape
        (4, 16)
    """
    from sklearn.linear_model import RidgeClassifier

    only, *others = np.unique(labels)
    if not others:
        return class_codes(lambda rows: np.full(len(rows), only), labels, bits, seed=seed)
    return class_codes(RidgeClassifier().fit(train[:], labels).predict, labels, bits, seed=seed)


def fitting_sample(train: Features, memory_bytes: int, *, ridge: bool = False) -> int:
    """How many training items the baselines are fitted to: all of them, if the memory allows it.

    A quarter of it holds them as they are. Principal components of n items of d dimensions are those
    of a matrix [d, d] or [n, n], the smaller, and four such are held in float64. Ridge regression
    holds all items three times in float32, for which it has the half.

    Args:
        train: the training items.
        memory_bytes: bound on what is held.
        ridge: whether `class_index` is among the baselines.

    Example:
        >>> fitting_sample(np.zeros((5, 3), np.float32), memory_bytes=2**30)
        5
    """
    items, dimensions = train.shape
    limits = [items, memory_bytes // 4 // _item_bytes(train)]
    largest = math.isqrt(memory_bytes // 32)
    if dimensions > largest:
        limits.append(largest)
    if ridge:
        limits.append(memory_bytes // (24 * dimensions))
    return max(2, min(limits))


def class_codes(
    predict: Callable[[Float[np.ndarray, "n dimensions"]], Int[np.ndarray, " n"]],
    labels: Int[np.ndarray, " items"],
    bits: int,
    *,
    seed: int = 0,
) -> Hash:
    """The class that a function predicts, each of the classes that ``labels`` names a random code.

    Example:
        >>> codes = class_codes(lambda rows: np.array([0, 1, 0]), np.array([0, 1]), bits=4)(np.eye(3))
        >>> codes[0].tolist() == codes[2].tolist(), sorted(set(codes.ravel().tolist()))
        (True, [-1.0, 1.0])
    """
    shape = (int(labels.max()) + 1, bits)
    codes = np.random.default_rng(seed).choice(np.array([-1.0, 1.0], np.float32), shape)
    return lambda features: codes[predict(features)]


def lost_to(scores: Mapping[str, Any]) -> list[str]:
    """The baselines without labels whose mAP is above that of the learned codes, a sentence each.

    Args:
        scores: ``map`` of the learned codes, and ``baselines`` with those of each, if there are any.

    Example:
        >>> lost_to({"map": 0.5, "baselines": {"random hyperplanes": {"map": 0.6}}})
        ['the learned codes have mAP 0.5000, and random hyperplanes without training 0.6000']
    """
    found = {name: scores.get("baselines", {}).get(name, {}).get("map") for name in UNTRAINED}
    return [
        f"the learned codes have mAP {scores['map']:.4f}, and {name} without training {value:.4f}"
        for name, value in found.items()
        if value is not None and value > scores["map"]
    ]


def _item_bytes(train: Features) -> int:
    return train.item_bytes if isinstance(train, Vectors) else train[:1].nbytes


def _principal_components(
    train: Features, mean: Float[np.ndarray, " dimensions"], most: int, memory_bytes: int
) -> Float[np.ndarray, "components dimensions"]:
    """Unit vectors, the largest variance first, by the smaller of the two matrices of products.

    The eigenvectors of that one are had many times faster than singular vectors.
    """
    items, dimensions = train.shape
    if items >= dimensions:
        covariance = sum(centred.T @ centred for _, centred in _centered(train, mean, memory_bytes))
        _, vectors = np.linalg.eigh(covariance)
        return vectors.T[::-1][:most]
    products = np.empty((items, items))
    for rows, centred in _centered(train, mean, memory_bytes):
        for columns, others in _centered(train, mean, memory_bytes):
            products[rows, columns] = centred @ others.T
    _, vectors = np.linalg.eigh(products)
    weights = vectors.T[:0:-1][:most]  # without the last: the centred items add up to zero
    components = sum(
        weights[:, rows] @ centred for rows, centred in _centered(train, mean, memory_bytes)
    )
    return components / np.maximum(np.linalg.norm(components, axis=1, keepdims=True), 1e-12)


def _linear(
    train: Features,
    mean: Float[np.ndarray, " dimensions"],
    projection: Float[np.ndarray, "dimensions bits"],
    memory_bytes: int,
) -> Hash:
    projection = projection.astype(np.float32)
    size, squares, count = 0.0, 0.0, len(train) * projection.shape[1]
    for _, block in _blocks(train, memory_bytes):
        values = np.abs((block - mean) @ projection)
        size += np.sum(values, dtype=np.float64)
        squares += np.sum(values**2, dtype=np.float64)
    scale = np.float32((size / count) / (squares / count))
    return lambda features: (features - mean) @ projection * scale


def _mean(train: Features, memory_bytes: int) -> Float[np.ndarray, " dimensions"]:
    """The mean, in the precision of the features."""
    parts = (
        (block.mean(axis=0), len(block) / len(train)) for _, block in _blocks(train, memory_bytes)
    )
    mean = sum(mean.astype(np.float64) * share for mean, share in parts)
    return mean.astype(train[:1].dtype)


def _centered(
    train: Features, mean: Float[np.ndarray, " dimensions"], memory_bytes: int
) -> Iterator[tuple[slice, Float[np.ndarray, "rows dimensions"]]]:
    blocks = _blocks(train, memory_bytes)
    return ((rows, (block - mean).astype(np.float64)) for rows, block in blocks)


def _blocks(
    train: Features, memory_bytes: int
) -> Iterator[tuple[slice, Float[np.ndarray, "rows dimensions"]]]:
    """All rows in order: whole where half of the memory holds them in float32, twice, and float64."""
    items, dimensions = train.shape
    numbers = memory_bytes // 32
    step = items if items * dimensions <= numbers else max(1, numbers // 4 // dimensions)
    slices = (slice(at, min(at + step, items)) for at in range(0, items, step))
    return ((rows, train[rows]) for rows in slices)
