"""Losses of interactions: a row, such as a user, with an item it has chosen and some it has not."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, Float, Shaped

from jaxhash.losses._common import check_codes
from jaxhash.ops.arguments import as_floating, check_shape
from jaxhash.ops.collectives import masked_mean
from jaxhash.ops.meshes import on_any_mesh
from jaxhash.ops.numerics import at_least_float32


@on_any_mesh
def bpr(
    codes: Float[Array, "n bits"],
    others: Float[Array, "n bits"],
    negatives: Float[Array, "n m bits"],
    *,
    temperature: float | Float[ArrayLike, ""] = 1.0,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Bayesian personalized ranking: a chosen item scores above each that was not chosen.

    .. math:: L = \operatorname{mean}_{ij} \log\big(1 + e^{-(s_i - s_{ij})}\big), \qquad
              s_i = u_i \cdot v_i / T, \quad s_{ij} = u_i \cdot w_{ij} / T.

    Args:
        codes: code u of each row, such as a user.
        others: code v of the item that it has chosen.
        negatives: codes w of m items that it has not chosen.
        temperature: T.
        where: rows that count.

    Returns:
        The loss; 0 without a row or without a negative.

    Raises:
        ValueError: if the shapes do not match, or the temperature is not above 0.

    Example:
        >>> u, v = jnp.array([[1.0, -1, 1, 1]]), jnp.array([[1.0, 1, 1, 1]])
        >>> bpr(u, v, jnp.array([[[-1.0, -1, 1, -1]]])).round(5)  # scores 2 and 0
        Array(0.12693, dtype=float32)

    Reference:
        Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009, as
        read in the code of HashGNN (Tan et al., "Learning to Hash with Graph Neural Networks for
        Recommender Systems", WWW 2020), ``qiaoyu-tan/HashGNN``, ``model.py``: there T is 1, and a
        third party quotes a hinge of sigmoids for the paper in its place. Departure: T, since the
        product of two codes of K bits goes to K, where the slope of a sigmoid is 0 in float32.
    """
    positive, negative, where = _scores(codes, others, negatives, temperature, where)
    loss = jax.nn.softplus(negative - positive[:, None])
    return masked_mean(_mean_over_columns(loss), where, axis_name)


@on_any_mesh
def interaction_cross_entropy(
    codes: Float[Array, "n bits"],
    others: Float[Array, "n bits"],
    negatives: Float[Array, "n m bits"],
    *,
    temperature: float | Float[ArrayLike, ""] = 1.0,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Cross-entropy of whether a row has chosen an item, by the sigmoid of their product.

    .. math:: L = \operatorname{mean}_i \frac1{1 + m} \Big[ \log(1 + e^{-s_i})
              + \sum_j \log(1 + e^{s_{ij}}) \Big]

    with the scores of `bpr`: a mean over all scores, chosen or not.

    Args:
        codes: code of each row, such as a user.
        others: code of the item that it has chosen.
        negatives: codes of m items that it has not chosen.
        temperature: T.
        where: rows that count.

    Returns:
        The loss; 0 without a row.

    Raises:
        ValueError: if the shapes do not match, or the temperature is not above 0.

    Example:
        >>> u, v = jnp.array([[1.0, -1, 1, 1]]), jnp.array([[1.0, 1, 1, 1]])
        >>> loss = interaction_cross_entropy(u, v, jnp.array([[[-1.0, -1, 1, -1]]]))
        >>> (2 * loss).round(5)  # log(1 + e^-2) + log 2
        Array(0.82008, dtype=float32)

    Reference:
        Tan et al., "Learning to Hash with Graph Neural Networks for Recommender Systems"
        (HashGNN), WWW 2020, its reconstruction of the graph, as read in the authors' code
        (``qiaoyu-tan/HashGNN``, ``model.py``), where T is 1. Departure: T, as in `bpr`.
    """
    positive, negative, where = _scores(codes, others, negatives, temperature, where)
    total = jax.nn.softplus(-positive) + jnp.sum(jax.nn.softplus(negative), axis=1)
    return masked_mean(total / (1 + negative.shape[1]), where, axis_name)


def _scores(
    codes: Float[Array, "n bits"],
    others: Float[Array, "n bits"],
    negatives: Float[Array, "n m bits"],
    temperature: float | Float[ArrayLike, ""],
    where: Shaped[ArrayLike, " n"] | None,
) -> tuple[Float[Array, " n"], Float[Array, "n m"], Bool[Array, " n"] | None]:
    """Returns the scores of the chosen item and of the negatives, and the checked mask."""
    if isinstance(temperature, int | float) and not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    codes, where = check_codes(codes, where)
    rows, bits = codes.shape
    check_shape("others", others, (rows, bits))
    check_shape("negatives", negatives, (rows, None, bits))
    others = at_least_float32(as_floating("others", others, ndim=2))
    negatives = at_least_float32(as_floating("negatives", negatives, ndim=3))
    if where is not None:
        others = jnp.where(where[:, None], others, 0.0)
        negatives = jnp.where(where[:, None, None], negatives, 0.0)
    positive = jnp.sum(codes * others, axis=1)
    negative = jnp.sum(codes[:, None] * negatives, axis=2)
    return positive / temperature, negative / temperature, where


def _mean_over_columns(values: Float[Array, "n m"]) -> Float[Array, " n"]:
    """Returns the mean of each row, 0 without a column."""
    return jnp.sum(values, axis=1) / max(values.shape[1], 1)
