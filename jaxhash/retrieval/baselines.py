"""Hash functions of feature vectors that no network learns: what a learned one has to beat.

Those that cut projections return real-valued codes, scaled by the one factor that brings them closest
to -1 and +1, so their quantization error compares with that of learned codes. The scale changes no bit.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

Hash = Callable[[Float[np.ndarray, "n dimensions"]], Float[np.ndarray, "n bits"]]


def random_hyperplanes(
    train: Float[np.ndarray, "items dimensions"], bits: int, *, seed: int = 0
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
    return _linear(train, normals)


def pca_random_rotation(
    train: Float[np.ndarray, "items dimensions"], bits: int, *, seed: int = 0
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
    centred = (train - train.mean(axis=0)).astype(np.float64)
    components = _principal_components(centred)[:bits]
    noise = np.random.default_rng(seed).normal(size=(bits, bits))
    rotation, _ = np.linalg.qr(noise)
    return _linear(train, components.T @ rotation[: len(components)])


def class_index(
    train: Float[np.ndarray, "items dimensions"],
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
    return class_codes(RidgeClassifier().fit(train, labels).predict, labels, bits, seed=seed)


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


def _principal_components(
    centred: Float[np.ndarray, "items dimensions"],
) -> Float[np.ndarray, "components dimensions"]:
    """Unit vectors, the largest variance first, by the smaller of the two matrices of products.

    The eigenvectors of that one are had many times faster than singular vectors.
    """
    items, dimensions = centred.shape
    if items >= dimensions:
        _, vectors = np.linalg.eigh(centred.T @ centred)
        return vectors.T[::-1]
    _, vectors = np.linalg.eigh(centred @ centred.T)
    components = vectors.T[:0:-1] @ centred  # without the last: the centred items add up to zero
    return components / np.maximum(np.linalg.norm(components, axis=1, keepdims=True), 1e-12)


def _linear(train: np.ndarray, projection: np.ndarray) -> Hash:
    mean, projection = train.mean(axis=0), projection.astype(np.float32)
    size = np.abs((train - mean) @ projection)
    scale = np.mean(size, dtype=np.float64) / np.mean(size**2, dtype=np.float64)
    return lambda features: (features - mean) @ projection * np.float32(scale)
