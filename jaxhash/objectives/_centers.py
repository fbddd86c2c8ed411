"""Methods with a center per class in code space: CSQ, DPN, OrthoHash and HyP^2."""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int8

from jaxhash import losses
from jaxhash.losses import MarginType
from jaxhash.objectives._base import (
    Batch,
    Context,
    Loss,
    Objective,
    Variables,
    Weight,
    add_penalty,
    check_positive,
    check_weights,
    from_loss,
    on_relaxed,
)
from jaxhash.objectives._center_tables import (
    RandomCodebook,
    class_codebook,
    class_table,
    random_codebook,
    random_signs,
    sum_of_centers,
)
from jaxhash.objectives._method import SOFT_LABELS, Method
from jaxhash.objectives._pairs import batch_candidates
from jaxhash.objectives._tables import (
    ClassTable,
    gather_for_table,
    row_mask,
    table_axis,
)
from jaxhash.ops.class_blocks import are_many
from jaxhash.ops.codebooks import LinearCodebook, codebook, majority_vote
from jaxhash.ops.codes import binarize
from jaxhash.ops.collectives import psum_no_grad
from jaxhash.similarity import has_label, multi_hot, shares_label

__all__ = ["csq", "dpn", "hyp2", "orthohash"]

#: Sources of the targets of DPN.
Targets = Literal["codebook", "random", "adaptive"]


class Centers(NamedTuple):
    """The center of each class, and the signs that break ties between classes of one image."""

    codes: ClassTable | LinearCodebook
    ties: Int8[Array, " bits"]


class AdaptiveTargets(NamedTuple):
    """Targets that are updated from the codes each epoch."""

    codes: ClassTable
    votes: ClassTable
    """Per class, the sum of the signs of this epoch's codes that are beyond the margin."""


def csq(*, penalty: Weight = 1e-4, codebook_seed: int = 0) -> Objective:
    r"""CSQ: each bit is classified as the bit of its class's center, `jaxhash.losses.csq`.

    The centers are a `jaxhash.ops.codebooks.codebook`. An image of several labels has as
    center the majority of its classes' centers in each bit; ties go to a random sign per bit that
    is drawn once. Images without a label count in the penalty only.

    Args:
        penalty: weight of the mean of :math:`\log\cosh(|\tanh u| - 1)`; 0 leaves it out. The
            released code has 0.05, a later implementation 1e-4, both for the mean of
            :math:`(|\tanh u| - 1)^2`, which near the signs is twice the published term.
        codebook_seed: seed of the centers and of the signs for ties.

    Example:
        >>> method = csq(penalty=0.0)

    Reference:
        Yuan et al., "Central Similarity Quantization for Efficient Image and Video Retrieval",
        CVPR 2020. Departure: the codebook has a proven distance at any number of classes and bits,
        where the paper has Hadamard rows at powers of 2 and random centers otherwise.
    """

    def init(key, setup):
        ties = random_signs(codebook_seed, setup.bits)
        return Variables(state=Centers(class_codebook(setup, codebook_seed), jnp.asarray(ties)))

    def loss(variables, codes, batch, context):
        centers = variables.state
        value = losses.csq(
            codes,
            majority_vote(sum_of_centers(centers.codes, batch, context), centers.ties),
            where=_is_labeled(batch),
            axis_name=context.axis_name,
        )
        return Loss(value, centers, {"csq": value})

    quantization = from_loss("csq_penalty", on_relaxed(losses.log_cosh_quantization))
    return add_penalty(Objective(init, loss), penalty, quantization)


def dpn(*, margin: float = 1.0, targets: Targets = "codebook", codebook_seed: int = 0) -> Objective:
    r"""DPN: a hinge pushes each bit past a margin, on the side of its class's target.

    The loss is `jaxhash.losses.dpn`; for an image of several labels, its mean over the targets of
    its classes. Images without a label are left out.

    Args:
        margin: value from which a bit costs nothing.
        targets: ``"codebook"`` for a `jaxhash.ops.codebooks.codebook`; ``"random"`` for fair signs,
            which above 131,072 classes follow from the class id;
            ``"adaptive"`` for fair signs at first, and from each epoch to the next the sign of the
            sum over a class of :math:`\operatorname{sign} u` where :math:`|u|` is above the
            margin. A sum of 0 leaves the target as it was.
        codebook_seed: seed of the targets.

    Raises:
        ValueError: if margin is not above 0, or targets is unknown.

    Example:
        >>> method = dpn(targets="random")

    Reference:
        Fan, Ng, Ju, Zhang, Chan, "Deep Polarized Network for Supervised Learning of Accurate Binary
        Hashing Codes", IJCAI 2020, whose abstract says that random targets suffice; the adaptive
        ones are as a later implementation has them, the text was not at hand. Departure: targets
        have a proven distance by default. An implementation (DeepHash-pytorch) keeps the codes of
        the whole training set for the adaptive targets, and lets a sum of 0 make a target of 0,
        which is no sign; and the target of an image of several labels is there the sign of their
        sum, with random signs where that is 0, as in `csq`. Here it is their mean: a bit on which
        the classes differ is pulled by the difference alone, and no farther than the margin.
    """
    check_positive(margin=margin)
    if targets not in get_args(Targets):
        raise ValueError(f"targets must be one of {get_args(Targets)}, got {targets!r}")

    def init(key, setup):
        if targets == "codebook":
            return Variables(state=class_codebook(setup, codebook_seed))
        if targets == "random" and are_many(setup.classes) and not setup.multi_label:
            return Variables(state=random_codebook(setup, codebook_seed))
        codes = class_table(random_signs(codebook_seed, setup.classes, setup.bits), setup)
        if targets == "random":
            return Variables(state=codes)
        return Variables(state=AdaptiveTargets(codes, ClassTable(jnp.zeros(codes.rows.shape))))

    def loss(variables, codes, batch, context):
        state = variables.state
        if targets == "adaptive":
            state = _start_epoch(state, context.new_epoch)
        current = state.codes if targets == "adaptive" else state
        value = losses.dpn(
            codes,
            _mean_targets(current, batch, context),
            margin=margin,
            where=_is_labeled(batch),
            axis_name=context.axis_name,
        )
        if targets == "adaptive":
            votes = state.votes.rows + _sum_votes(codes, batch, margin, current, context)
            state = state._replace(votes=ClassTable(votes))
        return Loss(value, state, {"dpn": value})

    return Objective(init, loss)


def orthohash(
    *,
    scale: float = 8.0,
    margin: float = 0.2,
    margin_type: MarginType = "cosine",
    codebook_seed: int = 0,
) -> Objective:
    """OrthoHash: softmax over the cosines to fixed centers, `jaxhash.losses.orthohash`.

    The centers are a `jaxhash.ops.codebooks.codebook`, orthogonal where there are no more classes
    than bits and a Hadamard matrix of that order. An image of several labels has the target y /
    sum(y). Images without a label are left out.

    In the paper the network ends with a batch normalization without scale and shift, for balanced
    bits; here that is an option of the model, or the task of a quantizer beside this objective.

    Args:
        scale: factor of the cosines.
        margin: subtracted from the cosine, or added to the angle, of the labels. The released code
            has 0.3 for CIFAR-10.
        margin_type: ``"cosine"`` or ``"arc"``.
        codebook_seed: seed of the centers.

    Raises:
        ValueError: if scale is not above 0, margin is below 0 or margin_type is unknown.

    Example:
        >>> method = orthohash(margin_type="arc")

    Reference:
        Hoe et al., "One Loss for All: Deep Hashing with a Single Cosine Similarity based Learning
        Objective", NeurIPS 2021, with the defaults of its released code. Departure: that code draws
        centers as fair signs by default, which are orthogonal on average only.
    """
    check_positive(scale=scale)
    check_weights(margin=margin)
    if margin_type not in get_args(MarginType):
        raise ValueError(f"margin_type must be one of {get_args(MarginType)}, got {margin_type!r}")

    def init(key, setup):
        return Variables(state=class_codebook(setup, codebook_seed))

    def loss(variables, codes, batch, context):
        centers = variables.state
        if isinstance(centers, LinearCodebook):
            value = losses.orthohash(
                codes,
                centers,
                batch.labels,
                scale=scale,
                margin=margin,
                margin_type=margin_type,
                where=batch.mask,
                axis_name=context.axis_name,
            )
            return Loss(value, centers, {"orthohash": value})
        codes, batch = gather_for_table(centers, codes, batch, context)
        classes_axis = table_axis(centers, context)
        value = losses.orthohash(
            codes,
            centers.rows,
            multi_hot(batch.labels, len(centers.rows)),
            scale=scale,
            margin=margin,
            margin_type=margin_type,
            where=batch.mask,
            where_classes=row_mask(centers, context),
            axis_name=None if classes_axis else context.axis_name,
            classes_axis_name=classes_axis,
        )
        return Loss(value, centers, {"orthohash": value})

    return Objective(init, loss)


def hyp2(*, beta: float = 0.5, threshold: float | None = None) -> Objective:
    r"""HyP^2: codes are pulled to trained proxies of their classes, and away from irrelevant codes.

    The loss is `jaxhash.losses.hyp2_proxies` plus beta times `jaxhash.losses.hyp2_pairs` among the
    images of the whole batch that have more than one label. With class ids there are none, and
    only the term of the proxies remains. Images without a label are left out.

    Args:
        beta: weight of the pairs; 0 leaves them out.
        threshold: cosine up to which irrelevant codes and proxies cost nothing. By default
            :math:`1 - 2 d / \mathrm{bits}`, the largest cosine between two words of a
            `jaxhash.ops.codebooks.codebook` of distance d, with as many words as the least power of
            2 that is not below the number of classes.

    Raises:
        ValueError: if beta is below 0 or threshold is not in [-1, 1].

    Example:
        >>> method = hyp2(beta=0.0)

    Reference:
        Xu et al., "HyP^2 Loss: Beyond Hypersphere Metric Space for Multi-label Image Retrieval",
        ACM Multimedia 2022, in the form and with the beta of its released code. Departure: that
        code reads the threshold from a table by bits and by the logarithm of the number of classes,
        rounded up, which was not at hand; the default here is what such a table would hold if its
        distances were those of `jaxhash.ops.codebooks`.
    """
    check_weights(beta=beta)
    if threshold is not None and not -1 <= threshold <= 1:
        raise ValueError(f"threshold must be in [-1, 1], got {threshold}")

    def init(key, setup):
        shape, cosine = (setup.classes, setup.bits), threshold
        if cosine is None:
            words = 1 << int(setup.classes - 1).bit_length()
            cosine = 1 - 2 * codebook(words, setup.bits).distance / setup.bits
        proxies = jnp.sqrt(2 / setup.classes) * jax.random.normal(key, shape)
        return Variables(params=proxies, state=jnp.float32(cosine))

    def loss(variables, codes, batch, context):
        proxies, cosine = variables
        codes = codes.astype(jnp.float32)
        options = {"threshold": cosine, "axis_name": context.axis_name}
        labels = batch.labels
        if labels.ndim == 2 or not are_many(len(proxies)):
            labels = multi_hot(labels, len(proxies))
        value = losses.hyp2_proxies(codes, proxies, labels, where=batch.mask, **options)
        terms = {"hyp2_proxies": value}
        if beta > 0 and batch.labels.ndim == 2:
            candidates = batch_candidates(codes, batch, context.axis_name)
            has_several, candidate_has_several = (
                _has_several(rows) for rows in (batch.labels, candidates.labels)
            )
            pairs = losses.hyp2_pairs(
                codes,
                candidates.codes,
                shares_label(batch.labels, candidates.labels),
                where=candidates.where & has_several[:, None] & candidate_has_several[None, :],
                **options,
            )
            value, terms = value + beta * pairs, terms | {"hyp2_pairs": pairs}
        return Loss(value, cosine, terms)

    return Objective(init, loss)


def _is_labeled(batch: Batch) -> Bool[Array, " n"]:
    """Returns which rows are not padding and have a label."""
    return jnp.asarray(batch.mask) & has_label(jnp.asarray(batch.labels))


def _has_several(labels: Bool[ArrayLike, "n classes"]) -> Bool[ArrayLike, " n"]:
    """Returns which multi-hot rows have more than one label."""
    return labels.sum(axis=1) > 1


def _mean_targets(
    targets: ClassTable | LinearCodebook | RandomCodebook, batch: Batch, context: Context
) -> Float[Array, "n bits"]:
    """Returns, per row, the mean of the targets of its classes."""
    total = sum_of_centers(targets, batch, context)
    if batch.labels.ndim == 1:
        return total
    classes = jnp.sum(jnp.asarray(batch.labels) != 0, axis=1, keepdims=True)
    return total / jnp.maximum(classes, 1)


def _start_epoch(state: AdaptiveTargets, new_epoch: Bool[Array, ""]) -> AdaptiveTargets:
    """In a new epoch, sets the targets to the signs of the last epoch's sums, and the sums to 0."""
    codes, votes = state.codes.rows, state.votes.rows
    updated = jnp.where(votes == 0, codes, jnp.sign(votes).astype(jnp.int8))
    return AdaptiveTargets(
        ClassTable(jnp.where(new_epoch, updated, codes)),
        ClassTable(jnp.where(new_epoch, 0.0, votes)),
    )


def _sum_votes(
    codes: Float[Array, "n bits"],
    batch: Batch,
    margin: float,
    targets: ClassTable,
    context: Context,
) -> Float[Array, "classes bits"]:
    """Returns, per class, the sum over the whole batch of the signs beyond the margin."""
    codes, batch = gather_for_table(
        targets, lax.stop_gradient(codes.astype(jnp.float32)), batch, context
    )
    signs = jnp.where(jnp.abs(codes) > margin, binarize(codes).astype(jnp.float32), 0.0)
    classes = len(targets.rows)
    if are_many(classes) and batch.labels.ndim == 1:
        is_valid = batch.mask & (batch.labels >= 0)
        rows = jnp.where(is_valid, batch.labels, classes)  # out of range: dropped
        votes = jnp.zeros((classes, codes.shape[1])).at[rows].add(signs, mode="drop")
    else:
        rows = multi_hot(batch.labels, classes) * batch.mask[:, None]
        votes = jnp.matmul(rows.T, signs, precision=lax.Precision.HIGHEST)
    return votes if table_axis(targets, context) else psum_no_grad(votes, context.axis_name)


#: The methods of this family.
METHODS = (
    Method(
        csq,
        "Yuan et al., CVPR 2020",
        kind="centers",
        state="centers",
        multi_label="sign of the sum of centers",
        learning_rate=0.0003,
    ),
    Method(
        dpn,
        "Fan et al., IJCAI 2020",
        kind="centers",
        state="centers",
        multi_label="mean over its centers",
        learning_rate=0.0003,
    ),
    Method(
        orthohash,
        "Hoe et al., NeurIPS 2021",
        kind="centers",
        state="centers",
        multi_label=SOFT_LABELS,
        learning_rate=0.01,
        settings={"head_norm": True},  # the paper's only term for balance
    ),
    Method(
        hyp2,
        "Xu et al., ACM MM 2022",
        kind="centers",
        state="proxies",
        multi_label="a proxy each label",
        learning_rate=0.01,
    ),
)
