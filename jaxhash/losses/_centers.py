"""Losses between a code and the center, target or proxy of its classes."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Shaped

from jaxhash.losses._common import check_codes, check_pairs, mean_over_pairs
from jaxhash.ops.arguments import (
    UNLABELLED,
    as_floating,
    as_labels,
    as_mask,
    as_real,
    check_shape,
    check_signs,
)
from jaxhash.ops.class_blocks import other_classes_logsumexp, other_classes_sum
from jaxhash.ops.codebooks import LinearCodebook
from jaxhash.ops.collectives import masked_mean, psum_local_grad, psum_no_grad
from jaxhash.ops.meshes import on_any_mesh
from jaxhash.ops.numerics import at_least_float32, cosine_similarity, normalize_rows

#: What the margin applies to: the cosine or the angle.
MarginType = Literal["cosine", "arc"]


@on_any_mesh
def csq(
    codes: Float[Array, "n bits"],
    centers: Shaped[ArrayLike, "n bits"],
    *,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Binary cross-entropy between each relaxed code and the center of its class (CSQ).

    With a center c and :math:`v = \tanh u`, where :math:`(v + 1)/2` is the probability of +1,

    .. math:: L = -\operatorname{mean}_{ij} \Big[ \tfrac{1 + c_{ij}}2 \log\tfrac{1 + v_{ij}}2
                  + \tfrac{1 - c_{ij}}2 \log\tfrac{1 - v_{ij}}2 \Big]
              = \operatorname{mean}_{ij} \Big[ \log(1 + e^{2 u_{ij}}) - (1 + c_{ij})\, u_{ij} \Big].

    The second form, with logits 2u, is computed: it is finite for codes of any size.

    Args:
        codes: raw outputs of the network.
        centers: the center of each row, -1 or +1; see `jaxhash.ops.codebooks.label_codes`.

    Raises:
        ValueError: if centers are other than -1 and +1.

    Example:
        >>> csq(jnp.array([[0.0, 50.0]]), jnp.array([[1.0, -1.0]])).round(4)  # (log 2 + 100) / 2
        Array(50.3466, dtype=float32)

    Reference:
        Yuan et al., "Central Similarity Quantization for Efficient Image and Video Retrieval"
        (CSQ), CVPR 2020, its central similarity loss. Departure: a mean over bits as in the
        released code; the paper sums. That code clips logarithms at -100 and applies them to a tanh
        that has rounded to 1, so codes beyond about 9 have no gradient there.
    """
    codes, where = check_codes(codes, where)
    check_shape("centers", centers, codes.shape)
    check_signs("centers", centers, where)
    centers = jnp.asarray(centers, codes.dtype)
    agree = 0.5 * (1.0 + centers) * jax.nn.softplus(-2.0 * codes)
    differ = 0.5 * (1.0 - centers) * jax.nn.softplus(2.0 * codes)
    return masked_mean(jnp.mean(agree + differ, axis=1), where, axis_name)


@on_any_mesh
def dpn(
    codes: Float[Array, "n bits"],
    targets: Shaped[ArrayLike, "n bits"],
    *,
    margin: float = 1.0,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Polarization loss: a hinge that drives each bit past a margin towards its target (DPN).

    .. math:: L = \operatorname{mean}_{ij} \Big[ \tfrac{1 + t_{ij}}2 \max(0, m - u_{ij})
                  + \tfrac{1 - t_{ij}}2 \max(0, m + u_{ij}) \Big],

    which for targets of -1 and +1 is the mean of :math:`\max(0, m - u_{ij} t_{ij})`. A target
    between -1 and +1 is the mean of the targets of several classes, and gives the mean loss.

    Args:
        codes: raw outputs of the network.
        targets: the target of each row, in [-1, 1].
        margin: m, the value beyond which a bit costs nothing.

    Raises:
        ValueError: if margin is not above 0.

    Example:
        >>> dpn(jnp.array([[0.5, 3.0, -2.0, 0.5]]), jnp.array([[1, 1, 1, 0]]))  # (.5+0+3+1)/4
        Array(1.125, dtype=float32)

    Reference:
        Fan, Ng, Ju, Zhang, Chan, "Deep Polarized Network for Supervised Learning of Accurate Binary
        Hashing Codes" (DPN), IJCAI 2020, its polarization loss. Departure: a mean over bits and
        labels; the authors' code sums over both. That code also adds 0.1 times the mean square of
        the codes, which is left to weight decay here.
    """
    if margin <= 0:
        raise ValueError(f"margin must be above 0, got {margin}")
    codes, where = check_codes(codes, where)
    targets = as_real("targets", targets, codes.shape, minimum=-1.0, maximum=1.0).astype(
        codes.dtype
    )
    up = 0.5 * (1.0 + targets) * jnp.maximum(margin - codes, 0.0)
    down = 0.5 * (1.0 - targets) * jnp.maximum(margin + codes, 0.0)
    return masked_mean(jnp.mean(up + down, axis=1), where, axis_name)


@on_any_mesh
def orthohash(
    codes: Float[Array, "n bits"],
    centers: Shaped[ArrayLike, "classes bits"] | LinearCodebook,
    labels: Shaped[ArrayLike, "n classes"] | Shaped[ArrayLike, " n"],
    *,
    scale: float = 8.0,
    margin: float = 0.2,
    margin_type: MarginType = "cosine",
    where: Shaped[ArrayLike, " n"] | None = None,
    where_classes: Shaped[ArrayLike, " classes"] | None = None,
    axis_name: str | None = None,
    classes_axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Cross-entropy of the cosines between a code and the centers of all classes (OrthoHash).

    With :math:`\theta_{ic}` the angle between code i and center c, and :math:`y_{ic}` 1 where image
    i is of class c and 0 elsewhere, the logits are

    .. math:: z_{ic} = s\,(\cos\theta_{ic} - m\, y_{ic})
              \quad\text{or}\quad z_{ic} = s \cos(\theta_{ic} + m\, y_{ic}),
              \qquad L = -\operatorname{mean}_i \sum_c \frac{y_{ic}}{\sum_k y_{ik}}
                         \log \frac{e^{z_{ic}}}{\sum_k e^{z_{ik}}}.

    The length of a code does not matter. Rows without a label are left out.

    Args:
        codes: raw outputs of the network.
        centers: the center of each class, of -1 and +1; or for very many classes their formula, with
            which the classes are worked through in blocks.
        labels: 1 where the row is of the class, 0 elsewhere: multi-hot rows; class ids for a formula,
            where -1 is none.
        scale: s, the inverse temperature of the cosines.
        margin: m, subtracted from the cosine (``"cosine"``) or added to the angle in radians
            (``"arc"``) of the right classes.
        margin_type: see margin. Beyond :math:`\theta = \pi - m` the arc logit rises again, as
            published.
        where_classes: True for the centers that belong to a class; all by default.
        classes_axis_name: mapped axis over which the centers and the columns of the labels are
            sharded. Each device then has all rows, and the gradient is the share of its centers.

    Raises:
        ValueError: if centers are other than -1 and +1, scale is not above 0,
            margin is below 0, margin_type is unknown, or both axis names are given.

    Example:
        >>> centers = jnp.array([[1.0, 1.0], [1.0, -1.0]])
        >>> right = jnp.array([[1.0, 0.0]])
        >>> orthohash(jnp.array([[3.0, 3.0]]), centers, right, scale=1.0, margin=0.5).round(4)
        Array(0.4741, dtype=float32)

        The cosines are 1 and 0, the logits 1/2 and 0: log(1 + e^-0.5).

    Reference:
        Hoe et al., "One Loss for All: Deep Hashing with a Single Cosine Similarity based Learning
        Objective" (OrthoHash), NeurIPS 2021, with the scale, the margin and the rule for several
        labels of its released code. Departure: that code clips the cosine before the arc, so an
        aligned code has no gradient; here only the unbounded derivative of the sine is clipped.
    """
    codes, where = check_codes(codes, where)
    _check_margin(scale, margin, margin_type)
    if isinstance(centers, LinearCodebook):
        cost, where = _nll_by_blocks(codes, centers, labels, where, scale, margin, margin_type)
        return masked_mean(cost, where, axis_name)
    check_shape("centers", centers, (None, codes.shape[1]))
    where_classes = as_mask("where_classes", where_classes, centers.shape[:1])
    check_signs("centers", centers, where_classes)
    centers = jnp.asarray(centers, codes.dtype)
    labels = as_mask("labels", labels, (len(codes), len(centers))).astype(codes.dtype)
    if axis_name is not None and classes_axis_name is not None:
        raise ValueError("axis_name and classes_axis_name cannot both be given")
    count = psum_no_grad(jnp.sum(labels, axis=1), classes_axis_name)
    where = count > 0 if where is None else where & (count > 0)
    cosine = cosine_similarity(codes, centers)
    logits = scale * jnp.where(labels > 0, _with_margin(cosine, margin, margin_type), cosine)
    if where_classes is not None:
        logits = jnp.where(where_classes[None, :], logits, -jnp.inf)
    logits, log_sum = _shifted_logsumexp(logits, classes_axis_name)
    nll = count * log_sum - jnp.sum(jnp.where(labels > 0, labels * logits, 0.0), axis=1)
    mean = masked_mean(nll / jnp.maximum(count, 1.0), where, axis_name)
    return psum_local_grad(mean, classes_axis_name)


def _check_margin(scale: float, margin: float, margin_type: MarginType) -> None:
    if scale <= 0:
        raise ValueError(f"scale must be above 0, got {scale}")
    if margin < 0:
        raise ValueError(f"margin must be at least 0, got {margin}")
    if margin_type not in get_args(MarginType):
        raise ValueError(f"margin_type must be one of {get_args(MarginType)}, got {margin_type!r}")


def _with_margin(
    cosine: Float[Array, "..."], margin: float, margin_type: MarginType
) -> Float[Array, "..."]:
    """Returns the cosine less the margin, or that of the angle and the margin."""
    if margin_type == "cosine":
        return cosine - margin
    sine = jnp.sqrt(jnp.maximum(1.0 - cosine**2, 1e-6))
    return cosine * jnp.cos(margin) - sine * jnp.sin(margin)


def _nll_by_blocks(
    codes: Float[Array, "n bits"],
    centers: LinearCodebook,
    labels: Shaped[ArrayLike, " n"],
    where: Bool[Array, " n"] | None,
    scale: float,
    margin: float,
    margin_type: MarginType,
) -> tuple[Float[Array, " n"], Bool[Array, " n"]]:
    """Returns the cost of each row by block of classes, and which rows have a label and count."""
    labels = jnp.asarray(as_labels("labels", labels, len(centers.words)))
    check_shape("labels", labels, codes.shape[:1])
    others = other_classes_logsumexp(
        lambda words: scale * cosine_similarity(codes, centers.codes(words)), centers.words, labels
    )
    own = normalize_rows(centers.codes_of(labels))
    own = _with_margin(jnp.sum(normalize_rows(codes) * own, axis=1), margin, margin_type)
    is_labelled = labels != UNLABELLED
    valid = is_labelled if where is None else where & is_labelled
    return jax.nn.softplus(others - scale * own), valid


def _shifted_logsumexp(
    logits: Float[Array, "n classes"], axis_name: str | None
) -> tuple[Float[Array, "n classes"], Float[Array, " n"]]:
    """Subtracts the largest logit of each row, and returns the log of the sum of exponentials too.

    Over sharded classes, maximum and sum are those of all devices, and the logarithm is this
    device's share: the value divided by the number of devices, with the gradient of its own logits.
    """
    largest = jnp.max(lax.stop_gradient(logits), axis=1)
    if axis_name is not None:
        largest = lax.pmax(largest, axis_name)
    logits = logits - largest[:, None]
    local_sum = jnp.sum(jnp.exp(logits), axis=1)
    if axis_name is None:
        return logits, jnp.log(local_sum)
    total = psum_no_grad(local_sum, axis_name)
    share = jnp.log(total) / lax.axis_size(axis_name)
    return logits, share + (local_sum - lax.stop_gradient(local_sum)) / total


@on_any_mesh
def hyp2_proxies(
    codes: Float[Array, "n bits"],
    proxies: Float[Array, "classes bits"],
    labels: Shaped[ArrayLike, " n *classes"],
    *,
    threshold: float | Float[Array, ""],
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Multi-label proxy loss of HyP^2: codes approach the proxies of their own classes only.

    .. math:: L = \operatorname{mean}_{y_{ic} = 1} \big[1 - \cos(u_i, p_c)\big]
              + \operatorname{mean}_{y_{ic} = 0} \max\big(0, \cos(u_i, p_c) - \zeta\big)

    A kind of pair that does not occur contributes 0. Rows without a label are left out.

    Args:
        codes: raw outputs of the network.
        proxies: the trained direction of each class.
        labels: 1 where the row is of the class, 0 elsewhere: multi-hot rows. Or class ids (-1: no label),
            of which classes are taken in blocks: the cosines of all are no matrix.
        threshold: zeta, the largest cosine with another class's proxy that costs nothing.

    Example:
        >>> u, p = jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 3.0], [1.0, 0.0], [-1.0, 0.0]])
        >>> hyp2_proxies(u, p, jnp.array([[1, 0, 0]]), threshold=0.25)  # 1 - 0, and (0.75 + 0) / 2
        Array(1.375, dtype=float32)

    Reference:
        Xu et al., "HyP^2 Loss: Beyond Hypersphere Metric Space for Multi-label Image Retrieval",
        ACM Multimedia 2022, in the form of its released code. Departure: rows without a label
        are left out; that code counts them among the pairs with y = 0.
    """
    codes, where = check_codes(codes, where)
    proxies = at_least_float32(as_floating("proxies", proxies, ndim=2))
    check_shape("proxies", proxies, (len(proxies), codes.shape[1]))
    if jnp.ndim(labels) == 1:
        return _hyp2_of_ids(codes, proxies, labels, threshold, where, axis_name)
    belongs = as_mask("labels", labels, (len(codes), len(proxies)))
    cosine = cosine_similarity(codes, proxies)
    valid = belongs.any(axis=1) if where is None else where & belongs.any(axis=1)
    near = mean_over_pairs(1.0 - cosine, valid[:, None] & belongs, axis_name)
    hinge = jnp.maximum(cosine - threshold, 0.0)
    return near + mean_over_pairs(hinge, valid[:, None] & ~belongs, axis_name)


def _hyp2_of_ids(
    codes: Float[Array, "n bits"],
    proxies: Float[Array, "classes bits"],
    labels: Shaped[ArrayLike, " n"],
    threshold: float | Float[Array, ""],
    where: Bool[Array, " n"] | None,
    axis_name: str | None,
) -> Float[Array, ""]:
    """Computes `hyp2_proxies` of class ids: each row has one class, and a hinge of every other."""
    labels = jnp.asarray(as_labels("labels", labels, len(proxies)))
    check_shape("labels", labels, codes.shape[:1])
    is_labeled = labels != UNLABELLED
    valid = is_labeled if where is None else where & is_labeled
    own = proxies.at[jnp.maximum(labels, 0)].get(mode="fill", fill_value=jnp.nan)
    near = 1.0 - jnp.sum(normalize_rows(codes) * normalize_rows(own), axis=1)
    far = other_classes_sum(
        lambda part: jnp.maximum(cosine_similarity(codes, part) - threshold, 0.0), proxies, labels
    )
    total = near + far / max(len(proxies) - 1, 1)
    return masked_mean(total, valid, axis_name)


@on_any_mesh
def hyp2_pairs(
    codes: Float[Array, "n bits"],
    others: Float[Array, "m bits"],
    similar: Shaped[ArrayLike, "n m"],
    *,
    threshold: float | Float[Array, ""],
    where: Shaped[ArrayLike, "n m"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Irrelevant-pair loss of HyP^2: codes of images that share no label are separated.

    .. math:: L = \operatorname{mean}_{s_{ij} = 0} \max\big(0, \cos(u_i, v_j) - \zeta\big)

    Similar pairs cost nothing. The loss is 0 without a dissimilar pair.

    Args:
        codes: raw outputs of the network.
        threshold: zeta, the largest cosine of two codes that costs nothing.

    Example:
        >>> u, v = jnp.array([[2.0, 0.0]]), jnp.array([[1.0, 0.0], [5.0, 0.0], [-1.0, 0.0]])
        >>> hyp2_pairs(u, v, jnp.array([[True, False, False]]), threshold=0.25)  # (0.75 + 0) / 2
        Array(0.375, dtype=float32)

    Reference:
        Xu et al. (HyP^2), ACM Multimedia 2022; its released code uses only pairs of images with
        more than one label each; here the caller selects the pairs by ``where``.
    """
    codes, others, similar, where = check_pairs(codes, others, similar, where)
    irrelevant = ~similar if where is None else where & ~similar
    hinge = jnp.maximum(cosine_similarity(codes, others) - threshold, 0.0)
    return mean_over_pairs(hinge, irrelevant, axis_name)
