"""Methods of trained class anchors, and of neighbors and prototypes in a batch: CAM and SuSana."""

from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxhash import losses
from jaxhash.losses import AnchorReduction
from jaxhash.objectives._base import (
    Batch,
    Loss,
    Objective,
    Setup,
    Variables,
    check_positive,
    check_weights,
    zero_padding,
)
from jaxhash.objectives._method import Method
from jaxhash.objectives._pairs import pairwise
from jaxhash.ops.codebooks import codebook
from jaxhash.ops.codes import relax
from jaxhash.ops.collectives import split_grad, weighted_means
from jaxhash.similarity import multi_hot

__all__ = ["AnchorStart", "NeighborTargets", "class_anchor_margin", "icnn", "proto_triplet"]

#: The first values of anchors: random, or multiples of the unit vectors.
AnchorStart = Literal["normal", "base"]

#: Among what the neighbors of a code are looked for: the batch, or the means of its classes.
NeighborTargets = Literal["batch", "prototypes"]


def class_anchor_margin(
    *,
    margin: float | None = None,
    reduction: AnchorReduction = "ordered-sum",
    least_norm: float = 1.0,
    start: AnchorStart = "normal",
) -> Objective:
    r"""CAM: relaxed codes near the trained anchor of their class, and anchors far from each other.

    .. math:: L = L_A(\tanh u, a) + L_R(a) + L_N(a)

    of `jaxhash.losses.anchor_attraction`, `jaxhash.losses.anchor_repulsion` and
    `jaxhash.losses.anchor_norm_shortfall`, with the anchors a trained beside the network. Images
    without a label are left out of the first.

    Args:
        margin: m, half the least distance of two anchors. By default the square root of the least
            Hamming distance d of a `jaxhash.ops.codebooks.codebook` of the classes: anchors of -1
            and +1 that differ in d bits are then far enough.
        reduction: how the pairs of anchors are added up, see `jaxhash.losses.anchor_repulsion`.
        least_norm: p, the norm that an anchor should have.
        start: ``"normal"`` draws anchors from the normal law; ``"base"`` has
            :math:`\sqrt2 m (1 + \lfloor c / \mathrm{bits} \rfloor)` times the unit vector c modulo
            bits, so that those of different directions are 2m apart at least.

    Raises:
        ValueError: if margin or least_norm is not above 0, or reduction or start is unknown.

    Example:
        >>> method = class_anchor_margin(margin=2.0, start="base")

    Reference:
        Ghita and Ionescu, "Class anchor margin loss for content-based image retrieval", 2023.
        Evidence: the losses say theirs; that they are added with equal weights, m = 2, p = 1 and
        both starts are from memory, not confirmed (what the multiples of unit vectors are is a
        choice of ours). Departures: the tanh, the default of the margin and several labels (their
        mean) are readings of ours for hashing; the paper has real embeddings of one class each.
    """
    check_positive(margin=margin, least_norm=least_norm)
    _check_choice("reduction", reduction, get_args(AnchorReduction))
    _check_choice("start", start, get_args(AnchorStart))

    def init(key, setup):
        half = _codebook_margin(setup) if margin is None else margin
        return Variables(_first_anchors(key, setup, half, start), jnp.float32(half))

    def loss(variables, codes, batch, context):
        anchors, half = variables
        relaxed = relax(zero_padding(codes.astype(jnp.float32), batch))
        attraction = losses.anchor_attraction(
            relaxed,
            anchors,
            multi_hot(batch.labels, len(anchors)),
            where=batch.mask,
            axis_name=context.axis_name,
        )
        # Every device computes these of all anchors.
        repulsion, shortfall = (
            split_grad(term, context.axis_name)
            for term in (
                losses.anchor_repulsion(anchors, margin=half, reduction=reduction),
                losses.anchor_norm_shortfall(anchors, least_norm=least_norm),
            )
        )
        terms = {"attraction": attraction, "repulsion": repulsion, "norm_shortfall": shortfall}
        terms = {f"class_anchor_margin_{name}": value for name, value in terms.items()}
        return Loss(attraction + repulsion + shortfall, half, terms)

    return Objective(init, loss)


def icnn(
    *,
    neighbors: int = 4,
    candidates: int | None = None,
    targets: NeighborTargets = "batch",
    drop_nearest: bool = False,
) -> Objective:
    r"""ICNN: the nearest codes of a code are of its class, near it, and others all equally far.

    `jaxhash.losses.icnn` of :math:`\tanh u`, whose columns are the other images of the whole batch, or
    the mean codes of its classes. Images that share any label are similar. A batch should hold
    several images of a class, as ``--batch-classes`` makes them.

    Args:
        neighbors: k, the number of neighbors that are scored.
        candidates: among how many the nearest dissimilar one is looked for; neighbors + 1 by
            default.
        targets: ``"batch"`` or ``"prototypes"``.
        drop_nearest: whether the nearest of the targets is left out beside the image itself, as in
            the authors' code for prototypes: an image in its place then has nothing of its class.

    Raises:
        ValueError: if neighbors is below 1, candidates is not above it, or targets is unknown.

    Example:
        >>> method = icnn(targets="prototypes", drop_nearest=True)  # as released

    Reference:
        Mendez-Ruiz et al., "SuSana Distancia is all you need", 2023. Evidence: the authors' code
        (maumruiz/FSL-Loss), for few-shot classification. Departures for hashing, readings of ours:
        the tanh, several labels, and the whole batch in place of the support and the queries of an
        episode.
    """
    if neighbors < 1:
        raise ValueError(f"neighbors must be at least 1, got {neighbors}")
    if candidates is not None and candidates <= neighbors:
        raise ValueError(f"candidates must be above neighbors={neighbors}, got {candidates}")
    _check_choice("targets", targets, get_args(NeighborTargets))
    score = partial(
        losses.icnn, neighbors=neighbors, candidates=candidates, drop_nearest=drop_nearest
    )
    if targets == "batch":
        return pairwise("icnn", score, pairs="batch", relax=lambda codes, context: relax(codes))

    def init(key, setup):
        return Variables(state=_class_slots(setup))

    def loss(variables, codes, batch, context):
        relaxed = relax(zero_padding(codes.astype(jnp.float32), batch))
        labels = _valid_labels(batch, len(variables.state))
        means, number = weighted_means(relaxed, labels, context.axis_name)
        is_column = (number > 0)[None, :] & labels.any(axis=1)[:, None]
        value = score(relaxed, means, labels, where=is_column, axis_name=context.axis_name)
        return Loss(value, variables.state, {"icnn": value})

    return Objective(init, loss)


def proto_triplet(*, margin: float = 0.5) -> Objective:
    r"""Proto-triplet: a code is nearer to the mean of its class than to any other class's mean.

    `jaxhash.losses.proto_triplet` of :math:`\tanh u`, with the means of the whole batch, and without
    the image itself in that of its own class. A batch should hold several images of a class, as
    ``--batch-classes`` makes them. Images without a label are left out.

    Args:
        margin: by how much it is to be nearer.

    Raises:
        ValueError: if the margin is below 0.

    Example:
        >>> from jaxhash.objectives import combine, weighted
        >>> method = weighted(0.5, combine(icnn(), proto_triplet()))  # the mean of both terms

    Reference:
        Mendez-Ruiz et al., "SuSana Distancia is all you need", 2023. Evidence and departures are
        those of `icnn`, and of `jaxhash.losses.proto_triplet`.
    """
    check_weights(margin=margin)

    def init(key, setup):
        return Variables(state=_class_slots(setup))

    def loss(variables, codes, batch, context):
        value = losses.proto_triplet(
            relax(zero_padding(codes.astype(jnp.float32), batch)),
            _valid_labels(batch, len(variables.state)),
            margin=margin,
            axis_name=context.axis_name,
        )
        return Loss(value, variables.state, {"proto_triplet": value})

    return Objective(init, loss)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises a ValueError that names an option whose value is none of those allowed."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}")


def _codebook_margin(setup: Setup) -> float:
    """Returns the margin that a codebook of the classes satisfies."""
    return float(codebook(setup.classes, setup.bits).distance) ** 0.5


def _first_anchors(
    key: Array, setup: Setup, margin: float, start: AnchorStart
) -> Float[Array, "classes bits"]:
    """Returns the anchors before the first step."""
    if start == "normal":
        return jax.random.normal(key, (setup.classes, setup.bits))
    number = jnp.arange(setup.classes)
    multiple = 2**0.5 * margin * (1 + number // setup.bits)
    return multiple[:, None] * jax.nn.one_hot(number % setup.bits, setup.bits)


def _class_slots(setup: Setup) -> Bool[Array, " classes"]:
    """Returns a constant state whose length is the number of classes, which a batch does not tell."""
    return jnp.zeros(setup.classes, bool)


def _valid_labels(batch: Batch, classes: int) -> Float[Array, "n classes"]:
    """Returns the labels as multi-hot rows, with zeros for padding."""
    return multi_hot(batch.labels, classes) * batch.mask[:, None]


#: The methods of this family.
METHODS = (
    Method(
        class_anchor_margin,
        "Ghita and Ionescu, 2023",
        kind="centers",
        state="anchors",
        multi_label="mean over its anchors",
    ),
    Method(
        icnn,
        "Mendez-Ruiz et al., 2023",
        kind="ranking",
        settings={"batch_size": 100, "batch_classes": 10},
    ),
    Method(
        proto_triplet,
        "Mendez-Ruiz et al., 2023",
        kind="ranking",
        multi_label="a prototype each label",
        settings={"batch_size": 100, "batch_classes": 10},
    ),
)
