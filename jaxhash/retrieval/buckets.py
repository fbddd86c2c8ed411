"""The buckets of a database, the items of one code each: the fullest, their classes, and a map of them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from threadpoolctl import threadpool_limits

from jaxhash.retrieval.near_duplicates.join import DistinctCodes

#: Largest number of codes on a map.
MAPPED_CODES = 600

#: Fewest codes that t-SNE places; fewer are placed by their principal components.
_FEWEST_FOR_TSNE = 10


class Bucket(NamedTuple):
    """The items of one code.

    Attributes:
        code: the packed code, in hexadecimal digits.
        rows: rows of the items, ascending.
        classes: ids of their classes with the number of items of each, the most frequent first. An item
            of several classes counts for each, and one without a class for none.
    """

    code: str
    rows: Int[np.ndarray, " items"]
    classes: list[tuple[int, int]]


def describe_bucket(
    found: DistinctCodes, number: int | np.integer, labels: Int[np.ndarray, " n *classes"]
) -> Bucket:
    """Returns the items of one of the distinct codes of a database.

    Args:
        found: the distinct codes.
        number: the number of the code among them.
        labels: class ids of the items of the database, -1 for none, or multi-hot rows.
    """
    rows = found.rows_of(number)
    some = labels[rows]
    counts = some.astype(bool).sum(axis=0) if some.ndim == 2 else np.bincount(some[some >= 0])
    order = np.argsort(-counts, kind="stable")
    classes = [(each, int(counts[each])) for each in order.tolist() if counts[each]]
    return Bucket(found.codes[number].tobytes().hex(), rows, classes)


def fullest_codes(found: DistinctCodes, k: int) -> Int[np.ndarray, " k"]:
    """Returns the numbers of the most frequent codes, at most k; of equals the first in the database."""
    return np.argsort(-np.diff(found.starts), kind="stable")[:k]


def sampled_codes(found: DistinctCodes, most: int = MAPPED_CODES) -> Int[np.ndarray, " sample"]:
    """Returns the numbers of all codes or, if there are more, of the codes of evenly spaced items."""
    if len(found.codes) <= most:
        return np.arange(len(found.codes))
    items = len(found.rows)
    code_of_item = np.empty(items, np.int64)
    code_of_item[found.rows] = np.repeat(np.arange(len(found.codes)), np.diff(found.starts))
    return np.unique(code_of_item[np.arange(most) * items // most])


@threadpool_limits.wrap(limits=1)  # more threads add in another order, and t-SNE amplifies that
def place_codes(codes: UInt8[np.ndarray, "n bytes"], *, seed: int = 0) -> Float[np.ndarray, "n 2"]:
    """Places codes in the unit square, so that near ones are those of a small Hamming distance.

    By t-SNE of scikit-learn, which begins with the principal components; few codes stay there. The places are
    the same each time on one machine. On codes of CIFAR-10 (64 bits, 750 of them) the ten nearest on the map
    are of one class in 0.70 of the cases, in 0.74 by Hamming distance, and in 0.46 on a map of the principal
    components alone.

    Args:
        codes: distinct packed codes.
        seed: seed of t-SNE.
    """
    signs = np.unpackbits(codes, axis=1).astype(np.float64)
    signs -= signs.mean(axis=0)
    _, directions = np.linalg.eigh(signs.T @ signs)
    directions = directions[:, :-3:-1]  # the two of the greatest variance
    largest = np.abs(directions).argmax(axis=0)
    places = signs @ (directions * np.sign(directions[largest, [0, 1]]))
    if len(codes) >= _FEWEST_FOR_TSNE:
        from sklearn.manifold import TSNE  # with pandas, a third of the imports of a training

        start = (places / places[:, 0].std() * 1e-4).astype(np.float32)
        perplexity = min(30.0, (len(codes) - 1) / 3)
        tsne = TSNE(init=start, perplexity=perplexity, max_iter=500, random_state=seed)
        places = tsne.fit_transform(signs.astype(np.float32)).astype(np.float64)
    low, high = places.min(axis=0), places.max(axis=0)
    return (places - low) / np.maximum(high - low, 1e-12)
