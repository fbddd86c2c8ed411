"""Methods that learn how each image of a batch ranks the others: DTSH, MIHash and TALR."""

from collections.abc import Callable
from functools import partial

from jaxtyping import Array

from jaxhash import losses
from jaxhash.objectives._base import (
    Objective,
    Weight,
    add_penalty,
    check_positive,
    check_weights,
    from_loss,
)
from jaxhash.objectives._method import Method
from jaxhash.objectives._pairs import pairwise
from jaxhash.ops.codes import relax

__all__ = ["dtsh", "mihash", "tie_aware_ap"]


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


def _histogram_method(name: str, loss: Callable[..., Array], beta: float) -> Objective:
    """Returns a loss of relaxed codes over the pairs of the batch."""
    check_positive(beta=beta)
    return pairwise(name, loss, pairs="batch", relax=lambda codes, context: relax(codes, beta))


#: The methods of this family.
METHODS = (
    Method(dtsh, "Wang et al., ACCV 2016", kind="ranking", learning_rate=0.01),
    Method(mihash, "Cakir et al., ICCV 2017", kind="ranking"),
    Method(tie_aware_ap, "He et al., CVPR 2018", kind="ranking", learning_rate=0.01),
)
