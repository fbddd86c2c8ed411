"""Losses of the ranking of columns by their distance to an anchor: triplets and histograms."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Shaped

from jaxhash.losses._common import check_pairs
from jaxhash.ops.collectives import masked_mean, psum_local_grad, psum_no_grad
from jaxhash.ops.meshes import on_any_mesh
from jaxhash.ops.numerics import inner_products, inner_products_or_inf


@on_any_mesh
def dtsh(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similar: Shaped[ArrayLike, "n m"],
    *,
    margin: float | None = None,
    where: Shaped[ArrayLike, "n m"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Negative log-likelihood of triplets, with a margin between both kinds of pairs (DTSH).

    .. math:: L = \operatorname{mean}_{(a,p,n)} \log\big(1 + e^{-(\theta_{ap} - \theta_{an}
              - \alpha)}\big), \qquad \theta_{ij} = \tfrac12\, u_i \cdot v_j,

    over all triplets of an anchor a, a column p similar to a and a column n dissimilar to a. The
    rows are the anchors; an anchor without one of both kinds has no triplet. The computation loops
    over p, and compares each with all n at once.

    Args:
        codes: raw outputs of the network.
        margin: alpha; bits / 2 by default.

    Returns:
        The loss; 0 without a triplet.

    Example:
        >>> u, v = jnp.array([[2.0]]), jnp.array([[1.0], [-1.0]])
        >>> loss = dtsh(u, v, jnp.array([[True, False]]), margin=2.0)
        >>> round(float(loss), 4)  # log 2: the gap is 1 - -1, the margin
        0.6931

    Reference:
        Wang, Shi, Kitani, "Deep supervised hashing with triplet labels" (DTSH), ACCV 2016. The
        margin is that of the authors' code. Departures: a mean over all triplets of the batch,
        where that code samples the same number of triplets per image from a bank; and a gradient
        through all three codes, where that code differentiates the anchor only. PyTorch ports
        (DeepHash-pytorch, FIRe) have :math:`\theta = u_i \cdot v_j` without the factor 1/2 and a
        margin of 5 for every code length: this is exactly this loss for codes times :math:`\sqrt 2`
        with margin 5. They average over the triplets of an anchor first and then over anchors, so
        all anchors have equal weight; they count an item as similar to itself; and they clip the
        gap at -100 and 50, beyond which there is no gradient.
    """
    codes, others, similar, where = check_pairs(codes, others, similar, where)
    theta = 0.5 * inner_products(codes, others)
    positive, negative = _split_pairs(similar, where)
    margin = codes.shape[1] / 2 if margin is None else margin

    total = _sum_over_triplets(theta, positive, negative, jnp.asarray(margin, theta.dtype))
    triplets = _count_columns(positive, theta.dtype) * _count_columns(negative, theta.dtype)
    triplets = psum_no_grad(jnp.sum(triplets), axis_name)
    return psum_local_grad(total / jnp.maximum(triplets, 1.0), axis_name)


@jax.custom_jvp
def _sum_over_triplets(
    theta: Float[Array, "n m"],
    positive: Bool[Array, "n m"],
    negative: Bool[Array, "n m"],
    margin: Float[Array, ""],
) -> Float[Array, ""]:
    """Sums log(1 + exp(theta_an - theta_ap + margin)) over all triplets."""
    return _triplet_sum_and_grad(theta, positive, negative, margin)[0]


@_sum_over_triplets.defjvp
def _sum_over_triplets_jvp(primals, tangents):
    total, grad = _triplet_sum_and_grad(*primals)
    margin_grad = jnp.sum(jnp.where(primals[2], grad, 0.0))
    return total, jnp.sum(grad * tangents[0]) + margin_grad * tangents[3]


def _triplet_sum_and_grad(theta, positive, negative, margin):
    """Returns the sum and its gradient in theta; step k uses the k-th similar columns.

    They are found and read by comparisons, since a TPU does gathers and scatters one by one.
    """
    columns, none = jnp.arange(theta.shape[1], dtype=jnp.int32)[None, :], theta.shape[1]

    def step(_, carry):
        total, grad, before = carry
        left = positive & (columns > before[:, None])
        column = jnp.min(jnp.where(left, columns, none), axis=1, initial=none)
        chosen = columns == column[:, None]
        logits = theta - jnp.sum(jnp.where(chosen, theta, 0.0), axis=1, keepdims=True) + margin
        valid = negative & (column < none)[:, None]
        tail = jnp.exp(-jnp.abs(logits))  # shared by value and derivative
        loss = jnp.maximum(logits, 0.0) + jnp.log1p(tail)
        sigmoid = jnp.where(valid, jnp.where(logits >= 0, 1.0, tail) / (1.0 + tail), 0.0)
        of_chosen = jnp.sum(sigmoid, axis=1, keepdims=True)
        grad = grad + sigmoid - jnp.where(chosen, of_chosen, 0.0)
        return total + jnp.sum(jnp.where(valid, loss, 0.0)), grad, column

    steps = jnp.max(jnp.sum(positive, axis=1), initial=0)
    before = jnp.full_like(theta, -1, shape=len(theta), dtype=jnp.int32)
    start = jnp.full_like(theta, 0, shape=()), jnp.zeros_like(theta), before
    return lax.fori_loop(0, steps, step, start)[:2]


@on_any_mesh
def mihash(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similar: Shaped[ArrayLike, "n m"],
    *,
    where: Shaped[ArrayLike, "n m"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Negative mutual information of Hamming distance and similarity (MIHash).

    .. math:: L = -\operatorname{mean}_a I_a(D; C), \qquad I(D; C) = H(D) - H(D \mid C),

    where D is the distance from anchor a (a row) to a column, in 0 ... bits, and C tells whether
    the column is similar. The distance :math:`(\mathrm{bits} - u_a \cdot v_j) / 2` of relaxed codes
    is assigned to the two nearest integers, in proportion (a triangular kernel). H(D|C) weights the
    two kinds by their share of the columns; entropies are in bits, so the loss lies in [-1, 0]. An
    anchor without one of both kinds is left out.

    Args:
        codes: relaxed codes in [-1, 1].
        others: relaxed codes of the columns.

    Returns:
        The loss; 0 without an anchor that has both kinds.

    Example:
        >>> u, v = jnp.array([[1.0]]), jnp.array([[1.0], [-1.0]])
        >>> mihash(u, v, jnp.array([[True, False]]))  # the distance determines the kind: one bit
        Array(-1., dtype=float32)

    Reference:
        Cakir, He, Bargal, Sclaroff, "MIHash: Online hashing with mutual information", ICCV 2017,
        and "Hashing with mutual information", TPAMI 2019. Departure: a mean over anchors;
        the released code sums, and its later version halves the number of bins. One library of
        hashing losses returns H(D) - H(D|C) as the loss, and so minimizes the information.
    """
    codes, others, similar, where = check_pairs(codes, others, similar, where)
    kinds = _split_pairs(similar, where)
    positive, negative = _histograms(inner_products_or_inf(codes, others), *kinds, codes.shape[1])
    positives, negatives = (_count_columns(kind, codes.dtype) for kind in kinds)
    number = jnp.maximum(positives + negatives, 1.0)
    conditional = sum(
        count / number * _entropy(histogram / jnp.maximum(count, 1.0)[:, None])
        for histogram, count in ((positive, positives), (negative, negatives))
    )
    information = _entropy((positive + negative) / number[:, None]) - conditional
    return masked_mean(-information, (positives > 0) & (negatives > 0), axis_name)


@on_any_mesh
def tie_aware_ap(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similar: Shaped[ArrayLike, "n m"],
    *,
    where: Shaped[ArrayLike, "n m"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Negative average precision of each anchor, relaxed, with ties averaged (TALR).

    .. math:: L = -\operatorname{mean}_a \frac1{N^+} \sum_{d=0}^{\mathrm{bits}}
              n_d^+ \frac{N_{d-1}^+ + N_d^+ + 1}{N_{d-1} + N_d + 1}

    with :math:`n_d^+` similar columns at distance d, :math:`N_d^+` of them up to d, and
    :math:`N_d` columns of both kinds up to d. Distances of relaxed codes are counted as in
    `mihash`. An anchor without a similar column is left out.

    For codes of -1 and +1 without ties this is the average precision. For tied columns, the mean
    precision over their ranks is approximated by the mean of the numerators over the mean of the
    denominators: one similar column of two at the smallest distance gives 2/3, where the exact mean
    over both orders is 3/4 (see `jaxhash.metrics.average_precision`).

    Args:
        codes: relaxed codes in [-1, 1].
        others: relaxed codes of the columns.

    Returns:
        The loss, in [-1, 0]; 0 without a similar pair.

    Example:
        >>> u, v = jnp.array([[1.0]]), jnp.array([[1.0], [1.0], [-1.0]])
        >>> loss = tie_aware_ap(u, v, jnp.array([[True, False, False]]))
        >>> round(float(loss), 4)  # (0 + 1 + 1) / (0 + 2 + 1)
        -0.6667

    Reference:
        He, Cakir, Bargal, Sclaroff, "Hashing as tie-aware learning to rank" (TALR), CVPR 2018: the
        simplified relaxation, as in the authors' code. Departures: that code sums over anchors,
        counts an anchor without a similar column as 0, and may widen the bins.
    """
    codes, others, similar, where = check_pairs(codes, others, similar, where)
    kinds = _split_pairs(similar, where)
    positive, negative = _histograms(inner_products_or_inf(codes, others), *kinds, codes.shape[1])
    hits, items = (jnp.cumsum(counts, axis=1) for counts in (positive, positive + negative))
    # N_{d-1} + N_d = 2 N_d - n_d
    precision = (2 * hits - positive + 1) / (2 * items - positive - negative + 1)
    positives = _count_columns(kinds[0], codes.dtype)
    values = jnp.sum(positive * precision, axis=1) / jnp.maximum(positives, 1.0)
    return masked_mean(-values, positives > 0, axis_name)


def _split_pairs(
    similar: Bool[Array, "n m"], where: Bool[Array, "n m"] | None
) -> tuple[Bool[Array, "n m"], Bool[Array, "n m"]]:
    """Returns the masks of valid similar and of valid dissimilar pairs."""
    where = jnp.ones_like(similar) if where is None else where
    return where & similar, where & ~similar


def _count_columns(pairs: Bool[Array, "n m"], dtype: jnp.dtype) -> Float[Array, " n"]:
    """Counts the marked columns of each anchor, as floats: products may exceed an int32."""
    return jnp.sum(pairs, axis=1, dtype=dtype)


def _histograms(
    products: Float[Array, "n m"],
    positive: Bool[Array, "n m"],
    negative: Bool[Array, "n m"],
    bits: int,
) -> tuple[Float[Array, "n bins"], Float[Array, "n bins"]]:
    """Counts similar and dissimilar columns of each row at each distance from 0 to bits.

    A distance between two integers is shared between their bins. The bins are computed one at a
    time.

    At an integer distance the derivative is the mean of both sides: 0 for its own bin, half for the
    next ones. At the first and the last bin, which have one side only, it is 0. So the derivatives
    of all bins sum to 0, as the number of columns is constant.
    """
    distances = (bits - products) / 2
    at_an_end = (distances == 0) | (distances == bits)
    distances = jnp.where(at_an_end, lax.stop_gradient(distances), distances)

    def at(distance):
        gap = distances - distance
        size = gap * jnp.sign(gap)  # not jnp.abs, whose derivative at 0 is 1
        near = jnp.maximum(1.0 - size, 0.0)  # derivative 1/2 where both arguments are 0
        return tuple(jnp.sum(jnp.where(kind, near, 0.0), axis=1) for kind in (positive, negative))

    counts = lax.map(jax.checkpoint(at), jnp.arange(bits + 1, dtype=distances.dtype))
    return counts[0].T, counts[1].T


def _entropy(shares: Float[Array, "n bins"]) -> Float[Array, " n"]:
    """Computes the entropy of each row in bits; a share of 0 adds 0 to value and gradient."""
    nonzero = shares != 0  # True for NaN, which must propagate
    logs = jnp.log2(jnp.where(nonzero, shares, 1.0))
    return -jnp.sum(jnp.where(nonzero, shares * logs, 0.0), axis=1)
