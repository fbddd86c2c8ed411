"""Codes that hold nothing but a class, which a classifier predicts: what mAP alone cannot tell from hashing."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from jaxhash.retrieval.baselines.training_vectors import Features

HashFunction = Callable[[Float[np.ndarray, "n dimensions"]], Float[np.ndarray, "n bits"]]


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
