"""Hashing with centers at each level of a hierarchy: HPDH."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Int32

from jaxhash import losses
from jaxhash.objectives._base import (
    Batch,
    Loss,
    Objective,
    Setup,
    Variables,
    Weight,
    add_penalty,
    check_positive,
    check_weights,
    combine,
    from_loss,
    weighted,
    without_padding,
)
from jaxhash.objectives._method import SOFT_LABELS, Method
from jaxhash.ops.collectives import masked_mean
from jaxhash.similarity import UNLABELLED, multi_hot

__all__ = ["hpdh"]

#: Score of a number that is no group: its share of a softmax is 0.
_NOBODY = -1e30


class Centers(NamedTuple):
    """The center of each class, and what the next one is found from."""

    codes: Float[Array, "classes bits"]
    sums: Float[Array, "classes bits"]
    """Of the codes of this epoch's images of each class."""
    counts: Float[Array, " classes"]
    parents: Int[Array, "levels classes"]
    """Of each group of a level its group at the next; groups have numbers from 0, -1 is no group."""


def hpdh(
    *,
    scale: float | None = None,
    margin: float = 1.1,
    bound: Weight = 10.0,
    penalty: Weight = 0.1,
) -> Objective:
    r"""HPDH: a code is nearest to the center of its group at each level of the hierarchy.

    .. math:: L = \sum_\ell \operatorname{cross\_entropy}\big(
              -\tfrac12 \sigma \|u - \mu^\ell_c\|^2, y^\ell\big)
              + \alpha \operatorname{mean}(|u| - m)_+ + \eta \operatorname{mean}(\operatorname{sign} u - u)^2

    over the classes and the levels of `ClassSimilarity.levels` (none: the classes alone). The center of a
    class is the mean code of its images over the last epoch, that of a group the mean of the centers
    of its children; before the first epoch has ended classes have random signs. Of an image of
    several labels each counts by its share, y / sum(y).

    Args:
        scale: sigma; 10 / bits by default.
        margin: m, beyond which codes are held.
        bound: alpha.
        penalty: eta; 0 leaves it out.

    Raises:
        ValueError: if scale or margin is not above 0, bound or penalty is below 0, or, when the
            state is made, a group has children in two groups of the next level.

    Example:
        >>> method = hpdh(scale=0.5)

    Reference:
        HPDH, arXiv 1901.11259, as read off its released code; the text was not at hand. Departures:
        sigma was not found; the centers are made from the codes of the epoch as they come, where
        that code encodes the training set anew, and begin with signs; several labels.
    """
    if scale is not None:
        check_positive(scale=scale)
    check_positive(margin=margin)
    check_weights(bound=bound)

    def init(key, setup):
        codes = jax.random.rademacher(key, (setup.classes, setup.bits), jnp.float32)
        return Variables(
            state=Centers(
                codes, jnp.zeros_like(codes), jnp.zeros(setup.classes), jnp.asarray(_parents(setup))
            )
        )

    def loss(variables, codes, batch, context):
        codes = without_padding(codes.astype(jnp.float32), batch)
        state = _renew(variables.state, context.new_epoch)
        sigma = 10.0 / codes.shape[1] if scale is None else scale
        classify = partial(
            losses.cross_entropy, where=jnp.asarray(batch.mask), axis_name=context.axis_name
        )
        share, centers = _shares(batch, len(state.codes)), state.codes
        value = classify(_scores(codes, centers, sigma), share)
        for parents in state.parents:
            of_parent = (parents[:, None] == jnp.arange(len(parents))[None, :]).astype(jnp.float32)
            children = jnp.sum(of_parent, axis=0)
            centers = _matmul(of_parent.T, centers) / jnp.maximum(children, 1.0)[:, None]
            share = _matmul(share, of_parent)
            scores = jnp.where(children > 0, _scores(codes, centers, sigma), _NOBODY)
            value = value + classify(scores, share)
        return Loss(value, _counted(state, codes, batch, context.axis_name), {"hpdh": value})

    def outside(codes, *, where, axis_name):
        excess = jnp.maximum(jnp.abs(codes.astype(jnp.float32)) - margin, 0.0)
        return jnp.mean(masked_mean(excess, where, axis_name))

    method = combine(Objective(init, loss), weighted(bound, from_loss("hpdh_bound", outside)))
    return add_penalty(method, penalty, from_loss("hpdh_penalty", losses.l2_quantization))


def _parents(setup: Setup) -> Int32[np.ndarray, "levels classes"]:
    """The tree of the groups as `Centers.parents` has it."""
    levels = setup.class_similarity.levels
    below, parents = np.arange(setup.classes), []
    for level in np.empty((0, setup.classes), np.int32) if levels is None else np.asarray(levels):
        if level.shape != below.shape:
            raise ValueError(f"levels must have {setup.classes} classes, got {level.shape}")
        _, group = np.unique(level, return_inverse=True)
        of_below = np.full(setup.classes, UNLABELLED, np.int32)
        of_below[below] = group
        if (of_below[below] != group).any():
            raise ValueError("a group has children in two groups of the next level")
        parents.append(of_below)
        below = group
    return np.array(parents, np.int32).reshape(len(parents), setup.classes)


def _shares(batch: Batch, classes: int) -> Float[Array, "n classes"]:
    """How much each class counts for an image: y / sum(y), zeros without a label."""
    rows = multi_hot(jnp.asarray(batch.labels), classes)
    return rows / jnp.maximum(jnp.sum(rows, axis=1, keepdims=True), 1.0)


def _scores(
    codes: Float[Array, "n bits"], centers: Float[Array, "m bits"], sigma: float
) -> Float[Array, "n m"]:
    """Minus half the squared distances, but for what is the same for all centers."""
    return sigma * (_matmul(codes, centers.T) - 0.5 * jnp.sum(centers**2, axis=1)[None, :])


def _counted(
    state: Centers, codes: Float[Array, "n bits"], batch: Batch, axis_name: str | None
) -> Centers:
    """The state with the rows of all devices added to the sums of their classes."""
    share = _shares(batch, len(state.codes)) * batch.mask[:, None]
    found = _matmul(share.T, lax.stop_gradient(codes)), jnp.sum(share, axis=0)
    if axis_name is not None:
        found = lax.psum(found, axis_name)
    return state._replace(sums=state.sums + found[0], counts=state.counts + found[1])


def _renew(state: Centers, new_epoch: Bool[Array, ""]) -> Centers:
    """In a new epoch the means of the last one; a class that it has not shown stays."""
    means = state.sums / jnp.maximum(state.counts, 1e-6)[:, None]
    codes = jnp.where(new_epoch & (state.counts > 0)[:, None], means, state.codes)
    sums, counts = (jnp.where(new_epoch, 0.0, total) for total in (state.sums, state.counts))
    return Centers(codes, sums, counts, state.parents)


def _matmul(one: Float[Array, "n k"], other: Float[Array, "k m"]) -> Float[Array, "n m"]:
    return jnp.matmul(one, other, precision=lax.Precision.HIGHEST)


#: The rows of this family.
METHODS = (
    Method(
        hpdh,
        "Zhang et al., 2019",
        kind="hierarchy",
        state="centers",
        multi_label=SOFT_LABELS,
        data="cifar100",
        learning_rate=0.01,
    ),
)
