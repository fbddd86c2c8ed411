"""Methods with a logistic model of inner products: DPSH, DHN, DBDH, LCDSH, IDHN and DFH."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

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
    zero_padding,
)
from jaxhash.objectives._method import LABEL_COSINE, Method
from jaxhash.objectives._pairs import Pairs, Unfilled, pairwise
from jaxhash.ops.codes import binarize, straight_through
from jaxhash.ops.collectives import all_gather
from jaxhash.similarity import label_cosine, multi_hot

__all__ = ["dbdh", "dfh", "dhn", "dpsh", "idhn", "lcdsh"]


def dpsh(
    *,
    pairs: Pairs = "bank",
    unseen: Unfilled = "ignored",
    bank_size: int | None = None,
    penalty: Weight = 0.1,
) -> Objective:
    r"""DPSH: the mean likelihood of the pairs, and the L2 distance of codes to their signs.

    `jaxhash.losses.mean_likelihood` of the raw codes with scale 1/2, and ``penalty`` times
    `jaxhash.losses.l2_quantization`.

    Args:
        pairs: ``"bank"``, or ``"batch"`` for the other rows of the batch alone.
        unseen: how a bank treats images that no batch has held yet; see `hashnet`.
        bank_size: rows of a bank of the last images alone; see `hashnet`.
        penalty: weight of the quantization penalty; 0 leaves it out.

    Raises:
        ValueError: if ``pairs``, ``unseen`` or ``bank_size`` is not allowed.

    Example:
        >>> method = dpsh(pairs="batch")

    Reference:
        Li, Wang, Kang, "Feature learning based deep supervised hashing with pairwise labels", IJCAI
        2016. The bank holds the last codes of all training images, which the paper's alternation
        keeps too. Departure: means over pairs, rows and bits, where the paper sums; the weight
        0.1, the paper's eta, is used with means by several public reimplementations as well. FIRe
        weighs similar and dissimilar pairs the same in total, as HashNet does: its likelihood is
        `jaxhash.losses.hashnet` of the raw codes with scale 1/2.
    """
    method = pairwise(
        "dpsh", losses.mean_likelihood, pairs=pairs, unseen=unseen, bank_size=bank_size
    )
    return add_penalty(method, penalty, from_loss("dpsh_penalty", losses.l2_quantization))


def dhn(
    *,
    pairs: Pairs = "batch",
    unseen: Unfilled = "ignored",
    bank_size: int | None = None,
    penalty: Weight = 0.1,
) -> Objective:
    r"""DHN: the mean likelihood of the pairs, and a log-cosh distance of codes to their signs.

    `jaxhash.losses.mean_likelihood` of the raw codes with scale 1/2, and ``penalty`` times
    `jaxhash.losses.log_cosh_quantization`. It differs from DPSH in the penalty.

    Args:
        pairs: ``"batch"`` for the other rows of the batch, or ``"bank"``.
        unseen: how a bank treats images that no batch has held yet; see `hashnet`.
        bank_size: rows of a bank of the last images alone; see `hashnet`.
        penalty: weight of the quantization penalty; 0 leaves it out.

    Raises:
        ValueError: if ``pairs``, ``unseen`` or ``bank_size`` is not allowed.

    Example:
        >>> method = dhn(penalty=0.0)

    Reference:
        Zhu, Long, Wang, Cao, "Deep hashing network for efficient similarity retrieval", AAAI 2016.
        The penalty is log cosh(|u| - 1); one public reimplementation has log cosh |u| - 1, which
        pulls codes to 0. Departure: means over pairs, rows and bits, where the paper sums. The
        weight is that of public reimplementations.
    """
    method = pairwise(
        "dhn", losses.mean_likelihood, pairs=pairs, unseen=unseen, bank_size=bank_size
    )
    return add_penalty(method, penalty, from_loss("dhn_penalty", losses.log_cosh_quantization))


def dbdh(
    *,
    pairs: Pairs = "batch",
    unseen: Unfilled = "ignored",
    bank_size: int | None = None,
    penalty: Weight = 0.1,
) -> Objective:
    r"""DBDH: the mean likelihood of binary codes, and a balance of each bit over the batch.

    Codes are the signs b of the network's outputs, with the gradient of the identity.
    `jaxhash.losses.mean_likelihood` of b with scale 1/2, and ``penalty`` times
    `jaxhash.losses.bit_balance_penalty` of b: codes that are binary need no other penalty.

    Args:
        pairs: ``"batch"`` for the other rows of the batch, or ``"bank"``.
        unseen: how a bank treats images that no batch has held yet; see `hashnet`.
        bank_size: rows of a bank of the last images alone; see `hashnet`.
        penalty: weight of the balance; 0 leaves it out.

    Raises:
        ValueError: if ``pairs``, ``unseen`` or ``bank_size`` is not allowed.

    Example:
        >>> method = dbdh(penalty=0.5)

    Reference:
        Zheng, Zhang, Lu, "Deep balanced discrete hashing for image retrieval", Neurocomputing 2020.
        Of the paper only the abstract was at hand, which has the straight-through estimator, the
        pairwise loss and the balance term; that the likelihood is DPSH's, and the weight, is from
        public reimplementations. These clamp the outputs to [-1, 1] instead of taking signs, and
        average over the bits of a row, which balances no bit: a bit that is +1 on every image
        costs nothing if another is -1. Here the average is over the batch.
    """

    def balance(codes, **keywords):
        return losses.bit_balance_penalty(straight_through(codes), **keywords)

    def binarized(codes, context):
        return straight_through(codes)

    method = pairwise(
        "dbdh",
        losses.mean_likelihood,
        pairs=pairs,
        unseen=unseen,
        bank_size=bank_size,
        relax=binarized,
    )
    return add_penalty(method, penalty, from_loss("dbdh_penalty", balance))


def lcdsh(
    *,
    pairs: Pairs = "batch",
    unseen: Unfilled = "ignored",
    bank_size: int | None = None,
    penalty: Weight = 3.0,
) -> Objective:
    r"""LCDSH: the mean likelihood of the pairs, and the change of each pair by taking signs.

    `jaxhash.losses.mean_likelihood` of the raw codes with scale 1/2, and ``penalty`` times
    `jaxhash.losses.lcdsh_locality`, in place of a quantization penalty.

    Args:
        pairs: ``"batch"`` for the other rows of the batch, or ``"bank"``. With a penalty each
            term has its own bank.
        unseen: how a bank treats images that no batch has held yet; see `hashnet`.
        bank_size: rows of a bank of the last images alone; see `hashnet`.
        penalty: weight of the locality term; 0 leaves it out.

    Raises:
        ValueError: if ``pairs``, ``unseen`` or ``bank_size`` is not allowed.

    Example:
        >>> method = lcdsh(penalty=1.0)

    Reference:
        Zhu, Gao, "Locality constrained deep supervised hashing for image retrieval", IJCAI 2017.
        Form and weight are those of a public reimplementation (DeepHash-pytorch); the paper's text
        was not at hand. Departure: that code clips the inner products of real-valued codes at theta
        of -50 and 50, beyond which a pair has no gradient, however wrong it is; nothing is clipped
        here, and where no theta is so large the two are equal. It also pairs each image with
        itself.
    """

    def locality(codes, others, similar, **keywords):
        return losses.lcdsh_locality(codes, others, **keywords)

    both = partial(pairwise, pairs=pairs, unseen=unseen, bank_size=bank_size)
    method = both("lcdsh", losses.mean_likelihood)
    return add_penalty(method, penalty, both("lcdsh_penalty", locality))


def idhn(
    *,
    scale: float | None = None,
    gamma: float = 0.1,
    pairs: Pairs = "batch",
    unseen: Unfilled = "ignored",
    bank_size: int | None = None,
    penalty: Weight = 0.1,
) -> Objective:
    r"""IDHN: graded similarity of multi-label images, by likelihood and regression.

    With the relaxed codes :math:`z = u / (1 + |u|)` and the cosine of label rows as similarity,
    `jaxhash.losses.idhn` of z, and ``penalty`` times `jaxhash.losses.l1_quantization` of z. On
    class ids no pair is graded, and the likelihood is all.

    Args:
        scale: factor of the inner products in the likelihood; 5 / bits by default.
        gamma: weight of the regression.
        pairs: ``"batch"`` for the other rows of the batch, or ``"bank"``.
        unseen: how a bank treats images that no batch has held yet; see `hashnet`.
        bank_size: rows of a bank of the last images alone; see `hashnet`.
        penalty: weight of the quantization penalty; 0 leaves it out.

    Raises:
        ValueError: if ``scale`` is not above 0, ``gamma`` is below 0, or ``pairs``, ``unseen`` or
            ``bank_size`` is not allowed.

    Example:
        >>> method = idhn(gamma=0.5)

    Reference:
        Zhang, Zou, Lin, Chen, Wang, "Improved deep hashing with soft pairwise similarity for
        multi-label image retrieval", IEEE Transactions on Multimedia 2019, with the relaxation and
        the weights of the authors' released code. Departure: there a row is paired with itself too.
    """
    check_positive(scale=scale)
    check_weights(gamma=gamma)

    def softsign(codes, context=None):
        return codes / (1.0 + jnp.abs(codes))

    def quantization(codes, **options):
        return losses.l1_quantization(softsign(codes.astype(jnp.float32)), **options)

    method = pairwise(
        "idhn",
        partial(losses.idhn, scale=scale, gamma=gamma),
        pairs=pairs,
        unseen=unseen,
        bank_size=bank_size,
        relax=softsign,
        similarity=label_cosine,
    )
    return add_penalty(method, penalty, from_loss("idhn_penalty", quantization))


def dfh(
    *,
    margin: float = 1.0,
    mu: float = 1.0,
    inter: float = 1.0,
    binary: float = 1.0,
    steps: int = 200,
    falls: tuple[float, float] = (0.75, 0.9),
    pairs: Pairs = "bank",
    unseen: Unfilled = "ignored",
    bank_size: int | None = None,
    penalty: Weight = 0.5,
) -> Objective:
    r"""DFH: a likelihood with a margin, and codes pulled to binary ones near their class center.

    `jaxhash.losses.mean_likelihood` of the raw codes with scale 1/2 and a margin, and ``penalty``
    times

    .. math:: \operatorname{mean}_{ik} (u_{ik} - b_{ik})^2, \qquad
              b_i = \operatorname{sign}(u_i + \mu\, C^\top y_i), \qquad C = \operatorname{sign} V,

    where V holds a relaxed center per class, zeros at first. Each batch then moves V by ``steps``
    of gradient descent on

    .. math:: \operatorname{mean} (Y V - B)^2
              + \mathrm{inter}\cdot\operatorname{mean} (V V^\top - \mathrm{bits}\, T)^2
              + \mathrm{binary}\cdot\operatorname{mean} (V - \operatorname{sign} V)^2,
              \qquad T = 2 I - \mathbf 1 \mathbf 1^\top,

    which pulls the centers to the codes of their class and apart from each other. The center of an
    image of several classes is the sum of theirs. Without a penalty there are no centers.

    Args:
        margin: of the likelihood, in units of theta.
        mu: weight of the center, relative to the code, in the choice of the binary code.
        inter: weight of the distances between centers.
        binary: weight of the distance of centers to their signs.
        steps: number of steps of gradient descent on the centers, each batch.
        falls: fractions of the steps after which the rate falls to a tenth, and to a hundredth.
        pairs: ``"bank"``, or ``"batch"`` for the other rows of the batch alone.
        unseen: how a bank treats images that no batch has held yet; see `hashnet`.
        bank_size: rows of a bank of the last images alone; see `hashnet`.
        penalty: weight of the distance to the binary codes; 0 leaves it and the centers out.

    Raises:
        ValueError: if ``steps`` is below 1, ``margin`` or a weight of the centers is below 0,
            ``falls`` are not two shares in order, or ``pairs``, ``unseen`` or ``bank_size`` is not
            allowed.

    Example:
        >>> method = dfh(margin=3.0, mu=0.1)
        >>> of_a_port = dfh(margin=3.0, mu=0.1, falls=(149 / 200, 179 / 200))

    Reference:
        Li, Pei, Zha, van Gemert, "Push for quantization: deep Fisher hashing", BMVC 2019. Of the
        paper only the abstract was at hand; centers, weights, steps and the bank are those of the
        authors' released code, which trains on multi-label data with sums of centers. That code has
        its margin commented out; public reimplementations have 1 and 3. Departure: the rate of the
        descent, 0.03, is at most classes^2 / (16 bits inter), above which the descent on the
        centers of a few classes diverges. Of 200 steps the rate falls after 150 and 180, the
        numbers that the released code names; its own counter is ahead by two, so that it falls
        after 148 and 178, and that of DeepHash-pytorch by one: 149 and 179. Both also clip theta at
        -100 and 50, beyond which a pair has no gradient.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    check_weights(margin=margin, mu=mu, inter=inter, binary=binary)
    if not 0.0 <= falls[0] <= falls[1] <= 1.0:
        raise ValueError(f"falls must be two shares of the steps in order, got {falls}")

    likelihood = partial(losses.mean_likelihood, margin=margin)
    method = pairwise("dfh", likelihood, pairs=pairs, unseen=unseen, bank_size=bank_size)
    descend = partial(_descend, inter=inter, binary=binary, steps=steps, falls=falls)
    centers = _fisher_centers(mu, descend)
    return add_penalty(method, penalty, centers)


def _fisher_centers(mu: float, descend: Callable[..., Float[Array, "classes bits"]]) -> Objective:
    """Returns DFH's distance of the codes to binary ones; its state is the relaxed centers."""

    def init(key, setup):
        return Variables(state=jnp.zeros((setup.classes, setup.bits), jnp.float32))

    def loss(variables, codes, batch, context):
        centers = lax.stop_gradient(variables.state)
        mask = jnp.asarray(batch.mask)
        codes = zero_padding(codes.astype(jnp.float32), batch)
        labels = multi_hot(batch.labels, centers.shape[0])
        class_signs = jnp.matmul(labels, jnp.sign(centers), precision=lax.Precision.HIGHEST)
        binary_codes = binarize(lax.stop_gradient(codes) + mu * class_signs).astype(jnp.float32)

        value = losses.distance_to_codes(
            codes, binary_codes, where=mask, axis_name=context.axis_name
        )

        rows = labels, binary_codes, mask & labels.any(axis=1)
        rows = all_gather(rows, context.axis_name)
        return Loss(value, descend(centers, *rows), {"dfh_penalty": value})

    return Objective(init, loss)


def _descend(
    centers: Float[Array, "classes bits"],
    labels: Float[Array, "n classes"],
    codes: Float[Array, "n bits"],
    where: Bool[Array, " n"],
    *,
    inter: float,
    binary: float,
    steps: int,
    falls: tuple[float, float],
) -> Float[Array, "classes bits"]:
    """Moves centers towards the codes of their class, each other's opposite and their signs."""
    classes, bits = centers.shape
    matmul = partial(jnp.matmul, precision=lax.Precision.HIGHEST)
    target_products = bits * (2.0 * jnp.eye(classes) - 1.0)
    rate = min(0.03, classes**2 / (16 * bits * inter)) if inter else 0.03

    def energy(centers):
        gap = jnp.where(where[:, None], matmul(labels, centers) - codes, 0.0)
        intra = jnp.sum(gap**2) / (jnp.maximum(jnp.sum(where), 1) * bits)
        between = jnp.mean((matmul(centers, centers.T) - target_products) ** 2)
        quantization = jnp.mean((centers - lax.stop_gradient(jnp.sign(centers))) ** 2)
        return intra + inter * between + binary * quantization

    def step(number, centers):
        first, second = (share * steps for share in falls)
        slow = jnp.where(number < first, 1.0, jnp.where(number < second, 0.1, 0.01))
        return centers - rate * slow * jax.grad(energy)(centers)

    return lax.fori_loop(0, steps, step, centers)


#: The methods of this family.
METHODS = (
    Method(dpsh, "Li et al., IJCAI 2016", kind="pairwise", state="bank", learning_rate=0.003),
    Method(dhn, "Zhu et al., AAAI 2016", kind="pairwise", learning_rate=0.01),
    Method(dbdh, "Zheng et al., Neurocomputing 2020", kind="pairwise", learning_rate=0.01),
    Method(lcdsh, "Zhu and Gao, IJCAI 2017", kind="pairwise", learning_rate=0.01),
    Method(
        idhn,
        "Zhang et al., TMM 2019",
        kind="pairwise",
        multi_label=LABEL_COSINE,
        learning_rate=0.0003,
    ),
    Method(dfh, "Li et al., BMVC 2019", kind="pairwise", state="bank, centers"),
)
