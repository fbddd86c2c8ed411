"""Methods with distances and angles between codes: DCH, DSH, QSMIH and WGLHH."""

from functools import partial

import jax.numpy as jnp

from jaxhash import losses
from jaxhash.objectives._base import Objective, Weight, add_penalty, check_positive, from_loss
from jaxhash.objectives._method import Method
from jaxhash.objectives._pairs import Pairs, Unfilled, pairwise

__all__ = ["dch", "dsh", "qsmih", "wglhh"]


def dch(
    *,
    gamma: float = 20.0,
    pairs: Pairs = "batch",
    unseen: Unfilled = "ignored",
    bank_size: int | None = None,
    penalty: Weight = 0.1,
) -> Objective:
    r"""DCH: a Cauchy likelihood of the pairs, and of each code's distance to its signs.

    `jaxhash.losses.dch` of the raw codes, and ``penalty`` times
    `jaxhash.losses.cauchy_quantization`, both with the same gamma.

    Args:
        gamma: scale of the Cauchy law, in bits.
        pairs: ``"batch"`` for the other rows of the batch, or ``"bank"``.
        unseen: how a bank treats images that no batch has held yet; see `hashnet`.
        bank_size: rows of a bank of the last images alone; see `hashnet`.
        penalty: weight of the quantization penalty; 0 leaves it out.

    Raises:
        ValueError: if ``gamma`` is not above 0, or ``pairs``, ``unseen`` or ``bank_size`` is not
            allowed.

    Example:
        >>> method = dch(gamma=10.0)

    Reference:
        Cao, Long, Liu, Wang, "Deep Cauchy Hashing for Hamming Space Retrieval", CVPR 2018. Gamma
        and the weight are those of a public reimplementation; the authors have quoted a gamma of 30
        for their tables. Departures: see `jaxhash.losses.dch`; and no row is paired with itself.
    """
    check_positive(gamma=gamma)
    method = pairwise(
        "dch", partial(losses.dch, gamma=gamma), pairs=pairs, unseen=unseen, bank_size=bank_size
    )
    quantization = partial(losses.cauchy_quantization, gamma=gamma)
    return add_penalty(method, penalty, from_loss("dch_penalty", quantization))


def dsh(
    *,
    margin: float | None = None,
    pairs: Pairs = "batch",
    unseen: Unfilled = "ignored",
    bank_size: int | None = None,
    penalty: Weight = 0.01,
) -> Objective:
    r"""DSH: a contrastive loss of squared distances, and the L1 distance of codes to their signs.

    `jaxhash.losses.dsh` of the raw codes, and ``penalty`` times
    :math:`2 \operatorname{mean}_i \lVert |u_i| - \mathbf 1 \rVert_1`. The paper
    penalizes both codes of each pair, hence the 2; the sum is over bits, as in the distances.

    Args:
        margin: squared distance that dissimilar codes should reach; 2 bits by default.
        pairs: ``"batch"`` for the other rows of the batch, or ``"bank"``.
        unseen: how a bank treats images that no batch has held yet; see `hashnet`.
        bank_size: rows of a bank of the last images alone; see `hashnet`.
        penalty: weight of the quantization penalty; 0 leaves it out.

    Raises:
        ValueError: if ``margin`` is not above 0, or ``pairs``, ``unseen`` or ``bank_size`` is not
            allowed.

    Example:
        >>> method = dsh(margin=24.0)

    Reference:
        Liu, Wang, Shan, Chen, "Deep Supervised Hashing for Fast Image Retrieval", CVPR 2016.
        Departure: means over pairs and rows, where the paper sums over pairs. One public
        reimplementation penalizes 1 - sign u instead of 1 - |u|, which has no gradient.
    """
    check_positive(margin=margin)

    def quantization(codes, **keywords):
        return 2.0 * losses.l1_quantization(codes, reduce_fn=jnp.sum, **keywords)

    method = pairwise(
        "dsh", partial(losses.dsh, margin=margin), pairs=pairs, unseen=unseen, bank_size=bank_size
    )
    return add_penalty(method, penalty, from_loss("dsh_penalty", quantization))


def qsmih(
    *,
    needs: float | None = None,
    pairs: Pairs = "batch",
    unseen: Unfilled = "ignored",
    bank_size: int | None = None,
    penalty: Weight = 0.01,
) -> Objective:
    r"""QSMIH: the quadratic spherical mutual information of codes and classes.

    `jaxhash.losses.qsmi` of the raw codes, and ``penalty`` times
    `jaxhash.losses.l1_quantization`.

    Args:
        needs: number of information needs; by default the number of pairs divided by that of
            similar ones, which is about the number of classes.
        pairs: ``"batch"`` for the other rows of the batch, or ``"bank"``.
        unseen: how a bank treats images that no batch has held yet; see `hashnet`.
        bank_size: rows of a bank of the last images alone; see `hashnet`.
        penalty: weight of the quantization penalty; 0 leaves it out.

    Raises:
        ValueError: if ``needs`` is not above 0, or ``pairs``, ``unseen`` or ``bank_size`` is not
            allowed.

    Example:
        >>> method = qsmih(needs=10.0)

    Reference:
        Passalis, Tefas, "Deep supervised hashing using quadratic spherical mutual information for
        efficient image retrieval", Signal Processing: Image Communication 2021 (arXiv 1901.05135);
        loss and penalty are those of the authors' released code. Departures: means over pairs, rows
        and bits. The released 0.01 weighs a sum over n rows and all bits beside a sum over n^2
        pairs, so it is 0.01 bits / n beside means: 0.004 for 48 bits and its batches of 128. And no
        row is paired with itself, so that the default of ``needs`` does not depend on the batch.
        The penalty is of the raw codes, as in the authors' code; DeepHash-pytorch has it of codes
        normalized to length 1, whose entries are about 1 / sqrt(bits): it makes them equal in size,
        but pulls none of them to -1 or 1.
    """
    check_positive(needs=needs)
    method = pairwise(
        "qsmih", partial(losses.qsmi, needs=needs), pairs=pairs, unseen=unseen, bank_size=bank_size
    )
    return add_penalty(method, penalty, from_loss("qsmih_penalty", losses.l1_quantization))


def wglhh(
    *,
    alpha: float = 0.1,
    similar_weight: float = 1.0,
    pairs: Pairs = "batch",
    unseen: Unfilled = "ignored",
    bank_size: int | None = None,
    penalty: Weight = 0.001,
) -> Objective:
    r"""WGLHH: a weighted Gaussian loss of the pairs, and the L2 distance of codes to their signs.

    `jaxhash.losses.wglhh` of the raw codes, and ``penalty`` times
    :math:`\operatorname{mean}_i \lVert u_i - \operatorname{sign} u_i \rVert^2`, a sum over bits.

    Args:
        alpha: decay rate of the Gaussian, in 1 / squared bits.
        similar_weight: weight of a similar pair; that of a dissimilar one is 1.
        pairs: ``"batch"`` for the other rows of the batch, or ``"bank"``.
        unseen: how a bank treats images that no batch has held yet; see `hashnet`.
        bank_size: rows of a bank of the last images alone; see `hashnet`.
        penalty: weight of the quantization penalty; 0 leaves it out.

    Raises:
        ValueError: if ``alpha`` or ``similar_weight`` is not above 0, or ``pairs``, ``unseen`` or
            ``bank_size`` is not allowed.

    Example:
        >>> method = wglhh(similar_weight=1.6)

    Reference:
        Tu, Mao, Kong, Shao, Li, Wei, Huang, "Weighted Gaussian Loss based Hamming Hashing", ACM
        Multimedia 2021. Form and weights are those of public implementations, see
        `jaxhash.losses.wglhh`; the paper's equations were not at hand.
    """
    check_positive(alpha=alpha, similar_weight=similar_weight)
    loss = partial(losses.wglhh, alpha=alpha, similar_weight=similar_weight)
    method = pairwise("wglhh", loss, pairs=pairs, unseen=unseen, bank_size=bank_size)
    quantization = partial(losses.l2_quantization, reduce_fn=jnp.sum)
    return add_penalty(method, penalty, from_loss("wglhh_penalty", quantization))


#: The methods of this family.
METHODS = (
    Method(dch, "Cao et al., CVPR 2018", kind="pairwise", learning_rate=0.003),
    Method(dsh, "Liu et al., CVPR 2016", kind="pairwise", learning_rate=0.01),
    Method(qsmih, "Passalis and Tefas, SPIC 2021", kind="pairwise"),
    Method(wglhh, "Tu et al., ACM MM 2021", kind="pairwise", learning_rate=0.003),
)
