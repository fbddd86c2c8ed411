"""Hashing with centers at each level of a class hierarchy: HPDH."""

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
    zero_padding,
)
from jaxhash.objectives._method import SOFT_LABELS, Method
from jaxhash.ops.collectives import masked_mean
from jaxhash.similarity import UNLABELLED, multi_hot

__all__ = ["hpdh"]

#: Score of unused group numbers, whose share of a softmax is 0.
_MASKED_SCORE = -1e30


class HierarchyCenters(NamedTuple):
    """The center of each class, and the sums that the next one is computed from."""

    codes: Float[Array, "classes bits"]
    sums: Float[Array, "classes bits"]
    """Per class, the sum of this epoch's codes."""
    counts: Float[Array, " classes"]
    parents: Int[Array, "levels classes"]
    """Per level, the parent of each group at the next; groups count from 0, -1 marks no group."""


def hpdh(
    *,
    scale: float | None = None,
    margin: float = 1.1,
    bound: Weight = 10.0,
    penalty: Weight = 0.1,
) -> Objective:
    r"""HPDH: each code is pulled to the center of its group at each level of a hierarchy.

    .. math:: L = \sum_\ell \operatorname{cross\_entropy}\big(
              -\tfrac12 \sigma \|u - \mu^\ell_c\|^2, y^\ell\big)
              + \alpha \operatorname{mean}(|u| - m)_+
              + \eta \operatorname{mean}(\operatorname{sign} u - u)^2

    over the classes and the levels of `ClassSimilarity.levels`, or over the classes alone without
    levels. The center of a class is the mean code of its images over the last epoch, that of a
    group the mean of the centers of its children; in the first epoch the centers of classes are
    random signs. Each label of an image counts by its share, y / sum(y).

    Args:
        scale: sigma; 10 / bits by default.
        margin: m, the size beyond which codes are penalized.
        bound: alpha, the weight of that penalty.
        penalty: eta, the weight of the quantization penalty; 0 leaves it out.

    Raises:
        ValueError: if scale or margin is not above 0, bound or penalty is below 0, or, when the
            state is made, a group has children in two groups of the next level.

    Example:
        >>> method = hpdh(scale=0.5)

    Reference:
        HPDH, arXiv 1901.11259, after its released code; the text was not at hand. Departures: the
        value of sigma was not found; the centers come from the codes of the epoch's batches, where
        that code encodes the training set again, and begin with signs; several labels are allowed.
    """
    if scale is not None:
        check_positive(scale=scale)
    check_positive(margin=margin)
    check_weights(bound=bound)

    def init(key, setup):
        codes = jax.random.rademacher(key, (setup.classes, setup.bits), jnp.float32)
        return Variables(
            state=HierarchyCenters(
                codes, jnp.zeros_like(codes), jnp.zeros(setup.classes), jnp.asarray(_parents(setup))
            )
        )

    def loss(variables, codes, batch, context):
        codes = zero_padding(codes.astype(jnp.float32), batch)
        state = _start_epoch(variables.state, context.new_epoch)
        sigma = 10.0 / codes.shape[1] if scale is None else scale
        classify = partial(
            losses.cross_entropy, where=jnp.asarray(batch.mask), axis_name=context.axis_name
        )
        share, centers = _label_shares(batch, len(state.codes)), state.codes
        value = classify(_scores(codes, centers, sigma), share)
        for parents in state.parents:
            of_parent = (parents[:, None] == jnp.arange(len(parents))[None, :]).astype(jnp.float32)
            children = jnp.sum(of_parent, axis=0)
            centers = _matmul(of_parent.T, centers) / jnp.maximum(children, 1.0)[:, None]
            share = _matmul(share, of_parent)
            scores = jnp.where(children > 0, _scores(codes, centers, sigma), _MASKED_SCORE)
            value = value + classify(scores, share)
        return Loss(value, _add_batch(state, codes, batch, context.axis_name), {"hpdh": value})

    def excess(codes, *, where, axis_name):
        overshoot = jnp.maximum(jnp.abs(codes.astype(jnp.float32)) - margin, 0.0)
        return jnp.mean(masked_mean(overshoot, where, axis_name))

    method = combine(Objective(init, loss), weighted(bound, from_loss("hpdh_bound", excess)))
    return add_penalty(method, penalty, from_loss("hpdh_penalty", losses.l2_quantization))


def _parents(setup: Setup) -> Int32[np.ndarray, "levels classes"]:
    """Returns the tree of the groups in the form of `HierarchyCenters.parents`."""
    levels = setup.class_similarity.levels
    group_of_class, parents = np.arange(setup.classes), []
    for level in np.empty((0, setup.classes), np.int32) if levels is None else np.asarray(levels):
        if level.shape != group_of_class.shape:
            raise ValueError(f"levels must have {setup.classes} classes, got {level.shape}")
        _, group = np.unique(level, return_inverse=True)
        parents_of_level = np.full(setup.classes, UNLABELLED, np.int32)
        parents_of_level[group_of_class] = group
        if (parents_of_level[group_of_class] != group).any():
            raise ValueError("a group has children in two groups of the next level")
        parents.append(parents_of_level)
        group_of_class = group
    return np.array(parents, np.int32).reshape(len(parents), setup.classes)


def _label_shares(batch: Batch, classes: int) -> Float[Array, "n classes"]:
    """Returns the share of each class in an image, y / sum(y); zeros without a label."""
    rows = multi_hot(jnp.asarray(batch.labels), classes)
    return rows / jnp.maximum(jnp.sum(rows, axis=1, keepdims=True), 1.0)


def _scores(
    codes: Float[Array, "n bits"], centers: Float[Array, "m bits"], sigma: float
) -> Float[Array, "n m"]:
    """Returns minus half the squared distances, up to a constant per code."""
    return sigma * (_matmul(codes, centers.T) - 0.5 * jnp.sum(centers**2, axis=1)[None, :])


def _add_batch(
    state: HierarchyCenters, codes: Float[Array, "n bits"], batch: Batch, axis_name: str | None
) -> HierarchyCenters:
    """Adds the rows of all devices to the sums of their classes."""
    share = _label_shares(batch, len(state.codes)) * batch.mask[:, None]
    totals = _matmul(share.T, lax.stop_gradient(codes)), jnp.sum(share, axis=0)
    if axis_name is not None:
        totals = lax.psum(totals, axis_name)
    return state._replace(sums=state.sums + totals[0], counts=state.counts + totals[1])


def _start_epoch(state: HierarchyCenters, new_epoch: Bool[Array, ""]) -> HierarchyCenters:
    """In a new epoch, sets centers to the last epoch's means; without images they stay."""
    means = state.sums / jnp.maximum(state.counts, 1e-6)[:, None]
    codes = jnp.where(new_epoch & (state.counts > 0)[:, None], means, state.codes)
    sums, counts = (jnp.where(new_epoch, 0.0, total) for total in (state.sums, state.counts))
    return HierarchyCenters(codes, sums, counts, state.parents)


def _matmul(a: Float[Array, "n k"], b: Float[Array, "k m"]) -> Float[Array, "n m"]:
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


#: The methods of this family.
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
