"""Methods of interactions: a user, an item that it has chosen, and items that it has not."""

import jax.numpy as jnp
from jax import random
from jaxtyping import Array, Bool, Float

from jaxhash import losses
from jaxhash.objectives._base import (
    Loss,
    Objective,
    Variables,
    Weight,
    check_positive,
    check_weights,
    uniform_by_item,
    zero_padding,
)
from jaxhash.objectives._method import NO_LABELS, Method
from jaxhash.ops.codes import relax, with_gradient_of

__all__ = ["hashgnn"]


def hashgnn(
    *,
    negatives: int = 10,
    beta_end: float = 1.0,
    cross_entropy: Weight = 0.1,
    temperature: float | None = None,
) -> Objective:
    r"""HashGNN: codes of users and items that rank what a user has chosen above what it has not.

    .. math:: L = \lambda L_x + L_{\mathrm{bpr}}

    of `jaxhash.losses.interaction_cross_entropy` and `jaxhash.losses.bpr`. The guided
    straight-through estimator computes both from

    .. math:: h = \begin{cases} \operatorname{sign} z & r < \beta\\ z & \text{else,}\end{cases}
              \qquad z = \tanh u,

    with one uniform number r for a row, not for a bit: the same for a user and its item, another
    for each negative. The gradient through the sign is that of the identity. :math:`\beta` is the
    progress of the training times ``beta_end``, from 0.

    A training item is an interaction, and its views are the user, the item, and ``negatives`` items
    that the user has not chosen, drawn anew each epoch; see
    `jaxhash.data.readers.interactions.InteractionRows`. Labels are ignored. Data without
    interactions are refused.

    Args:
        negatives: items that were not chosen for each interaction.
        beta_end: share of rows that are signs at the end of the training, in [0, 1]. With 0 all
            codes stay relaxed.
        cross_entropy: :math:`\lambda`; 0 leaves the cross-entropy out.
        temperature: temperature of both losses; bits / 8 by default, which bounds a score by 8.

    Example:
        >>> hashgnn(negatives=4).views
        6

    Reference:
        Tan et al., "Learning to Hash with Graph Neural Networks for Recommender Systems" (HashGNN),
        WWW 2020, as read in the authors' code (``qiaoyu-tan/HashGNN``, ``model.py``, ``main.py``);
        the paper's own text could not be had. Departures: a temperature, since without it the
        scores of 32 and more bits saturate the sigmoids; and :math:`\beta` grows continuously to 1,
        where that code raises it by 0.02 every second epoch, so that its default of 20 epochs ends
        at 0.18 and trains mostly on relaxed codes (``beta_end=0.18``). Not the "HashGNN" of Neo4j
        (Wu et al., 2021), which is another method.
    """
    if negatives < 1:
        raise ValueError(f"negatives must be at least 1, got {negatives}")
    if not 0 <= beta_end <= 1:
        raise ValueError(f"beta_end must be in [0, 1], got {beta_end}")
    check_weights(cross_entropy=cross_entropy)
    check_positive(temperature=temperature)

    def loss(variables, codes, batch, context):
        relaxed = [relax(zero_padding(u.astype(jnp.float32), batch)) for u in codes]
        beta = beta_end * context.progress
        of_pair, of_negatives = random.split(context.key)
        pair = uniform_by_item(of_pair, batch.index, 1)[:, 0] < beta
        others = uniform_by_item(of_negatives, batch.index, negatives) < beta
        user, item = (_guided_signs(z, pair) for z in relaxed[:2])
        not_chosen = _guided_signs(jnp.stack(relaxed[2:], axis=1), others)
        options = {
            "temperature": user.shape[1] / 8 if temperature is None else temperature,
            "where": batch.mask,
            "axis_name": context.axis_name,
        }
        terms = {
            "hashgnn_bpr": losses.bpr(user, item, not_chosen, **options),
            "hashgnn_cross_entropy": losses.interaction_cross_entropy(
                user, item, not_chosen, **options
            ),
        }
        value = terms["hashgnn_bpr"] + cross_entropy * terms["hashgnn_cross_entropy"]
        return Loss(value, variables.state, terms)

    return Objective(lambda key, setup: Variables(), loss, views=2 + negatives)


def _guided_signs(
    relaxed: Float[Array, "*rows bits"], is_sign: Bool[Array, "*rows"]
) -> Float[Array, "*rows bits"]:
    """Returns the signs of the marked rows and the others as they are, with the identity's gradient."""
    signs = jnp.where(relaxed >= 0, 1.0, -1.0)
    return with_gradient_of(relaxed, jnp.where(is_sign[..., None], signs, relaxed))


#: The methods of this family.
METHODS = (
    Method(
        hashgnn,
        "Tan et al., WWW 2020",
        kind="interactions",
        multi_label=NO_LABELS,
        data="lastfm",
        settings={"epochs": 40},
    ),
)
