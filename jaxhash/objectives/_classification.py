"""Methods that classify images by their codes, with a classifier trained alongside."""

from collections.abc import Callable
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxhash import losses
from jaxhash.objectives._base import (
    Batch,
    Context,
    Loss,
    Objective,
    Variables,
    Weight,
    add_penalty,
    check_weights,
    combine,
    from_loss,
    on_relaxed,
    uniform_by_item,
    weighted,
    zero_padding,
)
from jaxhash.objectives._method import SOFT_LABELS, Method
from jaxhash.objectives._pairs import pairwise
from jaxhash.ops.class_blocks import are_many
from jaxhash.ops.codes import relax, straight_through, with_gradient_of
from jaxhash.similarity import multi_hot

__all__ = ["CrossEntropy", "cross_entropy", "greedyhash", "jmlh", "supervised_deep_hashing"]

#: Loss of the class scores: one distribution over the classes, or one per class.
CrossEntropy = Literal["softmax", "sigmoid"]


def cross_entropy(
    *, loss: CrossEntropy = "softmax", sampled_classes: int | None = None
) -> Objective:
    r"""The plain baseline: a linear classifier of relaxed codes, and no term specific to hashing.

    .. math:: L = \mathrm{CE}(W^\top \tanh u + c,\; y / \textstyle\sum y)

    with W and c trained. It has no quantization penalty of its own.

    Args:
        loss: ``"softmax"`` is `jaxhash.losses.cross_entropy`, in which the labels of an image share
            its weight; ``"sigmoid"`` is `jaxhash.losses.binary_cross_entropy`, for each class
            alone.
        sampled_classes: number of classes that a step draws, to stand for all but an image's own in
            the softmax; see `jaxhash.losses.linear_cross_entropy`. It is for class ids. By default all
            classes count, and of more than 131,072 the scores are computed in blocks.

    Raises:
        ValueError: if ``loss`` is unknown, or ``sampled_classes`` is below 1 or given with
            ``"sigmoid"``; at the first step, if it is given and labels are multi-hot.

    Example:
        >>> from jaxhash.objectives import hswd
        >>> method = combine(cross_entropy(), weighted(0.1, hswd()))

    Reference:
        The baseline "CE" of cisip-FIRe, for one. Departure: there the classifier sees the raw u,
        which may be rotated without a change of the loss, so that the bits have no preferred axes
        to be cut along. Here it sees tanh(u), whose scores grow the closer it is to its signs.
    """
    if loss not in get_args(CrossEntropy):
        raise ValueError(f"loss must be one of {get_args(CrossEntropy)}, got {loss!r}")
    if loss == "sigmoid":
        if sampled_classes is not None:
            raise ValueError(
                f"sampled_classes={sampled_classes} needs loss=softmax, got loss={loss}"
            )
        return classification("cross_entropy", _relax, losses.binary_cross_entropy)
    return classification("cross_entropy", _relax, sampled_classes=sampled_classes)


def greedyhash(*, sampled_classes: int | None = None, penalty: Weight = 0.1) -> Objective:
    r"""GreedyHash: a linear classifier of the signs, through which the gradient passes unchanged.

    .. math:: L = \mathrm{CE}(V^\top \operatorname{sign} u,\; y / \textstyle\sum y)
              + \lambda \operatorname{mean} \big| |u| - 1 \big|^3

    with V trained and no bias.

    Args:
        sampled_classes: number of classes that a step draws; see `cross_entropy`.
        penalty: weight :math:`\lambda` of `jaxhash.losses.cubic_quantization`; 0 leaves it out.

    Raises:
        ValueError: if ``sampled_classes`` is below 1.

    Example:
        >>> method = greedyhash(penalty=0.0)

    Reference:
        Su, Zhang, Han, Tian, "Greedy Hash: Towards Fast Optimization for Accurate Hash Coding in
        CNN", NeurIPS 2018, and its released code: 0.1 on CIFAR-10, and 1 on ImageNet. Departures:
        zero counts as +1. Images of several labels have the soft labels y / sum y, where
        DeepHash-pytorch takes the first label of each; and V is trained, which that collection did
        not do before August 2022.
    """

    def signs(codes, batch, context):
        return straight_through(codes)

    method = classification("greedyhash", signs, sampled_classes=sampled_classes, bias=False)
    return add_penalty(method, penalty, from_loss("greedyhash_penalty", losses.cubic_quantization))


def jmlh(
    *, stochastic: bool = True, sampled_classes: int | None = None, penalty: Weight = 0.1
) -> Objective:
    r"""JMLH: a linear classifier of random bits, whose probabilities are kept close to one half.

    .. math:: L = \mathrm{CE}(W^\top b + c,\; y / \textstyle\sum y) + \lambda
              \sum_j \operatorname{mean}_i \mathrm{KL}\big(\mathrm{Bern}(q_{ij}) \,\|\,
              \mathrm{Bern}(\tfrac12)\big),
              \qquad q = \frac1{1 + e^{-u}}, \quad b \sim \mathrm{Bern}(q),

    with W and c trained. The gradient passes from b to q unchanged. The bits of a row depend on the
    step and on the row's index in the training set, not on how a batch is sharded over devices.

    Args:
        stochastic: whether bits are drawn; if not, b is 1 where q is at least 1/2, as in the final
            binary codes.
        sampled_classes: number of classes that a step draws; see `cross_entropy`.
        penalty: weight :math:`\lambda` of the divergence, `jaxhash.losses.bernoulli_kl_per_code`; 0
            leaves it out. It limits the information of a code, not its quantization error.

    Raises:
        ValueError: if ``sampled_classes`` is below 1.

    Example:
        >>> method = jmlh(stochastic=False, penalty=0.2)  # as released

    Reference:
        Shen et al., "Embarrassingly Simple Binary Representation Learning" (JMLH), ICCV Workshops
        2019, from memory of the paper and from its released code, which draws no bits and has
        a weight of 0.2 where later collections have 0.1. Soft labels y / sum y as there.
    """

    def sample_bits(codes, batch, context):
        probability = jax.nn.sigmoid(codes)
        if stochastic:
            ones = uniform_by_item(context.key, batch.index, codes.shape[1]) < probability
        else:
            ones = codes >= 0
        return with_gradient_of(probability, ones.astype(codes.dtype))

    method = classification("jmlh", sample_bits, sampled_classes=sampled_classes)
    return add_penalty(method, penalty, from_loss("jmlh_penalty", losses.bernoulli_kl_per_code))


def supervised_deep_hashing(
    *,
    spread: float = 0.1,
    alpha: float = 1.0,
    decorrelation: float = 0.1,
    classification_weight: float = 1.0,
    penalty: Weight = 0.1,
) -> Objective:
    r"""Supervised deep hashing: bits of high variance, separated classes, and a classifier.

    With :math:`h = \tanh u` and the pairs of different images of a batch,

    .. math:: L = \gamma\, \mathrm{CE}(W^\top h + c,\; y / \textstyle\sum y)
              + \lambda_1 \Big[ \tfrac12 \operatorname{mean}_j (1 - \operatorname{var}_j h)
              + \alpha \big( \Sigma_W - \Sigma_B \big) \Big]
              + \lambda_2 \operatorname{mean}_{j \ne k} C_{jk}^2
              + \lambda \operatorname{mean} (h - \operatorname{sign} h)^2

    where :math:`\Sigma_W - \Sigma_B` is `jaxhash.losses.pair_scatter`, within classes less between
    them, and C the second moments of `jaxhash.losses.bit_decorrelation`. Images that share
    any label are similar.

    Args:
        spread: :math:`\lambda_1`.
        alpha: :math:`\alpha`, weight of the scatter; 0 is the unsupervised form.
        decorrelation: :math:`\lambda_2`.
        classification_weight: :math:`\gamma`; 0 is the method of 2015, which has no classifier.
        penalty: weight :math:`\lambda` of `jaxhash.losses.l2_quantization` of h; 0 leaves it out.

    Raises:
        ValueError: if a weight is below 0, or all but that of the penalty are 0.

    Example:
        >>> method = supervised_deep_hashing(classification_weight=0.0)

    Reference:
        Liong, Lu, Wang, Moulin, Zhou, "Deep Hashing for Compact Binary Codes Learning" (SDH), CVPR
        2015, from memory of the paper; the text was not at hand. The classifier is that of "SDH-C"
        in cisip-FIRe. Departures: on the raw u the variance and the scatter are unbounded, so every
        term is of tanh(u). They are means, so the weights are not the paper's, but put the terms on
        one scale. The paper wants :math:`W W^\top = I` of the hash layer, for independent bits; the
        layer belongs to the model, so here the second moments of the codes are pushed to 0 off the
        diagonal. (The collection has a matrix of ones in place of I, which makes all rows of W the
        same.)
    """
    name = "supervised_deep_hashing"

    def term(part: str, loss: Callable[..., Float[Array, ""]]) -> Objective:
        return from_loss(f"{name}_{part}", on_relaxed(loss))

    weights = {
        "spread": spread,
        "alpha": alpha,
        "decorrelation": decorrelation,
        "classification_weight": classification_weight,
    }
    check_weights(**weights)
    if not (spread or decorrelation or classification_weight):
        raise ValueError("spread, decorrelation and classification_weight must not all be 0")
    scores = classification(f"{name}_classification", _relax)
    scatter = pairwise(
        f"{name}_scatter",
        losses.pair_scatter,
        pairs="batch",
        relax=lambda codes, context: relax(codes),
    )
    parts = (
        (classification_weight, scores),
        (0.5 * spread, term("variance", losses.variance_shortfall)),
        (spread * alpha, scatter),
        (decorrelation, term("decorrelation", losses.bit_decorrelation)),
    )
    method = combine(*(weighted(weight, part) for weight, part in parts if weight))
    quantization = term("penalty", losses.l2_quantization)
    return add_penalty(method, penalty, quantization)


def classification(
    name: str,
    transform: Callable[[Float[Array, "n bits"], Batch, Context], Float[Array, "n bits"]],
    loss: Callable[..., Float[Array, ""]] = losses.cross_entropy,
    *,
    bias: bool = True,
    sampled_classes: int | None = None,
) -> Objective:
    """Makes an objective of a linear classifier of the codes, with trained parameters.

    Args:
        name: name of the term in the log.
        transform: ``transform(codes, batch, context)``, from codes of the model to the
            inputs of the classifier.
        loss: ``loss(scores, multi-hot labels, where=, axis_name=)``, a scalar.
        bias: whether the classifier has a bias.
        sampled_classes: number of classes that the softmax draws; None for all.

    Raises:
        ValueError: if ``sampled_classes`` is below 1.
    """
    if sampled_classes is not None and sampled_classes < 1:
        raise ValueError(f"sampled_classes must be at least 1, got {sampled_classes}")

    def init(key, setup):
        # Scores of codes of -1 and +1 have variance 1.
        kernel = jax.random.normal(key, (setup.bits, setup.classes)) / jnp.sqrt(setup.bits)
        return Variables({"kernel": kernel} | ({"bias": jnp.zeros(setup.classes)} if bias else {}))

    def classify(variables, codes, batch, context):
        classifier = variables.params
        classifier_inputs = transform(
            zero_padding(codes.astype(jnp.float32), batch), batch, context
        )
        kernel, labels = classifier["kernel"], jnp.asarray(batch.labels)
        options = {"where": jnp.asarray(batch.mask), "axis_name": context.axis_name}
        if sampled_classes is not None and labels.ndim == 2:
            raise ValueError(
                f"sampled_classes={sampled_classes} is for class ids, not multi-hot rows"
            )
        is_large = are_many(kernel.shape[1]) and labels.ndim == 1
        if loss is losses.cross_entropy and (is_large or sampled_classes is not None):
            value = losses.linear_cross_entropy(
                classifier_inputs,
                **classifier,
                labels=labels,
                samples=sampled_classes,
                key=jax.random.fold_in(context.key, 1),  # the key itself may draw bits
                **options,
            )
            return Loss(value, variables.state, {name: value})
        scores = jnp.matmul(classifier_inputs, kernel, precision=lax.Precision.HIGHEST)
        if bias:
            scores = scores + classifier["bias"][None, :]
        value = loss(scores, multi_hot(labels, scores.shape[1]), **options)
        return Loss(value, variables.state, {name: value})

    return Objective(init, classify)


def _relax(codes: Float[Array, "n bits"], batch: Batch, context: Context):
    return relax(codes)


#: The methods of this family.
METHODS = (
    Method(
        cross_entropy,
        "baseline",
        kind="classification",
        state="classifier",
        multi_label=SOFT_LABELS,
        learning_rate=0.003,
    ),
    Method(
        greedyhash,
        "Su et al., NeurIPS 2018",
        kind="classification",
        state="classifier",
        multi_label=SOFT_LABELS,
        learning_rate=0.01,
    ),
    Method(
        jmlh,
        "Shen et al., ICCVW 2019",
        kind="classification",
        state="classifier",
        multi_label=SOFT_LABELS,
        learning_rate=0.01,
    ),
    Method(
        supervised_deep_hashing,
        "Liong et al., CVPR 2015",
        kind="classification",
        state="classifier",
        multi_label=SOFT_LABELS,
        learning_rate=0.01,
    ),
)
