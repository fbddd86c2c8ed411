"""Losses of the ranking that an anchor makes of its columns: triplets and distance histograms."""

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
    r"""Negative log-likelihood of triplets: the similar image is nearer, by a margin.

    .. math:: L = \operatorname{mean}_{(a,p,n)} \log\big(1 + e^{-(\theta_{ap} - \theta_{an}
              - \alpha)}\big), \qquad \theta_{ij} = \tfrac12\, u_i \cdot v_j,

    over all triplets of an anchor a, a column p similar to it and a column n dissimilar to it. An
    anchor that lacks either kind has no triplet. Of each anchor one p at a time is held against all n.

    Args:
        codes: codes of the anchors, raw outputs of the network.
        others: codes of the columns: the batch itself (gathered, over devices) or a bank.
        similar: True where the pair is similar.
        margin: alpha; bits / 2 by default.
        where: True for the valid pairs.
        axis_name: mapped axis over which the anchors are spread; see `jaxhash.losses`.

    Returns:
        The loss, a float32 scalar; 0 without a triplet.

    Raises:
        TypeError: if codes are not floating.
        ValueError: if shapes do not fit.

    Example:
        >>> u, v = jnp.array([[2.0]]), jnp.array([[1.0], [-1.0]])
        >>> loss = dtsh(u, v, jnp.array([[True, False]]), margin=2.0)
        >>> round(float(loss), 4)  # log 2: the gap is 1 - -1, the margin
        0.6931

    Reference:
        Wang, Shi, Kitani, "Deep supervised hashing with triplet labels" (DTSH), ACCV 2016. The
        margin is that of the authors' code. Departures: a mean over all triplets of the batch, where
        that code samples as many for each image from a bank, and a gradient through all three
        codes, where it has that of the anchor alone. PyTorch ports (DeepHash-pytorch, FIRe) have
        :math:`\theta = u_i \cdot v_j` without the half and a margin of 5 at every length: the same
        gap of the codes as 2.5 here, at twice the slope, and exactly this loss of codes times
        :math:`\sqrt 2` with the margin 5. They average over the triplets of an anchor first and
        then over anchors, so that one of few triplets counts as much as the others, hold an item to
        be similar to itself, and cut the gap at -100 and 50, beyond which there is no gradient.
    """
    codes, others, similar, where = check_pairs(codes, others, similar, where)
    theta = 0.5 * inner_products(codes, others)
    alike, unlike = _kinds(similar, where)
    margin = codes.shape[1] / 2 if margin is None else margin

    total = _sum_over_triplets(theta, alike, unlike, jnp.asarray(margin, theta.dtype))
    triplets = _columns(alike, theta.dtype) * _columns(unlike, theta.dtype)
    triplets = psum_no_grad(jnp.sum(triplets), axis_name)
    return psum_local_grad(total / jnp.maximum(triplets, 1.0), axis_name)


@jax.custom_jvp
def _sum_over_triplets(
    theta: Float[Array, "n m"],
    alike: Bool[Array, "n m"],
    unlike: Bool[Array, "n m"],
    margin: Float[Array, ""],
) -> Float[Array, ""]:
    """The sum of log(1 + exp(theta_an - theta_ap + margin)) over all triplets."""
    return _sum_and_slope(theta, alike, unlike, margin)[0]


@_sum_over_triplets.defjvp
def _sum_over_triplets_jvp(primals, tangents):
    total, slope = _sum_and_slope(*primals)
    of_margin = jnp.sum(jnp.where(primals[2], slope, 0.0))
    return total, jnp.sum(slope * tangents[0]) + of_margin * tangents[3]


def _sum_and_slope(theta, alike, unlike, margin):
    """The sum and its gradient in theta, in as many turns as an anchor has similar columns at most."""
    rows, similar_first = jnp.arange(len(theta)), jnp.argsort(~alike, axis=1, stable=True)
    count = jnp.sum(alike, axis=1)

    def turn(k, found):
        total, slope = found
        column = similar_first[:, k]
        excess = theta - theta[rows, column][:, None] + margin
        valid = unlike & (k < count)[:, None]
        tail = jnp.exp(-jnp.abs(excess))  # shared by value and derivative
        loss = jnp.maximum(excess, 0.0) + jnp.log1p(tail)
        pull = jnp.where(valid, jnp.where(excess >= 0, 1.0, tail) / (1.0 + tail), 0.0)
        slope = (slope + pull).at[rows, column].add(-jnp.sum(pull, axis=1))
        return total + jnp.sum(jnp.where(valid, loss, 0.0)), slope

    turns = jnp.max(count, initial=0)
    return lax.fori_loop(0, turns, turn, (jnp.full_like(theta, 0, shape=()), jnp.zeros_like(theta)))


@on_any_mesh
def mihash(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similar: Shaped[ArrayLike, "n m"],
    *,
    where: Shaped[ArrayLike, "n m"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Minus the mutual information of Hamming distance and similarity.

    .. math:: L = -\operatorname{mean}_a I_a(D; C), \qquad I(D; C) = H(D) - H(D \mid C),

    where D is the distance from anchor a to a column, in 0 ... bits, and C says whether that column
    is similar. Distances :math:`(\mathrm{bits} - u_a \cdot v_j) / 2` of relaxed codes lie between
    whole numbers: each counts for the two next to it, in proportion (a triangular kernel). H(D|C)
    weighs the two kinds by their share of the anchor's columns; entropies are in bits, so that the
    loss lies in [-1, 0]. An anchor that lacks either kind has nothing to tell apart and is left
    out.

    Args:
        codes: relaxed codes of the anchors, in [-1, 1].
        others: relaxed codes of the columns: the batch itself (gathered, over devices) or a bank.
        similar: True where the pair is similar.
        where: True for the valid pairs.
        axis_name: mapped axis over which the anchors are spread; see `jaxhash.losses`.

    Returns:
        The loss, a float32 scalar; 0 without an anchor that has both kinds.

    Raises:
        TypeError: if codes are not floating.
        ValueError: if shapes do not fit.

    Example:
        >>> u, v = jnp.array([[1.0]]), jnp.array([[1.0], [-1.0]])
        >>> mihash(u, v, jnp.array([[True, False]]))  # the distance tells them apart: one bit
        Array(-1., dtype=float32)

    Reference:
        Cakir, He, Bargal, Sclaroff, "MIHash: Online hashing with mutual information", ICCV 2017,
        and "Hashing with mutual information", TPAMI 2019. Departures: the released code sums over
        anchors and its later version halves the number of bins. One library of hashing losses
        returns H(D) - H(D|C) itself as the loss and so minimizes the information.
    """
    codes, others, similar, where = check_pairs(codes, others, similar, where)
    kinds = _kinds(similar, where)
    alike, unlike = _histograms(inner_products_or_inf(codes, others), *kinds, codes.shape[1])
    positives, negatives = (_columns(kind, codes.dtype) for kind in kinds)
    number = jnp.maximum(positives + negatives, 1.0)
    within = sum(
        count / number * _entropy(histogram / jnp.maximum(count, 1.0)[:, None])
        for histogram, count in ((alike, positives), (unlike, negatives))
    )
    information = _entropy((alike + unlike) / number[:, None]) - within
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
    r"""Minus the average precision of each anchor, relaxed, with ties averaged over.

    .. math:: L = -\operatorname{mean}_a \frac1{N^+} \sum_{d=0}^{\mathrm{bits}}
              n_d^+ \frac{N_{d-1}^+ + N_d^+ + 1}{N_{d-1} + N_d + 1}

    with :math:`n_d^+` similar columns at distance d, :math:`N_d^+` of them up to d, and
    :math:`N_d` columns of both kinds up to d. Distances of relaxed codes are counted as in
    `mihash`. An anchor without a similar column is left out.

    On codes of -1 and +1 without ties this is the average precision. Where n columns are tied it
    takes the mean precision over their ranks to be the mean of its numerators over the mean of its
    denominators: one similar column of two at the smallest distance has 2/3, and the exact mean
    over both orders is 3/4 (see `jaxhash.metrics.average_precision`, the exact one).

    Args:
        codes: relaxed codes of the anchors, in [-1, 1].
        others: relaxed codes of the columns: the batch itself (gathered, over devices) or a bank.
        similar: True where the pair is similar.
        where: True for the valid pairs.
        axis_name: mapped axis over which the anchors are spread; see `jaxhash.losses`.

    Returns:
        The loss in [-1, 0], a float32 scalar; 0 without a similar pair.

    Raises:
        TypeError: if codes are not floating.
        ValueError: if shapes do not fit.

    Example:
        >>> u, v = jnp.array([[1.0]]), jnp.array([[1.0], [1.0], [-1.0]])
        >>> loss = tie_aware_ap(u, v, jnp.array([[True, False, False]]))
        >>> round(float(loss), 4)  # (0 + 1 + 1) / (0 + 2 + 1)
        -0.6667

    Reference:
        He, Cakir, Bargal, Sclaroff, "Hashing as tie-aware learning to rank" (TALR), CVPR 2018: the
        simplified relaxation, as in the authors' code. Departures: that code sums over anchors,
        counts one without a similar column as 0, and may widen the bins.
    """
    codes, others, similar, where = check_pairs(codes, others, similar, where)
    kinds = _kinds(similar, where)
    alike, unlike = _histograms(inner_products_or_inf(codes, others), *kinds, codes.shape[1])
    hits, items = (jnp.cumsum(counts, axis=1) for counts in (alike, alike + unlike))
    # N_{d-1} + N_d = 2 N_d - n_d
    precision = (2 * hits - alike + 1) / (2 * items - alike - unlike + 1)
    positives = _columns(kinds[0], codes.dtype)
    values = jnp.sum(alike * precision, axis=1) / jnp.maximum(positives, 1.0)
    return masked_mean(-values, positives > 0, axis_name)


def _kinds(
    similar: Bool[Array, "n m"], where: Bool[Array, "n m"] | None
) -> tuple[Bool[Array, "n m"], Bool[Array, "n m"]]:
    """The valid pairs that are similar, and those that are not."""
    where = jnp.ones_like(similar) if where is None else where
    return where & similar, where & ~similar


def _columns(pairs: Bool[Array, "n m"], dtype: jnp.dtype) -> Float[Array, " n"]:
    """How many columns each anchor marks; their products may exceed an int32."""
    return jnp.sum(pairs, axis=1, dtype=dtype)


def _histograms(
    products: Float[Array, "n m"],
    alike: Bool[Array, "n m"],
    unlike: Bool[Array, "n m"],
    bits: int,
) -> tuple[Float[Array, "n bins"], Float[Array, "n bins"]]:
    """How many similar and dissimilar columns each row has at each distance from 0 to bits.

    A distance between two whole numbers is shared between them. One bin is worked off at a time.

    At a whole number the slope is the mean of those to both sides: 0 for its own bin, half for the
    next ones. At the first and the last, which have one side only, it is 0. So no slope adds to the
    number of columns.
    """
    distances = (bits - products) / 2
    at_an_end = (distances == 0) | (distances == bits)
    distances = jnp.where(at_an_end, lax.stop_gradient(distances), distances)

    def at(distance):
        gap = distances - distance
        size = gap * jnp.sign(gap)  # not jnp.abs, whose slope at 0 is 1
        near = jnp.maximum(1.0 - size, 0.0)  # of slope 1/2 where both are 0
        return tuple(jnp.sum(jnp.where(kind, near, 0.0), axis=1) for kind in (alike, unlike))

    counts = lax.map(jax.checkpoint(at), jnp.arange(bits + 1, dtype=distances.dtype))
    return counts[0].T, counts[1].T


def _entropy(shares: Float[Array, "n bins"]) -> Float[Array, " n"]:
    """Entropy of each row in bits; a share of 0 adds nothing to it, nor to its gradient."""
    held = shares != 0  # NaN is to stay
    return -jnp.sum(jnp.where(held, shares * jnp.log2(jnp.where(held, shares, 1.0)), 0.0), axis=1)
