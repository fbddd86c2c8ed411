r"""Sums over very many classes, of scores or of their exponentials, without the matrix of all scores.

The softmax cross-entropy of a row with score :math:`z_y` for its own class y is
:math:`\log(1 + e^{r - z_y})`, where r is the log-sum-exp of the scores of all other classes.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree, Shaped

from jaxhash.ops.meshes import row_groups

#: The number of scores of a block: a few MiB, which fit the cache of a CPU core.
BLOCK_SCORES = 1 << 20

#: The number of classes above which scores are no matrix, and codes of classes no table.
MANY_CLASSES = 1 << 17

#: A score that adds nothing to a sum of exponentials; finite, so that its gradient is too.
_NOTHING = -1e30
Scores = Callable[[PyTree[Shaped[Array, "r ..."]]], Float[Array, "n r"]]


def are_many(classes: int) -> bool:
    """Returns whether scores of so many classes are computed in blocks."""
    return classes > MANY_CLASSES


def other_classes_logsumexp(
    scores: Scores, classes: PyTree[Shaped[Array, "classes ..."]], labels: Int[Array, " n"]
) -> Float[Array, " n"]:
    r"""Computes :math:`\log \sum_{c \ne y_i} e^{z_{ic}}` block by block, in memory of one block.

    In the backward pass the scores of a block are computed again.

    Args:
        scores: function from some of the classes, in the form of the next argument, to their scores.
        classes: what the scores are computed from, with an entry for each class, such as weights.
        labels: class id of each row; -1 leaves no class out.

    Example:
        >>> weights = jnp.log(jnp.array([1.0, 2.0, 3.0]))
        >>> found = other_classes_logsumexp(lambda w: w[None, :], weights, jnp.array([1]))
        >>> jnp.exp(found).round(3).tolist()
        [4.0]
    """

    def add(total, ids, part):
        return jnp.logaddexp(total, _logsumexp(scores(part), ids, labels))

    return _fold_blocks(add, jnp.full(len(labels), _NOTHING), classes)


def other_classes_sum(
    scores: Scores, classes: PyTree[Shaped[Array, "classes ..."]], labels: Int[Array, " n"]
) -> Float[Array, " n"]:
    r"""Computes :math:`\sum_{c \ne y_i} z_{ic}` as `other_classes_logsumexp` does its sum.

    Example:
        >>> found = other_classes_sum(lambda w: w[None, :], jnp.arange(4.0), jnp.array([1]))
        >>> found.tolist()
        [5.0]
    """

    def add(total, ids, part):
        return total + jnp.sum(jnp.where(_are_others(ids, labels), scores(part), 0.0), axis=1)

    return _fold_blocks(add, jnp.zeros(len(labels)), classes)


def sampled_classes_logsumexp(
    scores: Scores,
    classes: PyTree[Shaped[Array, "classes ..."]],
    labels: Int[Array, " n"],
    *,
    key: Key[Array, ""],
    samples: int,
) -> Float[Array, " n"]:
    r"""Estimates `other_classes_logsumexp` from classes that are drawn with replacement.

    .. math:: \log \frac{C}{S} \sum_{s = 1}^S [c_s \ne y_i]\, e^{z_{i c_s}}

    The sum is an unbiased estimate; its logarithm is too small on average, the less so the more
    classes are drawn.

    Args:
        scores: as in `other_classes_logsumexp`.
        classes: as there.
        labels: as there.
        key: the same on all devices, which thus draw the same classes.
        samples: S, the number of classes that are drawn.

    Example:
        >>> found = sampled_classes_logsumexp(
        ...     lambda w: w[None, :], jnp.zeros(10), jnp.array([-1]), key=jax.random.key(0), samples=4
        ... )
        >>> jnp.exp(found).round(3).tolist()  # each of 10 classes counts 1
        [10.0]

    Reference:
        Jean, Cho, Memisevic, Bengio, "On Using Very Large Target Vocabulary for Neural Machine
        Translation", ACL 2015, eq. (8), where scores are corrected by the logarithm of the
        probability of the proposal, here uniform. Departure: the class of the row counts once and
        exactly; it is left out of the draws.
    """
    number = len(jax.tree.leaves(classes)[0])
    # As int32, so that the same are drawn where float64 is enabled.
    drawn = jax.random.randint(key, (samples,), 0, number, jnp.int32)
    part = jax.tree.map(lambda array: array[drawn], classes)
    return _logsumexp(scores(part), drawn, labels) + jnp.log(number / samples)


def _fold_blocks(
    add: Callable[..., Float[Array, " n"]],
    start: Float[Array, " n"],
    classes: PyTree[Shaped[Array, "classes ..."]],
) -> Float[Array, " n"]:
    """Folds blocks of classes into a value of each row; ids below 0 are no classes."""
    number = len(jax.tree.leaves(classes)[0])
    groups = row_groups(number)  # where a mesh spreads the classes, a block has as many of each
    size = max(min(BLOCK_SCORES // max(len(start), 1), number // groups), 1)
    blocks = -(-number // (groups * size))

    def split(array, fill=0):
        shape = array.shape[1:]
        array = array.reshape(groups, -1, *shape)
        padding = ((0, 0), (0, blocks * size - array.shape[1]), *((0, 0),) * len(shape))
        array = jnp.pad(array, padding, constant_values=fill)
        array = jnp.moveaxis(array.reshape(groups, blocks, size, *shape), 1, 0)
        return array.reshape(blocks, groups * size, *shape)

    @jax.checkpoint
    def step(total, block):
        return add(total, *block), None

    blocks_of = split(jnp.arange(number), fill=-1), jax.tree.map(split, classes)
    return lax.scan(step, start, blocks_of)[0]


def _logsumexp(
    scores: Float[Array, "n r"], ids: Int[Array, " r"], labels: Int[Array, " n"]
) -> Float[Array, " n"]:
    """Returns the log-sum-exp of the scores of other classes."""
    return jax.nn.logsumexp(jnp.where(_are_others(ids, labels), scores, _NOTHING), axis=1)


def _are_others(ids: Int[Array, " r"], labels: Int[Array, " n"]) -> Bool[Array, "n r"]:
    """Returns which classes are others than that of each row."""
    return (ids[None, :] >= 0) & (ids[None, :] != labels[:, None])
