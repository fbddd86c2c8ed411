"""Methods that learn how each image of a batch ranks the others: DTSH, MIHash, TALR and RCDH."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxhash import losses
from jaxhash.objectives._base import (
    Loss,
    Objective,
    Variables,
    Weight,
    add_penalty,
    check_positive,
    check_weights,
    from_loss,
    on_relaxed,
    zero_padding,
)
from jaxhash.objectives._method import SOFT_LABELS, Method
from jaxhash.objectives._pairs import batch_candidates, pairwise
from jaxhash.ops.codes import relax
from jaxhash.ops.numerics import inner_products
from jaxhash.similarity import multi_hot, shared_labels

__all__ = ["dtsh", "mihash", "rcdh", "tie_aware_ap"]


def dtsh(*, margin: float | None = None, penalty: Weight = 1.0) -> Objective:
    r"""DTSH: in each triplet of a batch the similar image is nearer to the anchor, by a margin.

    `jaxhash.losses.dtsh` on the raw codes u, over all triplets of the batch, plus ``penalty`` times
    `jaxhash.losses.l2_quantization`. Images that share any label are similar.

    Args:
        margin: alpha; bits / 2 by default, as in the authors' code. (PyTorch ports have 5 for inner
            products without the half, the same gap as 2.5 here.)
        penalty: weight of the quantization penalty; 0 leaves it out.

    Raises:
        ValueError: if ``margin`` is below 0.

    Example:
        >>> method = dtsh(margin=5.0)

    Reference:
        Wang, Shi, Kitani, "Deep supervised hashing with triplet labels", ACCV 2016. The weight 1 of
        a mean is that of PyTorch ports; the authors' code has 100 beside a sum over the 22,500
        triplets that it samples for an image, which is a weight of 0.0044 bits here. The ports
        differ in more than that: see `jaxhash.losses.dtsh`. Here no image is paired with itself.
    """
    check_weights(margin=margin)
    objective = pairwise("dtsh", partial(losses.dtsh, margin=margin), pairs="batch")
    return add_penalty(objective, penalty, from_loss("dtsh_penalty", losses.l2_quantization))


def mihash(*, beta: float = 0.5) -> Objective:
    r"""MIHash: maximizes the mutual information of the distances from an image and similarity.

    `jaxhash.losses.mihash` of :math:`\tanh(\beta u)`, over the batch. Images that share any label
    are similar. The method has no quantization penalty.

    Args:
        beta: steepness of the relaxation; the released code's sigmoid of slope 1 is 0.5 here.

    Raises:
        ValueError: if ``beta`` is not above 0.

    Example:
        >>> method = mihash(beta=1.0)

    Reference:
        Cakir, He, Bargal, Sclaroff, "MIHash: Online hashing with mutual information", ICCV 2017.
        Beta is the default of the authors' code; that of the paper's runs could not be checked.
    """
    return _histogram_method("mihash", losses.mihash, beta)


def tie_aware_ap(*, beta: float = 0.5) -> Objective:
    r"""TALR: average precision of the ranking by Hamming distance, with ties averaged over.

    `jaxhash.losses.tie_aware_ap` of :math:`\tanh(\beta u)`, over the batch. Images that share any
    label are similar. The method has no quantization penalty.

    Args:
        beta: steepness of the relaxation; the released code's sigmoid of slope 1 is 0.5 here.

    Raises:
        ValueError: if ``beta`` is not above 0.

    Example:
        >>> method = tie_aware_ap()

    Reference:
        He, Cakir, Bargal, Sclaroff, "Hashing as tie-aware learning to rank", CVPR 2018. The paper's
        NDCG form for graded similarity is not here.
    """
    return _histogram_method("tie_aware_ap", losses.tie_aware_ap, beta)


def rcdh(
    *,
    levels: int = 8,
    margin: float = 0.0,
    alpha: Weight = 1.0,
    beta: Weight = 0.1,
    penalty: Weight = 0.1,
) -> Objective:
    r"""RCDH: distances in the order of the number of shared labels, classes, and their centers.

    .. math:: L = L_{rank}(h) + \alpha\, \mathrm{CE}(W^\top h,\; y / \textstyle\sum y) + \beta
              \operatorname{mean}_i \sum_c \frac{y_{ic}}{\sum_k y_{ik}}
              \frac{\lVert h_i - \mu_c \rVert^2}{\mathrm{bits}}
              + \gamma \operatorname{mean} (|h| - 1)^2, \qquad h = \tanh u,

    with `jaxhash.losses.rank_consistency` among the images of the whole batch, `jaxhash.losses.cross_entropy`
    and trained W and :math:`\mu`. It is for images of several labels; class ids have two levels. Images
    without a label share none, and are left out of the other terms.

    Args:
        levels: number of levels of similarity; pairs with more shared labels are at the last.
        margin: by which share of the bits a nearer level is to be nearer.
        alpha: weight of the classification.
        beta: weight of the distances to the centers of the labels.
        penalty: gamma, the weight of `jaxhash.losses.l2_quantization`; 0 leaves it out.

    Raises:
        ValueError: if levels is below 2, or another option below 0.

    Example:
        >>> method = rcdh(levels=4, margin=0.05)

    Reference:
        A reading of ours of Ma, Lu, Zhou, "Rank-consistency deep hashing for scalable multi-label
        image search", IEEE TMM 23 (2021). Evidence: its abstract, which has the three parts (an
        objective of rank consistency that penalizes mismatched samples, a softmax cross-entropy for
        several labels, a clustering loss to the centers of a sample's classes). Their formulas, all
        weights and the penalty are choices of this library.
    """
    if levels < 2:
        raise ValueError(f"levels must be at least 2, got {levels}")
    check_weights(margin=margin, alpha=alpha, beta=beta)

    def init(key, setup):
        kernel_key, centers_key = jax.random.split(key)
        kernel = jax.random.normal(kernel_key, (setup.classes, setup.bits)) / jnp.sqrt(setup.bits)
        centers = 0.1 * jax.random.normal(centers_key, (setup.classes, setup.bits))
        return Variables({"kernel": kernel, "centers": centers})

    def loss(variables, codes, batch, context):
        kernel, centers = variables.params["kernel"], variables.params["centers"]
        relaxed = relax(zero_padding(codes.astype(jnp.float32), batch))
        candidates = batch_candidates(relaxed, batch, context.axis_name)
        labels = multi_hot(batch.labels, len(kernel))
        rows = {"where": batch.mask, "axis_name": context.axis_name}
        rank = losses.rank_consistency(
            relaxed,
            candidates.codes,
            shared_labels(batch.labels, candidates.labels),
            levels=levels,
            margin=margin,
            where=candidates.where,
            axis_name=context.axis_name,
        )
        classification = losses.cross_entropy(inner_products(relaxed, kernel), labels, **rows)
        attraction = losses.anchor_attraction(relaxed, centers, labels, **rows)
        clustering = attraction * (2 / codes.shape[1])
        value = rank + alpha * classification + beta * clustering
        terms = {"rcdh": rank, "rcdh_classification": classification, "rcdh_clustering": clustering}
        return Loss(value, variables.state, terms)

    quantization = from_loss("rcdh_penalty", on_relaxed(losses.l2_quantization))
    return add_penalty(Objective(init, loss), penalty, quantization)


def _histogram_method(name: str, loss: Callable[..., Array], beta: float) -> Objective:
    """Returns a loss of relaxed codes over the pairs of the batch."""
    check_positive(beta=beta)
    return pairwise(name, loss, pairs="batch", relax=lambda codes, context: relax(codes, beta))


#: The methods of this family.
METHODS = (
    Method(dtsh, "Wang et al., ACCV 2016", kind="ranking", learning_rate=0.01),
    Method(mihash, "Cakir et al., ICCV 2017", kind="ranking"),
    Method(tie_aware_ap, "He et al., CVPR 2018", kind="ranking", learning_rate=0.01),
    Method(
        rcdh,
        "a reading of Ma et al., TMM 2021",
        kind="ranking",
        state="classifier, centers",
        multi_label=f"number of shared labels; {SOFT_LABELS}",
        data="corel5k",
    ),
)
