"""CIMON: two views whose pseudo-similarities are weighted by how far they can be trusted."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxhash import losses
from jaxhash.objectives._base import (
    Loss,
    Objective,
    Setup,
    Variables,
    Weight,
    check_positive,
    check_weights,
    uniform_by_item,
    zero_padding,
)
from jaxhash.objectives._method import NO_LABELS, Method
from jaxhash.objectives._unsupervised import (
    BIN,
    BINS,
    fit_halves,
    fixed_features,
    histogram,
    initial_encoder,
)
from jaxhash.ops.codes import relax
from jaxhash.ops.collectives import all_gather, row_indices
from jaxhash.ops.numerics import inner_products, normalize_rows
from jaxhash.similarity import semantic_confidence

__all__ = ["cimon"]


class Clusters(NamedTuple):
    """Centers of k-means, and what they move to when the epoch ends."""

    centers: Float[Array, "clusters features"]
    filled: Int[Array, ""]
    """Number of centers that have been drawn; the others have no members."""
    sums: Float[Array, "clusters features"]
    """Sums of the features that were nearest to each center in this epoch."""
    counts: Float[Array, " clusters"]
    """Their numbers."""


class State(NamedTuple):
    """Memory of `cimon`; none of it grows with the number of images."""

    encoder: PyTree
    """What makes the features that stay fixed; see `initial_encoder`."""
    histogram: Float[Array, " bins"]
    clusters: Clusters


def cimon(
    *, threshold: float = 0.1, clusters: int = 70, eta: Weight = 0.3, temperature: float = 0.5
) -> Objective:
    r"""CIMON: codes of two views follow trusted pseudo-similarities, and agree with each other.

    .. math:: L = \sum_{a, b \in \{1, 2\}} \operatorname{mean}_{ij} w^b_{ij}
              \Big(\frac{h^a_i \cdot h^a_j}{\mathrm{bits}} - s^b_{ij}\Big)^2
              + \eta \operatorname{nt\_xent}(h^1, h^2), \qquad h = \tanh u,

    over all pairs of the whole batch, a row with itself included. In view b a pair is similar,
    :math:`s^b = 1`, if the cosine distance of its features is at most the threshold, and dissimilar,
    :math:`s^b = -1`, if it is greater. Its weight is its
    `jaxhash.similarity.semantic_confidence`, or 0 if clusters contradict it: similar features in two
    clusters, or dissimilar ones in the same. The features are those of `greedyhash_u`. Labels are
    ignored.

    The threshold belongs to the features. The paper's 0.1 is for activations of VGG16. Distances of
    centered features have their mode near 1, and hardly a pair is below 0.1; the preset has 0.5.

    Args:
        threshold: greatest cosine distance of a similar pair, below 2.
        clusters: number of clusters.
        eta: weight of the contrastive loss.
        temperature: its temperature.

    Raises:
        ValueError: if ``threshold``, ``clusters`` or ``temperature`` is not above 0, or ``eta`` is
            negative.

    Example:
        >>> cimon(threshold=0.5).views
        2

    Reference:
        Luo et al., "CIMON: Towards High-quality Hash Codes", IJCAI 2021; read in the authors' code,
        which trains all of a VGG16 by SGD with rate 1e-3, momentum 0.9 and batches of 24 for 150
        epochs. Departures: k-means instead of spectral clustering, with a step of Lloyd's algorithm
        each epoch from centers drawn in the first batches; the features are those of the views of
        this batch, not of one strong augmentation of each image made beforehand; both views, which
        are drawn alike, share the clusters and the histogram of distances; that histogram is of the
        pairs of different rows that shared a batch so far, with the mode of
        `semantic_structure_hashing`. So no matrix of all pairs of images is ever made.
    """
    check_positive(threshold=threshold, temperature=temperature)
    if clusters < 1:
        raise ValueError(f"clusters must be at least 1, got {clusters}")
    check_weights(eta=eta)

    def init(key, setup):
        shapes = [view.shape[1:] for view in setup.inputs]
        if shapes[0] != shapes[1]:
            raise ValueError(f"the views of cimon must have one shape, got {shapes}")
        setup = setup._replace(inputs=setup.inputs[0])
        size = (clusters, feature_size(setup))
        nothing = Clusters(
            jnp.zeros(size), jnp.int32(0), jnp.zeros(size), jnp.zeros(clusters, jnp.float32)
        )
        return Variables(state=State(initial_encoder(setup), jnp.zeros(BINS, jnp.float32), nothing))

    def loss(variables, codes, batch, context):
        state = variables.state
        views = [relax(zero_padding(view.astype(jnp.float32), batch)) for view in codes]
        features = [
            normalize_rows(fixed_features(state.encoder, batch._replace(inputs=view), context))
            for view in batch.inputs
        ]
        rows = row_indices(len(batch.mask), context.axis_name)
        all_views, all_features, index, mask = all_gather(
            (views, features, batch.index, batch.mask), context.axis_name
        )
        where = batch.mask[:, None] & mask[None, :]
        is_other = rows[:, None] != jnp.arange(len(mask))[None, :]

        counts, distances = state.histogram, []
        for own, every in zip(features, all_features, strict=True):
            distances.append(1.0 - inner_products(own, every))
            counts = counts + histogram(distances[-1], where & is_other, context.axis_name)
        noise = uniform_by_item(context.key, index, 1)[:, 0]
        kept = fill(end_epoch(state.clusters, context.new_epoch), all_features[0], mask, noise)
        ids = [nearest_center(kept, every) for every in all_features]
        for every, of_view in zip(all_features, ids, strict=True):
            kept = count_members(kept, every, of_view, mask)

        mode, left, right = fit_halves(counts)
        left, right = jnp.maximum(left, BIN), jnp.maximum(right, BIN)  # not 0 in a single bin
        consistency = jnp.float32(0)
        for distance, of_view in zip(distances, ids, strict=True):
            similar = distance <= threshold
            agrees = similar == (of_view[rows][:, None] == of_view[None, :])
            trust = semantic_confidence(distance, mode, left, right, threshold=threshold)
            for own, every in zip(views, all_views, strict=True):
                consistency += losses.semantic_consistency(
                    own,
                    every,
                    jnp.where(similar, 1.0, -1.0),
                    jnp.where(agrees, trust, 0.0),
                    where=where,
                    axis_name=context.axis_name,
                )
        contrast = losses.nt_xent(
            *views, temperature=temperature, where=batch.mask, axis_name=context.axis_name
        )
        terms = {"cimon": consistency, "cimon_contrast": contrast}
        state = State(state.encoder, counts, kept)
        return Loss(consistency + eta * contrast, state, terms)

    return Objective(init, loss, views=2)


def feature_size(setup: Setup) -> int:
    """Returns the number of the features that `fixed_features` makes of one view."""
    if setup.inputs.ndim == 2:
        return setup.inputs.shape[1]
    encode = partial(setup.encode, return_features=True)
    return jax.eval_shape(encode, setup.variables, setup.inputs).shape[-1]


def end_epoch(clusters: Clusters, new_epoch: Bool[Array, ""]) -> Clusters:
    """Moves each center to the mean of its members, if an epoch has ended; it stays without one."""
    moves = new_epoch & (clusters.counts > 0)
    means = clusters.sums / jnp.maximum(clusters.counts, 1)[:, None]
    return Clusters(
        jnp.where(moves[:, None], means, clusters.centers),
        clusters.filled,
        jnp.where(new_epoch, 0.0, clusters.sums),
        jnp.where(new_epoch, 0.0, clusters.counts),
    )


def fill(
    clusters: Clusters,
    features: Float[Array, "n features"],
    mask: Bool[Array, " n"],
    noise: Float[Array, " n"],
) -> Clusters:
    """Draws centers that are missing from the rows of a batch, those of the least noise first."""
    order = _ranks(jnp.where(mask, noise, jnp.inf))
    total = len(clusters.centers)
    slot = jnp.where(mask, clusters.filled + order, total)  # out of range: dropped
    return clusters._replace(
        centers=clusters.centers.at[slot].set(features, mode="drop"),
        filled=jnp.minimum(clusters.filled + jnp.sum(mask, dtype=jnp.int32), total),
    )


def _ranks(values: Float[Array, " n"]) -> Int[Array, " n"]:
    """Returns the position of each value in ascending order, without a sort, which a TPU does slowly."""
    rows = jnp.arange(len(values))
    is_equal = values[None, :] == values[:, None]
    is_before = (values[None, :] < values[:, None]) | (is_equal & (rows[None, :] < rows[:, None]))
    return jnp.sum(is_before, axis=1, dtype=jnp.int32)


def nearest_center(clusters: Clusters, features: Float[Array, "n features"]) -> Int[Array, " n"]:
    """Returns the number of the center that is nearest to each row."""
    centers = clusters.centers
    score = inner_products(features, centers) - 0.5 * jnp.sum(centers**2, axis=1)[None, :]
    is_filled = jnp.arange(len(centers)) < clusters.filled
    return jnp.argmax(jnp.where(is_filled[None, :], score, -jnp.inf), axis=1)


def count_members(
    clusters: Clusters,
    features: Float[Array, "n features"],
    ids: Int[Array, " n"],
    mask: Bool[Array, " n"],
) -> Clusters:
    """Adds the rows of a batch to the sums of their clusters."""
    member = ((ids[:, None] == jnp.arange(len(clusters.centers))[None, :]) & mask[:, None]).astype(
        jnp.float32
    )
    return clusters._replace(
        sums=clusters.sums + inner_products(member.T, features.T),
        counts=clusters.counts + jnp.sum(member, axis=0),
    )


#: The methods of this family. The threshold is chosen by the histogram of distances: a search by mAP
#: would supervise the method.
METHODS = (
    Method(
        cimon,
        "Luo et al., IJCAI 2021",
        kind="unsupervised",
        state="histogram, clusters, images: first model",
        multi_label=NO_LABELS,
        settings={"drop": 0.2, "objective_options": ("threshold=0.5",)},
    ),
)
