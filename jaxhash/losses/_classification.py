"""Losses of labels: classifiers on codes, class proxies, scatter, and penalties of such methods.

Labels are rows of weights, one per class; `jaxhash.similarity.multi_hot` makes them. A row without
a label counts as masked.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Shaped

from jaxhash.losses._common import Reduce, check_codes, check_pairs, inverse_pair_count
from jaxhash.ops.arguments import as_floating, as_mask, as_real, check_shape, concrete_values
from jaxhash.ops.collectives import masked_mean, psum_local_grad, psum_no_grad
from jaxhash.ops.meshes import on_any_mesh
from jaxhash.ops.numerics import at_least_float32, cosine_similarity, normalize_rows


@on_any_mesh
def cross_entropy(
    logits: Float[Array, "n classes"],
    labels: Shaped[ArrayLike, "n classes"],
    *,
    weights: Shaped[ArrayLike, " n"] | None = None,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Softmax cross-entropy; the labels of a row share its weight evenly.

    .. math:: L = -\frac1N \sum_{i=1}^N \sum_c \frac{y_{ic}}{\sum_{c'} y_{ic'}}
                  \log \operatorname{softmax}_c(a_i)

    With one label per row it is the usual cross-entropy. With several, its minimum is not 0 but the
    mean entropy of the labels: log k for a row of k labels, when all k are equally likely.

    Args:
        logits: scores a of the classes.
        labels: multi-hot rows y, or other non-negative weights.
        weights: weight of each row, 0 or more; the loss is then a weighted mean of the rows.
        where: True for the valid rows. N counts the valid rows with a label.

    Example:
        >>> logits = jnp.log(jnp.array([[1.0, 1.0, 2.0], [1.0, 1.0, 2.0]]))
        >>> labels = jnp.array([[1, 1, 0], [0, 0, 1]])
        >>> cross_entropy(logits, labels).round(4)  # (log 4 + log 2) / 2
        Array(1.0397, dtype=float32)

    Reference:
        Soft labels y / sum y are common for images of several classes, as in cisip-FIRe. Other
        collections take the argmax of a multi-hot row, which keeps its first label only.
    """
    logits, labels, where = _check_labels(logits, labels, where)
    shares = labels / jnp.maximum(jnp.sum(labels, axis=1, keepdims=True), _TINY)
    highest = lax.stop_gradient(jnp.max(logits, axis=1, keepdims=True))
    below = logits - highest
    cost = jnp.log(jnp.sum(jnp.exp(below), axis=1)) - jnp.sum(shares * below, axis=1)
    if weights is None:
        return masked_mean(cost, where, axis_name)
    weights = as_real("weights", weights, cost.shape, minimum=0.0).astype(cost.dtype)
    weights = jnp.where(where, jnp.maximum(weights, 0.0), 0.0)
    total = psum_no_grad(jnp.sum(weights), axis_name)
    share = jnp.sum(jnp.where(where, weights * cost, 0.0)) / jnp.where(total > 0, total, 1.0)
    return psum_local_grad(share, axis_name)


@on_any_mesh
def binary_cross_entropy(
    logits: Float[Array, "n classes"],
    labels: Shaped[ArrayLike, "n classes"],
    *,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Logistic cross-entropy of each class, averaged over classes.

    .. math:: L = \frac1{N C} \sum_{i=1}^N \sum_{c=1}^C
                  \big[\log(1 + e^{a_{ic}}) - y_{ic}\, a_{ic}\big]

    Args:
        logits: scores a of the classes.
        labels: multi-hot rows y.
        where: True for the valid rows. N counts the valid rows with a label: a row of zeros means
            "no label", not "none of these classes".

    Example:
        >>> logits = jnp.log(jnp.array([[3.0, 1.0]]))  # probabilities 3/4 and 1/2
        >>> binary_cross_entropy(logits, jnp.array([[1, 0]])).round(4)  # log(4/3 * 2) / 2
        Array(0.4904, dtype=float32)

    Reference:
        Departure: a mean over classes too, so that a weight does not depend on their number.
    """
    labels = as_mask("labels", labels, (None, None))
    logits, labels, where = _check_labels(logits, labels, where)
    cost = jax.nn.softplus(
        jnp.where(labels > 0, -logits, logits)
    )  # avoids the difference of two large numbers
    return masked_mean(jnp.mean(cost, axis=1), where, axis_name)


@on_any_mesh
def hash_proxy(
    codes: Float[Array, "n bits"],
    proxies: Float[Array, "classes bits"],
    labels: Shaped[ArrayLike, "n classes"],
    *,
    temperature: float | Float[Array, ""] = 0.2,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Cross-entropy of the cosines between codes and class proxies.

    This is `cross_entropy` with :math:`a_{ic} = \cos(h_i, p_c) / \tau`.

    Args:
        codes: relaxed codes h.
        proxies: the proxy p of each class, the same on all devices. Their gradient is this device's
            share.
        labels: multi-hot rows.
        temperature: :math:`\tau`.
        where: True for the valid rows. N counts the valid rows with a label.

    Raises:
        ValueError: if the temperature is a number that is not above 0.

    Example:
        >>> codes, proxies = jnp.array([[3.0, 0.0]]), jnp.array([[1.0, 0.0], [0.0, 5.0]])
        >>> labels = jnp.array([[1, 0]])
        >>> loss = hash_proxy(codes, proxies, labels, temperature=1.0)
        >>> f"{loss:.4f}"  # log(1 + 1/e)
        '0.3133'

    Reference:
        The hash proxy loss of Jang, Gu, Ko, Kang, Cho, "Deep Hash Distillation for Image Retrieval"
        (DHD), ECCV 2022, after its released code. That code divides the caller's labels in place,
        and a row without a label becomes NaN.
    """
    codes, where = check_codes(codes, where)
    proxies = at_least_float32(as_floating("proxies", proxies, ndim=2))
    check_shape("proxies", proxies, (len(proxies), codes.shape[1]))
    value = concrete_values(temperature)
    if value is not None and not value > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    labels = as_mask("labels", labels, (len(codes), len(proxies)))
    scores = cosine_similarity(codes, proxies) / temperature
    return cross_entropy(scores, labels, where=where, axis_name=axis_name)


@on_any_mesh
def cosine_distillation(
    codes: Float[Array, "n bits"],
    teacher: Float[Array, "n bits"],
    *,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""One minus the cosine between each code and the code of a teacher.

    .. math:: L = \frac1N \sum_{i=1}^N \big[1 - \cos(h_i, t_i)\big]

    No gradient flows to the teacher. A row of zeros costs 1.

    Args:
        codes: codes h of the student.
        teacher: codes t of the teacher, row by row.

    Example:
        >>> codes = jnp.array([[1.0, 1.0], [1.0, 1.0]])
        >>> teacher = jnp.array([[2.0, 2.0], [1.0, -1.0]])  # cosines 1 and 0
        >>> cosine_distillation(codes, teacher).round(4)
        Array(0.5, dtype=float32)

    Reference:
        Self-distilled hashing of Jang, Gu, Ko, Kang, Cho, "Deep Hash Distillation for Image
        Retrieval" (DHD), ECCV 2022.
    """
    codes, where = check_codes(codes, where)
    teacher = lax.stop_gradient(at_least_float32(as_floating("teacher", teacher, ndim=2)))
    check_shape("teacher", teacher, codes.shape)
    if where is not None:
        teacher = jnp.where(where[:, None], teacher, 0.0)
    cosine = jnp.sum(normalize_rows(codes) * normalize_rows(teacher), axis=1)
    return masked_mean(1.0 - cosine, where, axis_name)


@on_any_mesh
def bernoulli_kl_per_code(
    codes: Float[Array, "n bits"],
    *,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
    reduce_fn: Reduce | None = jnp.sum,
) -> Float[Array, "..."]:
    r"""Divergence of each code, as independent Bernoulli bits, from fair bits.

    With :math:`q = 1 / (1 + e^{-u})` the probability that a bit is +1,

    .. math:: L_j = \frac1N \sum_{i=1}^N \mathrm{KL}\big(\mathrm{Bern}(q_{ij}) \,\|\,
              \mathrm{Bern}(\tfrac12)\big)
              = \frac1N \sum_{i=1}^N \big[\log 2 + q_{ij} \log q_{ij}
              + (1 - q_{ij}) \log(1 - q_{ij})\big],

    from 0 at u = 0 to log 2 for large codes. It draws each code towards 0 separately, which limits
    the information per bit, and does not balance the batch.

    Args:
        codes: logits of the bits. Rows are the batch.
        reduce_fn: reduction over bits; the default, a sum, is the divergence of whole codes.

    Example:
        >>> codes = jnp.array([[0.0, 99.0, jnp.log(3.0)]])  # 0, log 2, log 2 less H(1/4)
        >>> bernoulli_kl_per_code(codes, reduce_fn=None).round(4)
        Array([0.    , 0.6931, 0.1308], dtype=float32)

    Reference:
        Shen et al., "Embarrassingly Simple Binary Representation Learning" (JMLH),
        ICCV Workshops 2019, after its released code, whose logarithms are infinite where q is 0 or
        1 in float32. This form is finite everywhere.
    """
    codes, where = check_codes(codes, where)
    # With t = e^-|u| the entropy of the bit is log(1 + t) + |u| t / (1 + t).
    size = jnp.abs(codes)
    tail = jnp.exp(-size)
    cost = jnp.log(2.0) - jnp.log1p(tail) - size * (tail / (1.0 + tail))
    loss = masked_mean(cost, where, axis_name)
    return loss if reduce_fn is None else reduce_fn(loss)


@on_any_mesh
def variance_shortfall(
    codes: Float[Array, "n bits"],
    *,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
    reduce_fn: Reduce | None = jnp.mean,
) -> Float[Array, "..."]:
    r"""One minus the variance of each bit; a balanced bit of -1 and +1 has variance 1.

    .. math:: L_j = 1 - \frac1N \sum_{i=1}^N (h_{ij} - \bar h_j)^2

    Args:
        codes: codes in [-1, 1]; for unbounded codes the loss has no lower bound.

    Example:
        >>> codes = jnp.array([[1.0, 0.5, 1.0], [-1.0, -0.5, 1.0]])
        >>> variance_shortfall(codes, reduce_fn=None)
        Array([0.  , 0.75, 1.  ], dtype=float32)

    Reference:
        The variance term of Liong, Lu, Wang, Moulin, Zhou, "Deep Hashing for Compact Binary Codes
        Learning", CVPR 2015, from memory of the paper; the text was not at hand. Departures: the
        variance is subtracted from 1, averaged over bits instead of summed, and always centered.
        Without centering, as in a later collection, a bit that is +1 on every image scores best.
    """
    codes, where = check_codes(codes, where)
    # The mean may be a constant: it minimizes the sum of squares, so its gradient is 0.
    centered = codes - lax.stop_gradient(masked_mean(codes, where, axis_name))[None, :]
    loss = masked_mean(1.0 - centered**2, where, axis_name)
    return loss if reduce_fn is None else reduce_fn(loss)


@on_any_mesh
def pair_scatter(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similar: Shaped[ArrayLike, "n m"],
    *,
    where: Shaped[ArrayLike, "n m"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Scatter of similar pairs minus the scatter of dissimilar pairs.

    .. math:: L = \frac1{2\,\mathrm{bits}} \Big[
              \operatorname{mean}_{s_{ij}=1} \lVert h_i - h_j \rVert^2
              - \operatorname{mean}_{s_{ij}=0} \lVert h_i - h_j \rVert^2 \Big]

    A kind of pair that does not occur contributes 0. For codes of -1 and +1 the loss is twice the
    difference of the mean Hamming distances divided by bits: between -2 and 2.

    Args:
        codes: codes in [-1, 1]; for unbounded codes the loss has no lower bound.

    Example:
        >>> codes = jnp.array([[1.0, 1.0]])
        >>> others = jnp.array([[1.0, 0.0], [-1.0, -1.0]])  # squared distances 1 and 8
        >>> pair_scatter(codes, others, jnp.array([[True, False]]))
        Array(-1.75, dtype=float32)

    Reference:
        The supervised term of Liong, Lu, Wang, Moulin, Zhou, "Deep Hashing for Compact Binary Codes
        Learning", CVPR 2015, from memory of the paper; the text was not at hand. Departures: the
        trace is a mean over bits, and is computed from distances; a later collection stores a
        tensor of pairs by bits by bits.
    """
    codes, others, similar, where = check_pairs(codes, others, similar, where)
    valid = jnp.ones_like(similar) if where is None else where
    positive, negative = (
        pairs.astype(codes.dtype) * inverse_pair_count(pairs, axis_name)
        for pairs in (valid & similar, valid & ~similar)
    )
    # sum_ij w_ij |h_i - h_j|^2 without the matrix of the distances.
    weights = (positive - negative) / (2 * codes.shape[1])
    weighted = jnp.matmul(weights, others, precision=lax.Precision.HIGHEST)
    row_term = jnp.sum(jnp.sum(weights, axis=1) * jnp.sum(codes**2, axis=1))
    column_term = jnp.sum(jnp.sum(weights, axis=0) * jnp.sum(others**2, axis=1))
    return psum_local_grad(row_term + column_term - 2.0 * jnp.sum(codes * weighted), axis_name)


#: The smallest normal float32, which keeps sums of labels away from 0.
_TINY = float(jnp.finfo(jnp.float32).tiny)


def _check_labels(
    logits: Float[Array, "n classes"],
    labels: Shaped[ArrayLike, "n classes"],
    where: Shaped[ArrayLike, " n"] | None,
) -> tuple[Float[Array, "n classes"], Float[Array, "n classes"], Bool[Array, " n"]]:
    """Returns the checked logits and labels in the accumulation dtype, and the rows that count.

    All other rows are set to 0.
    """
    logits = at_least_float32(as_floating("logits", logits, ndim=2))
    labels = as_real("labels", labels, logits.shape, minimum=0.0).astype(logits.dtype)
    labels = jnp.maximum(labels, 0.0)  # negative weights cannot be refused in traced labels
    where = as_mask("where", where, logits.shape[:1])
    if where is not None:
        labels = jnp.where(where[:, None], labels, 0.0)
    where = jnp.any(labels != 0, axis=1)
    return jnp.where(where[:, None], logits, 0.0), labels, where
