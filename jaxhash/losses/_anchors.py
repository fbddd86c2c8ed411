"""Losses of trained class anchors, and of class means: CAM, and the prototype terms of SuSana."""

from typing import Literal, get_args

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Shaped

from jaxhash.losses._common import check_codes
from jaxhash.ops.arguments import as_floating, as_mask, check_shape
from jaxhash.ops.collectives import (
    all_gather,
    masked_mean,
    psum,
    psum_local_grad,
    row_indices,
    weighted_means,
)
from jaxhash.ops.meshes import on_any_mesh
from jaxhash.ops.numerics import at_least_float32, inner_products

#: How the terms of the pairs of anchors are added up: over ordered pairs, over unordered ones, or as
#: their mean.
AnchorReduction = Literal["ordered-sum", "unordered-sum", "mean"]

#: Added to the squared distances of SuSana before the root, as in the authors' code.
_SOFTENING = 1e-6


@on_any_mesh
def anchor_attraction(
    codes: Float[Array, "n bits"],
    anchors: Float[Array, "classes bits"],
    labels: Shaped[ArrayLike, "n classes"],
    *,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Half the squared distance of each code to the anchor of its class (CAM, L_A).

    .. math:: L = \operatorname{mean}_i \frac12 \sum_c \frac{y_{ic}}{\sum_k y_{ik}}
                  \lVert e_i - a_c \rVert^2

    Codes and anchors both have a gradient. Rows without a label are left out.

    Args:
        codes: embeddings e.
        anchors: the trained anchor a of each class.
        labels: 1 where the row is of the class, 0 elsewhere: multi-hot rows.

    Example:
        >>> e, anchors = jnp.array([[1.0, 0.0], [0.0, 2.0]]), jnp.array([[1.0, 1.0], [0.0, 0.5]])
        >>> anchor_attraction(e, anchors, jnp.eye(2))  # (0.5 + 1.125) / 2
        Array(0.8125, dtype=float32)

    Reference:
        Ghita and Ionescu, "Class anchor margin loss for content-based image retrieval" (CAM), 2023.
        Evidence: the formula as public code of others quotes it from the paper. A mean over several
        labels is a reading of ours; the paper has one.
    """
    codes, where = check_codes(codes, where)
    anchors, labels = _check_classes(codes, "anchors", anchors, labels)
    count = jnp.sum(labels, axis=1, dtype=codes.dtype)
    where = count > 0 if where is None else where & (count > 0)
    weights = labels / jnp.maximum(count, 1.0)[:, None]
    # The mean over several anchors is the distance to their mean, plus their spread around it.
    own = jnp.matmul(weights, anchors, precision=lax.Precision.HIGHEST)
    spread = jnp.matmul(weights, anchors**2, precision=lax.Precision.HIGHEST) - own**2
    squares = (codes - own) ** 2 + jnp.where((count > 1)[:, None], spread, 0.0)
    return masked_mean(0.5 * jnp.sum(squares, axis=1), where, axis_name)


@on_any_mesh
def anchor_repulsion(
    anchors: Float[Array, "n bits"],
    *,
    margin: float | Float[Array, ""] = 2.0,
    reduction: AnchorReduction = "ordered-sum",
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Squared hinge that keeps anchors twice a margin apart (CAM, L_R).

    .. math:: L = \frac12 \sum_{y \ne y'} \max(0, 2m - \lVert a_y - a_{y'} \rVert)^2

    It is 0 once balls of radius m around the anchors do not meet. Anchors of -1 and +1 that differ
    in d bits are :math:`2 \sqrt d` apart, so :math:`m = \sqrt d` asks for a Hamming distance of d.

    Args:
        anchors: the anchor of each class, one per row.
        margin: m.
        reduction: ``"ordered-sum"`` counts each pair twice, as the sum is written;
            ``"unordered-sum"`` once; ``"mean"`` averages over pairs. For 100 classes they differ
            by factors of 2 and 9,900.
        where: True for the rows that belong to a class.

    Raises:
        ValueError: if the margin is not above 0, or the reduction is unknown.

    Example:
        >>> anchors = jnp.array([[0.0, 0.0], [0.0, 1.0], [3.0, 0.0]])  # distances 1, 3 and sqrt 10
        >>> anchor_repulsion(anchors, margin=1.0)  # (1/2) 2 (2 - 1)^2
        Array(1., dtype=float32)

    Reference:
        Ghita and Ionescu, "Class anchor margin loss for content-based image retrieval" (CAM), 2023.
        Evidence: the formula as public code of others quotes it from the paper; which of the
        reductions the paper means is not known, and that code has the mean. Equal anchors have no
        direction to part in, and no gradient.
    """
    if isinstance(margin, int | float) and not margin > 0:
        raise ValueError(f"margin must be above 0, got {margin}")
    if reduction not in get_args(AnchorReduction):
        raise ValueError(f"reduction must be one of {get_args(AnchorReduction)}, got {reduction!r}")
    anchors, where = _check_anchors(anchors, where)
    valid = jnp.ones(len(anchors), bool) if where is None else where
    others, valid_others = all_gather((anchors, valid), axis_name)
    rows = row_indices(len(anchors), axis_name)
    is_other = rows[:, None] != jnp.arange(len(others), dtype=jnp.int32)[None, :]
    pairs = valid[:, None] & valid_others[None, :] & is_other
    hinge = jnp.maximum(2.0 * margin - _root(_squared_distances(anchors, others)), 0.0)
    total = 0.5 * jnp.sum(jnp.where(pairs, hinge, 0.0) ** 2)
    if reduction == "unordered-sum":
        total = total / 2
    if reduction == "mean":
        count = jnp.sum(valid_others, dtype=total.dtype)
        total = total / jnp.maximum(count * (count - 1), 1.0)
    return psum_local_grad(total, axis_name)


@on_any_mesh
def anchor_norm_shortfall(
    anchors: Float[Array, "n bits"],
    *,
    least_norm: float | Float[Array, ""] = 1.0,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Squared hinge that keeps anchors away from zero (CAM, L_N).

    .. math:: L = \frac12 \sum_y \max(0, p - \lVert a_y \rVert)^2

    Once all anchors are 2m apart, at most one can be within m of zero, and the term is mostly 0.

    Args:
        anchors: the anchor of each class, one per row.
        least_norm: p.
        where: True for the rows that belong to a class.

    Raises:
        ValueError: if least_norm is not above 0.

    Example:
        >>> anchor_norm_shortfall(jnp.array([[0.0, 0.5], [3.0, 0.0]]))  # (1/2) (1 - 0.5)^2
        Array(0.125, dtype=float32)

    Reference:
        Ghita and Ionescu, "Class anchor margin loss for content-based image retrieval" (CAM), 2023.
        Evidence: that there is such a term is in the abstract; the squared hinge, its sum and p = 1
        are from memory, not confirmed. Public code of others has an average without the square. An
        anchor of zeros has no direction, and no gradient.
    """
    if isinstance(least_norm, int | float) and not least_norm > 0:
        raise ValueError(f"least_norm must be above 0, got {least_norm}")
    anchors, where = _check_anchors(anchors, where)
    shortfall = jnp.maximum(least_norm - _root(jnp.sum(anchors**2, axis=1)), 0.0)
    if where is not None:
        shortfall = jnp.where(where, shortfall, 0.0)
    return psum_local_grad(0.5 * jnp.sum(shortfall**2), axis_name)


@on_any_mesh
def proto_triplet(
    codes: Float[Array, "n bits"],
    labels: Shaped[ArrayLike, "n classes"],
    *,
    margin: float = 0.5,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Triplets of a code, the prototype of its class, and the nearest prototype of another one.

    .. math:: L = \operatorname{mean}_{y_{ic} = 1} \max\big(0, \delta(u_i, p_c^{(i)})
                  - \min_{y_{ic'} = 0} \delta(u_i, p_{c'}) + m\big), \qquad
              \delta(u, p) = \sqrt{\lVert u - p \rVert^2 + 10^{-6}},

    with the prototype :math:`p_c` the mean of the codes of class c in the whole batch, and
    :math:`p_c^{(i)}` that mean without row i. A row that is alone in its class, and a row of all
    classes in the batch, have no triplet. Prototypes have a gradient.

    Args:
        codes: embeddings.
        labels: 1 where the row is of the class, 0 elsewhere: multi-hot rows.
        margin: m.

    Raises:
        ValueError: if the margin is below 0.

    Example:
        >>> u, y = jnp.array([[0.0], [2.0], [3.0]]), jnp.array([[1, 0], [1, 0], [0, 1]])
        >>> loss = proto_triplet(u, y)  # (max(0, 2 - 3 + .5) + (2 - 1 + .5)) / 2: the third is alone
        >>> round(float(loss), 4)
        0.75

    Reference:
        Mendez-Ruiz et al., "SuSana Distancia is all you need", 2023. Evidence: the authors' code
        (maumruiz/FSL-Loss). There an episode splits each class into support and queries;
        that each row is a query once, and the others of its class its support, is a reading of
        ours, as are several labels.
    """
    if not margin >= 0:
        raise ValueError(f"margin must be at least 0, got {margin}")
    codes, where = check_codes(codes, where)
    belongs = as_mask("labels", labels, (len(codes), None))
    if where is not None:
        belongs = belongs & where[:, None]
    own, others, number = _prototype_distances(codes, belongs, axis_name)
    exists = number > 0
    nearest = jnp.min(
        jnp.where(belongs | ~exists[None, :], jnp.inf, others), axis=1, initial=jnp.inf
    )
    has_other = (~belongs & exists[None, :]).any(axis=1)
    hinge = jnp.maximum(own - jnp.where(has_other, nearest, 0.0)[:, None] + margin, 0.0)
    triplets = belongs & has_other[:, None] & (number > 1)[None, :]
    count = psum(jnp.sum(triplets, dtype=jnp.int32), axis_name)
    share = jnp.sum(jnp.where(triplets, hinge, 0.0)) / jnp.maximum(count, 1)
    return psum_local_grad(share, axis_name)


def _check_classes(
    codes: Float[Array, "n bits"],
    name: str,
    rows: Float[Array, "classes bits"],
    labels: Shaped[ArrayLike, "n classes"],
) -> tuple[Float[Array, "classes bits"], Bool[Array, "n classes"]]:
    """Returns the checked rows of the classes in the accumulation dtype, and the checked labels."""
    rows = at_least_float32(as_floating(name, rows, ndim=2))
    check_shape(name, rows, (len(rows), codes.shape[1]))
    return rows, as_mask("labels", labels, (len(codes), len(rows)))


def _check_anchors(
    anchors: Float[Array, "n bits"], where: Shaped[ArrayLike, " n"] | None
) -> tuple[Float[Array, "n bits"], Bool[Array, " n"] | None]:
    """Returns the checked anchors in the accumulation dtype with zeros for masked ones, and the mask."""
    anchors = at_least_float32(as_floating("anchors", anchors, ndim=2))
    where = as_mask("where", where, anchors.shape[:1])
    return anchors if where is None else jnp.where(where[:, None], anchors, 0.0), where


def _prototype_distances(
    codes: Float[Array, "n bits"], belongs: Bool[Array, "n classes"], axis_name: str | None
) -> tuple[Float[Array, "n classes"], Float[Array, "n classes"], Float[Array, " classes"]]:
    """Returns the distance to each prototype without and with the row itself, and their rows.

    Without row i the prototype of its class of n rows is farther by n / (n - 1), in the same
    direction.
    """
    weights = belongs.astype(codes.dtype)
    prototypes, number = weighted_means(codes, weights, axis_name)
    squares = _squared_distances(codes, prototypes)
    factor = number / jnp.maximum(number - 1.0, 1.0)
    own = jnp.sqrt(squares * (factor**2)[None, :] + _SOFTENING)
    return own, jnp.sqrt(squares + _SOFTENING), number


def _squared_distances(
    rows: Float[Array, "n bits"], others: Float[Array, "m bits"]
) -> Float[Array, "n m"]:
    """Computes the squared distance of each row to each other row, without an array [n, m, bits]."""
    sizes, other_sizes = (jnp.sum(each**2, axis=1) for each in (rows, others))
    squares = sizes[:, None] + other_sizes[None, :] - 2.0 * inner_products(rows, others)
    return jnp.maximum(squares, 0.0)


def _root(squares: Float[Array, "..."]) -> Float[Array, "..."]:
    """Returns the square root, with a gradient of 0 at 0."""
    is_zero = squares == 0
    return jnp.where(is_zero, 0.0, jnp.sqrt(jnp.where(is_zero, 1.0, squares)))
