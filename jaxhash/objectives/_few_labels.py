"""Few labels: pseudo-labels by propagation over the codes of all images, and mined confident ones."""

from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key

from jaxhash import losses
from jaxhash.objectives._banks import empty_bank, update_bank
from jaxhash.objectives._base import (
    Batch,
    Context,
    Loss,
    Objective,
    Setup,
    Variables,
    Weight,
    check_positive,
    check_weights,
    is_static_zero,
    zero_padding,
)
from jaxhash.objectives._linear import Layer, apply_linear, init_linear
from jaxhash.objectives._method import Method
from jaxhash.objectives._tables import Bank, ItemTable, look_up, pad_rows, table_axis
from jaxhash.ops.affinity import certainty, knn_affinity, nearest_rows, propagate_labels
from jaxhash.ops.codes import relax
from jaxhash.ops.collectives import all_gather, row_indices
from jaxhash.similarity import UNLABELLED, has_label, multi_hot

__all__ = ["affinity_propagation"]


class PropagationState(NamedTuple):
    """The last codes of all images, and what was propagated over them."""

    bank: Bank
    """The last relaxed code of each training image, and the labels that are known."""
    pseudo: ItemTable
    """Per image its label, as the number of a class, its weight, and 1 if it is confident, else 0."""
    epochs: Int[Array, ""]
    """Number of epochs that have ended."""


def affinity_propagation(
    *,
    neighbors: int = 50,
    alpha: float = 0.99,
    temperature: float = 0.1,
    agreement: float = 0.8,
    mining: bool = True,
    warmup: int = 5,
    every: int = 1,
    pairs: Weight = 1.0,
) -> Objective:
    r"""Learns from few labels: they are propagated over the codes, and the codes learn from them.

    .. math:: L = -\frac{\sum_i w_i \log p_i[\hat y_i]}{\sum_i w_i}
              - \frac{\lambda}{|\Omega|} \sum_{i \in \Omega} \log (G p)_i[\hat y_i],
              \qquad p_i = \operatorname{softmax}(V^\top h_i + c), \quad h = \tanh u,

    with V and c trained, and G the softmax of :math:`\cos(h_i, h_j) / \tau` over the rows of the
    batch, i included (`jaxhash.losses.propagated_cross_entropy`). A known label is its own
    :math:`\hat y`. In the first ``warmup`` epochs no other image counts. Then, when an epoch begins,

    1. the known labels Y, divided by their number per class, are spread over the graph of nearest
       neighbors of the last codes of all images, which gives F
       (`jaxhash.ops.affinity.propagate_labels`);
    2. :math:`\hat y_i = \arg\max_c F_{ic}`, with weight :math:`w_i = 1 - H(F_i) / \log C`, divided by
       the largest of them. A known label weighs 1. Weights are multiplied by
       :math:`n / (C n_{\hat y})`, so that each class weighs as much;
    3. an image is confident, in :math:`\Omega`, if its label is known, or if :math:`p_i` is largest
       for :math:`\hat y_i` and a share of at least ``agreement`` of its neighbors has the same
       :math:`\hat y`.

    :math:`\hat y`, w and :math:`\Omega` are constants of the loss. An image of several known labels
    has the soft labels y / sum y; one without a label gets a single class all the same.

    Memory is linear in the number of images. The search for neighbors compares blocks of images with
    all: an epoch of 5,000 images took two seconds on CPU cores that others shared, and the search among
    60,000 has 144 times as many pairs, so there ``every`` should be larger. Where banks are spread over devices, each
    searches for its own images, and holds the codes of all while it does.

    Args:
        neighbors: neighbors of an image in the graph.
        alpha: share of a score that comes from the neighbors.
        temperature: :math:`\tau`.
        agreement: least share of the neighbors.
        mining: whether :math:`\Omega` holds the confident images; if not, all images.
        warmup: number of epochs that learn from the known labels alone.
        every: number of epochs from one propagation to the next.
        pairs: :math:`\lambda`; 0 leaves the second term out.

    Raises:
        ValueError: if an option is out of range.

    Example:
        >>> method = affinity_propagation(mining=False)

    Reference:
        A reading of this library, after the idea of Wang, Liu, Ma, Yang, "Weakly-Supervised Semantic
        Segmentation by Iterative Affinity Learning", IJCV 2020, known from a review and its abstract:
        few labels are propagated over affinities that are learned anew from the model's own output,
        and only confident results teach the affinities. It is not that method, which is of pixels:
        superpixels, a propagation network and a region classifier have no counterpart here;
        `experiments/iterative_affinity.py` has its core. The propagation and the weights are those of
        Iscen et al., "Label Propagation for Deep Semi-supervised Learning", CVPR 2019, as read in
        their released code; there the graph is of the features before the classifier and the warm-up
        a whole training. Temperature, agreement among nearest codes (80 % of the pixels of a
        superpixel in the review), warm-up and the sum of the two terms are choices of this library.
    """
    for name, number in (("neighbors", neighbors), ("warmup", warmup), ("every", every)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    check_positive(temperature=temperature)
    check_weights(pairs=pairs)
    if not 0 <= alpha < 1:
        raise ValueError(f"alpha must be in [0, 1), got {alpha}")
    if not 0 <= agreement <= 1:
        raise ValueError(f"agreement must be in [0, 1], got {agreement}")

    def init(key: Key[Array, ""], setup: Setup) -> Variables:
        # No label, no weight, not confident.
        start = jnp.tile(jnp.array([UNLABELLED, 0.0, 0.0]), (setup.items, 1))
        pseudo = ItemTable(pad_rows(start, setup.table_sharding.items))
        state = PropagationState(empty_bank(setup), pseudo, jnp.int32(0))
        return Variables(init_linear(key, setup.bits, setup.classes), state)

    find = partial(_propagate, neighbors=neighbors, alpha=alpha, agreement=agreement)

    def start_epoch(variables, context):
        state = variables.state
        epochs = state.epochs + context.new_epoch
        is_due = context.new_epoch & (epochs >= warmup) & ((epochs - warmup) % every == 0)
        classifier = lax.stop_gradient(variables.params)
        pseudo = lax.cond(
            is_due,
            lambda: find(state.bank, classifier, axis_name=table_axis(state.bank, context)),
            lambda: state.pseudo.rows,
        )
        return state._replace(pseudo=ItemTable(pseudo), epochs=epochs)

    def loss(variables, codes, batch, context):
        state = start_epoch(variables, context)
        relaxed = relax(zero_padding(codes.astype(jnp.float32), batch))
        logits = apply_linear(variables.params, relaxed)
        labels, weights, confident = _targets(state.pseudo, batch, context, logits.shape[1])
        options = {"where": jnp.asarray(batch.mask), "axis_name": context.axis_name}
        value = losses.cross_entropy(logits, labels, weights=weights, **options)
        terms = {"affinity_propagation": value}
        if not is_static_zero(pairs):
            chosen = labels if not mining else jnp.where(confident[:, None], labels, 0.0)
            pair_value = losses.propagated_cross_entropy(
                relaxed, logits, chosen, temperature=temperature, **options
            )
            terms |= {"affinity_propagation_pairs": pair_value}
            value = value + pairs * pair_value
        bank = update_bank(state.bank, relaxed, batch, context)
        return Loss(value, state._replace(bank=bank), terms)

    return Objective(init, loss)


def _targets(
    pseudo: ItemTable, batch: Batch, context: Context, classes: int
) -> tuple[Float[Array, "n classes"], Float[Array, " n"], Bool[Array, " n"]]:
    """Returns label rows, weights, and which rows are confident; known labels are taken as they are."""
    number, weight, confident = look_up(pseudo, batch.index, context).T
    known = has_label(jnp.asarray(batch.labels))
    # Before the first propagation the images with a known label have no weight yet.
    weight = jnp.where(known & (weight == 0), 1.0, weight)
    propagated = multi_hot(number.astype(jnp.int32), classes)
    labels = jnp.where(known[:, None], multi_hot(jnp.asarray(batch.labels), classes), propagated)
    return labels, weight, known | (confident > 0)


def _propagate(
    bank: Bank,
    classifier: Layer,
    *,
    neighbors: int,
    alpha: float,
    agreement: float,
    axis_name: str | None,
) -> Float[Array, "rows 3"]:
    """Returns new labels, weights and confidences of this device's rows of the bank."""
    classes = classifier["kernel"].shape[1]
    own = row_indices(len(bank.seen), axis_name)
    codes, labels, seen = all_gather(tuple(bank), axis_name)
    nearest = nearest_rows(bank.codes, codes, own, seen, neighbors=neighbors)
    found, cosines = all_gather(nearest, axis_name)
    known = has_label(labels) & seen
    rows = jnp.where(known[:, None], multi_hot(labels, classes), 0.0)
    seeds = rows / jnp.maximum(jnp.sum(rows, axis=1, keepdims=True), 1.0)
    seeds = seeds / jnp.maximum(jnp.sum(seeds, axis=0, keepdims=True), 1.0)
    scores = propagate_labels(knn_affinity(found, cosines), seeds, alpha=alpha)

    reached = seen & (jnp.any(scores > 0, axis=1) | known)
    number = jnp.where(reached, jnp.argmax(jnp.where(known[:, None], rows, scores), axis=1), -1)
    sure = jnp.where(reached & ~known, certainty(scores), 0.0)
    largest = jnp.max(sure, initial=0.0)
    weight = jnp.where(known, 1.0, sure / jnp.where(largest > 0, largest, 1.0))
    counts = jnp.sum(multi_hot(number, classes), axis=0)
    balance = jnp.sum(counts) / (classes * jnp.maximum(counts, 1.0))
    weight = weight * jnp.where(reached, balance[jnp.maximum(number, 0)], 0.0)

    is_neighbor = jnp.isfinite(cosines)
    same = jnp.sum(is_neighbor & (number[found] == number[:, None]), axis=1)
    agrees = same >= agreement * jnp.maximum(jnp.sum(is_neighbor, axis=1), 1)
    predicted = jnp.argmax(apply_linear(classifier, codes), axis=1)
    confident = reached & (known | (agrees & (predicted == number)))
    table = jnp.stack([number, weight, confident], axis=1).astype(jnp.float32)
    return table[own]


#: The methods of this family.
METHODS = (
    Method(
        affinity_propagation,
        "after the idea of Wang et al., IJCV 2020 (a reading)",
        kind="few labels",
        state="bank, pseudo-labels, classifier",
        multi_label="known: y / sum(y); others: one class",
        settings={"labeled_per_class": 4},
    ),
)
