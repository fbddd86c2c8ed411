"""Methods with semantic distances between images: SHREWD, and SHRED, which adds a classifier."""

from functools import partial
from typing import Any, NamedTuple, get_args

import jax.numpy as jnp
from jaxtyping import Array, Float, Key, PyTree

from jaxhash import losses
from jaxhash.losses import Normalizer
from jaxhash.objectives._base import (
    Batch,
    Context,
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
    is_static_zero,
    on_probabilities,
    probabilities,
    weighted,
    zero_padding,
)
from jaxhash.objectives._classification import classification
from jaxhash.objectives._method import LABEL_COSINE, Method
from jaxhash.objectives._tables import ItemTable, look_up, pad_rows
from jaxhash.ops.collectives import all_gather
from jaxhash.similarity import embedding_distance, has_label, label_cosine

__all__ = ["shred", "shrewd"]


class ClassDistances(NamedTuple):
    """The semantic distance of each two classes."""

    distances: Float[Array, "classes classes"]


def shrewd(
    *,
    gamma: float = 0.1,
    rho: float = 2.0,
    normaliser: Normalizer = "weights",
    penalty: Weight = 0.1,
) -> Objective:
    r"""SHREWD: distances of codes follow semantic ones, and an empirical divergence from fair bits.

    .. math:: L = \operatorname{semantic\_similarity}(z, d)
              + \lambda \operatorname{nearest\_neighbor\_kl}(z), \qquad z = (1 + \tanh u) / 2

    of `jaxhash.losses`. The distances d come from `ClassSimilarity`: the
    `jaxhash.similarity.embedding_distance` of the images' embeddings if given; else the distances
    of their classes if given and images have one class; else 1 - `jaxhash.similarity.label_cosine`,
    which for class ids is 0 or 1.

    Args:
        gamma: semantic distance at which a pair weighs :math:`2^{-\rho}`.
        rho: exponent with which the weight falls with the distance.
        normaliser: divisor of the similarity loss.
        penalty: lambda, the weight of the divergence, which is the quantizer ``empirical-kl`` with
            its defaults; 0 leaves it out.

    Raises:
        ValueError: if gamma is not above 0, rho or penalty below 0, or normaliser is unknown.

    Example:
        >>> method = shrewd(rho=1.0)

    Reference:
        Arponen, Bishop, "SHREWD: semantic hierarchy-based relational embeddings for
        weakly-supervised deep hashing", arXiv 1908.05602. The two terms are known from public text;
        their forms are from memory, see `jaxhash.losses`; the weight is a choice of this library,
        as the paper's was not found.
    """
    check_positive(gamma=gamma)
    check_weights(rho=rho)
    if normaliser not in get_args(Normalizer):
        raise ValueError(f"normaliser must be one of {get_args(Normalizer)}, got {normaliser!r}")
    options = {"gamma": gamma, "rho": rho, "normalizer": normaliser}
    similarity = on_probabilities(partial(losses.semantic_similarity, **options))

    def loss(variables, codes, batch, context):
        value = similarity(
            zero_padding(codes, batch),
            **_batch_distances(variables.state, batch, context),
            axis_name=context.axis_name,
        )
        return Loss(value, variables.state, {"shrewd": value})

    return add_penalty(
        Objective(_init_distances, loss), penalty, _divergence_penalty("shrewd_penalty")
    )


def shred(
    *,
    similarity: Weight = 1.0,
    gamma: float = 0.1,
    rho: float = 2.0,
    normaliser: Normalizer = "weights",
    penalty: Weight = 0.1,
) -> Objective:
    r"""SHRED: `shrewd` and the cross-entropy of a linear classifier of z.

    .. math:: L = \operatorname{cross\_entropy}(W^T z + b, y)
              + \mu \operatorname{semantic\_similarity}(z, d)
              + \lambda \operatorname{nearest\_neighbor\_kl}(z)

    Args:
        similarity: mu, the weight of the semantic similarity; 0 leaves it out.
        gamma: as in `shrewd`.
        rho: as in `shrewd`.
        normaliser: as in `shrewd`.
        penalty: lambda, as in `shrewd`.

    Raises:
        ValueError: as in `shrewd`; and if similarity is below 0.

    Example:
        >>> method = shred(similarity=2.0)

    Reference:
        Arponen, Bishop, "Learning to hash with semantic similarity metrics and empirical KL
        divergence", arXiv 2005.04917. The three terms are known from public text; that
        the classifier is linear and of the relaxed codes is from memory. The weights are a choice
        of this library.
    """
    check_weights(similarity=similarity)
    semantic = shrewd(gamma=gamma, rho=rho, normaliser=normaliser, penalty=0.0)
    classify = classification("shred_classification", _to_probabilities, losses.cross_entropy)
    method = (
        classify
        if is_static_zero(similarity)
        else combine(classify, weighted(similarity, semantic))
    )
    return add_penalty(method, penalty, _divergence_penalty("shred_penalty"))


def _divergence_penalty(name: str) -> Objective:
    """Returns the penalty of both methods: the empirical divergence from fair bits."""
    return from_loss(name, on_probabilities(losses.nearest_neighbor_kl), random=True)


def _to_probabilities(codes: Float[Array, "n bits"], batch: Batch, context: Context):
    return probabilities(codes)


def _init_distances(key: Key[Array, ""], setup: Setup) -> Variables:
    """Returns the embeddings or the class distances as state, so that the checkpoint holds them."""
    known = setup.class_similarity
    if known.embeddings is not None:
        if len(known.embeddings) != setup.items:
            raise ValueError(
                f"there are {len(known.embeddings)} embeddings and {setup.items} training items"
            )
        embeddings = jnp.asarray(known.embeddings, jnp.float32)
        return Variables(state=ItemTable(pad_rows(embeddings, setup.table_sharding.items)))
    if known.distances is None or setup.multi_label:
        return Variables()
    if known.distances.shape != (setup.classes, setup.classes):
        raise ValueError(
            f"distances must be those of {setup.classes} classes, got {known.distances.shape}"
        )
    return Variables(state=ClassDistances(jnp.asarray(known.distances, jnp.float32)))


def _batch_distances(state: PyTree, batch: Batch, context: Context) -> dict[str, Any]:
    """Returns the semantic distances of the rows of a batch as arguments of the loss."""
    labels, mask, axis_name = jnp.asarray(batch.labels), jnp.asarray(batch.mask), context.axis_name

    def all_rows(rows):
        return all_gather(rows, axis_name)

    if isinstance(state, ItemTable):
        rows = look_up(state, batch.index, context)
        return {"distances": embedding_distance(rows, all_rows(rows)), "where": mask}
    if isinstance(state, ClassDistances):
        return {"distances": state.distances, "labels": labels, "where": mask}
    distances = 1.0 - label_cosine(labels, all_rows(labels))
    return {"distances": distances, "where": mask & has_label(labels)}


#: The methods of this family. Rates and weights have the best validation mAHP@250, by
#: `experiments/hierarchy.py`.
METHODS = (
    Method(
        shrewd,
        "Arponen and Bishop, 2019",
        kind="hierarchy",
        state="distances",
        multi_label=LABEL_COSINE,
        data="cifar100",
        learning_rate=0.01,
        settings={"quantizer_weight": 0.03},
    ),
    Method(
        shred,
        "Arponen and Bishop, 2020",
        kind="hierarchy",
        state="classifier, distances",
        multi_label=LABEL_COSINE,
        data="cifar100",
        learning_rate=0.03,
        settings={"quantizer_weight": 0.3, "objective_options": ("similarity=10",)},
    ),
)
