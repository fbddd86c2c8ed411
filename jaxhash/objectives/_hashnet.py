"""HashNet: a weighted pairwise likelihood, with a continuation from tanh to sign."""

import jax.numpy as jnp

from jaxhash import losses
from jaxhash.objectives._base import Objective, check_positive
from jaxhash.objectives._method import Method
from jaxhash.objectives._pairs import Pairs, Unfilled, pairwise
from jaxhash.ops.codes import relax

__all__ = ["hashnet"]


def hashnet(
    *,
    scale: float | None = None,
    stages: int = 10,
    pairs: Pairs = "bank",
    unseen: Unfilled = "ignored",
    bank_size: int | None = None,
) -> Objective:
    r"""HashNet: each image of the batch against the whole training set, or against the batch.

    With :math:`z = \tanh(\beta u)` the loss is `jaxhash.losses.hashnet` between the batch's z and
    the bank of the last z of every training image. The batch is written to the bank first, and no
    gradient flows through the bank. :math:`\beta = \sqrt{s + 1}` in stage
    :math:`s = \lfloor \mathrm{stages} \cdot \mathrm{progress} \rfloor`, from 1 to sqrt(stages).

    Args:
        scale: factor of the inner products; 10 / bits by default, as in HashNet's own code. (The
            code released with HSWD has 0.1 at every length.)
        stages: number of steps of the continuation; 10 gives the 1 to 3.16 of the released code,
            which has 20 of its 200 epochs in a stage.
        pairs: ``"bank"``, or ``"batch"`` for the other rows of the batch alone.
        unseen: how a bank treats images that no batch has held yet. ``"ignored"`` leaves them out;
            ``"dissimilar"`` is the released code, where their empty rows count as dissimilar to
            everything, a constant that dilutes the mean over dissimilar pairs in the first epoch.
        bank_size: number of rows of a bank of the last images, in place of one of all images: a ring
            buffer, in which the rows of a batch take the place of the oldest, and of an image that
            comes again only the newer row counts. With it a step costs the same for any number of
            training images. It needs ``pairs="bank"`` and ``unseen="ignored"``.

    Raises:
        ValueError: if ``scale`` is not above 0, ``stages`` is below 1, or ``pairs``, ``unseen`` or
            ``bank_size`` is not allowed.

    Example:
        >>> method = hashnet(unseen="dissimilar")

    Reference:
        Cao, Long, Wang, Yu, "HashNet: Deep Learning to Hash by Continuation", ICCV 2017. The paper
        pairs the images of a batch; the bank is that of the code released with HSWD (2022). A bank of
        the last images: cross-batch memory (XBM) of Wang, Zhang, Huang, Scott, "Cross-Batch Memory
        for Embedding Learning", CVPR 2020; departures: it is in use from the first step, where the
        paper fills it after a warm-up, and an image is in it once.
    """
    check_positive(scale=scale)
    if stages < 1:
        raise ValueError(f"stages must be at least 1, got {stages}")

    def continued(codes, context):
        return relax(codes, jnp.sqrt(1.0 + jnp.floor(stages * context.progress)))

    def loss(codes, *arguments, **keywords):
        factor = 10 / codes.shape[-1] if scale is None else scale
        return losses.hashnet(codes, *arguments, scale=factor, **keywords)

    return pairwise(
        "hashnet", loss, pairs=pairs, unseen=unseen, bank_size=bank_size, relax=continued
    )


#: The methods of this family.
METHODS = (
    Method(hashnet, "Cao et al., ICCV 2017", kind="pairwise", state="bank", learning_rate=0.0003),
)
