"""Losses of variational hashing of documents: the likelihood of their words, and pairs of codes."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Shaped

from jaxhash.losses._common import check_codes
from jaxhash.ops.arguments import as_floating, as_mask, as_real
from jaxhash.ops.collectives import masked_mean, psum_local_grad
from jaxhash.ops.meshes import on_any_mesh
from jaxhash.ops.numerics import at_least_float32, normalize_rows


@on_any_mesh
def word_nll(
    logits: Float[Array, "n words"],
    counts: Float[ArrayLike, "n words"],
    *,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Negative log-likelihood of the words of documents, each of which is drawn by a softmax.

    .. math:: L = -\frac1N \sum_{i=1}^N \sum_w t_{iw} \log \operatorname{softmax}_w(a_i)

    Args:
        logits: scores a of the words, such as those of a decoder of codes.
        counts: counts t of the words, or other weights of at least 0, such as tf-idf rows. A
            document without words costs nothing.

    Example:
        >>> logits = jnp.log(jnp.array([[1.0, 1.0, 2.0]]))
        >>> word_nll(logits, jnp.array([[2.0, 0.0, 1.0]])).round(4)  # 2 log 4 + log 2
        Array(3.4657, dtype=float32)

    Reference:
        The reconstruction term of Dadaneh, Boluki, Yin, Zhou, Qian, "Pairwise Supervised Hashing
        with Bernoulli Variational Auto-Encoder and Self-Control Gradient Estimator", UAI 2020,
        section 3 (read in the paper), where t are tf-idf weights; and of VDSH and NASH.
    """
    logits = at_least_float32(as_floating("logits", logits, ndim=2))
    where = as_mask("where", where, logits.shape[:1])
    as_floating("counts", counts, ndim=2)
    counts = as_real("counts", counts, logits.shape, minimum=0.0).astype(logits.dtype)
    if where is not None:
        logits, counts = (jnp.where(where[:, None], each, 0.0) for each in (logits, counts))
    return masked_mean(word_costs(logits, counts), where, axis_name)


def word_costs(logits: Float[Array, "n words"], counts: Float[Array, "n words"]):
    """Returns the negative log-likelihood of the words of each document; see `word_nll`.

    Returns:
        Costs [n].
    """
    highest = jax.lax.stop_gradient(jnp.max(logits, axis=1, keepdims=True))
    below = logits - highest
    normalizer = jnp.log(jnp.sum(jnp.exp(below), axis=1))
    return jnp.sum(counts, axis=1) * normalizer - jnp.sum(counts * below, axis=1)


@on_any_mesh
def psh_pairs(
    codes: Float[Array, "n bits"],
    labels: Shaped[ArrayLike, "n classes"],
    *,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Squared distances within classes less those between classes, over all pairs of the batch.

    .. math:: L = \frac1{N^2} \sum_{i,j=1}^N (2 s_{ij} - 1)\, \| h_i - h_j \|^2,
              \qquad s_{ij} = \frac{y_i \cdot y_j}{\|y_i\| \|y_j\|}

    With a label each, s is 1 for a pair of one class and else 0. The sums over classes and over all
    rows give it at a cost linear in N: with :math:`Q = \sum_i \|h_i\|^2`, :math:`S = \sum_i h_i`,
    and of each class the same sums with the weights :math:`y_{ic} / \|y_i\|`,

    .. math:: N^2 L = 2 \sum_c 2 \big(n_c Q_c - \|S_c\|^2\big) - 2 \big(N Q - \|S\|^2\big).

    For codes that are not bounded it has no minimum; the method has probabilities of bits.

    Args:
        codes: codes h, such as the probabilities of bits.
        labels: multi-hot rows y.
        where: True for the valid rows. N counts the valid rows with a label.

    Example:
        >>> h = jnp.array([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])  # squares 1, 2 and 1
        >>> loss = psh_pairs(h, jnp.array([[1, 0], [1, 0], [0, 1]]))
        >>> f"{loss:.4f}"  # 2 (1 - 2 - 1) / 9
        '-0.4444'

    Reference:
        The pairwise term L'' of Dadaneh et al., UAI 2020, section 3 (read in the paper): the distance
        of the means of two documents, with the sign of whether their classes agree. Departures: the
        paper leaves the distance open, here it is the squared Euclidean one, which is what makes the
        cost linear (derived); all pairs of the batch rather than those of two batches; and documents
        of several classes, which it does not treat, by the cosine of their labels (a reading of
        ours). Its released code multiplies all pairs by one factor, so that the labels do not
        matter; this is the paper's form.
    """
    codes, where = check_codes(codes, where)
    labels = as_mask("labels", labels, (codes.shape[0], None)).astype(codes.dtype)
    if where is not None:
        labels = jnp.where(where[:, None], labels, 0.0)
    labels = normalize_rows(labels)
    valid = jnp.any(labels > 0, axis=1)
    count = psum_local_grad(jnp.sum(valid.astype(codes.dtype)), axis_name)
    # Distances do not change with the origin; around the mean the sums cancel less.
    mean = jax.lax.stop_gradient(masked_mean(codes, valid, axis_name))
    rows = jnp.where(valid[:, None], codes - mean[None, :], 0.0)
    squares = jnp.sum(rows * rows, axis=1)
    highest = jax.lax.Precision.HIGHEST
    of_all = _scatter(count, jnp.sum(squares), jnp.sum(rows, axis=0)[None, :], axis_name)
    of_classes = _scatter(
        psum_local_grad(jnp.sum(labels, axis=0), axis_name),
        jnp.matmul(squares, labels, precision=highest),
        jnp.matmul(labels.T, rows, precision=highest),
        axis_name,
    )
    return (2.0 * of_classes - of_all) / jnp.maximum(count, 1.0) ** 2


def _scatter(
    count: Float[Array, "*classes"],
    squares: Float[Array, "*classes"],
    sums: Float[Array, "classes bits"],
    axis_name: str | None,
) -> Float[Array, ""]:
    """Returns the weighted sum of squared distances of all ordered pairs within each class."""
    squares, sums = (psum_local_grad(each, axis_name) for each in (squares, sums))
    return 2.0 * (jnp.sum(count * squares) - jnp.sum(sums * sums))
