"""Methods without labels, with similarity from fixed features or from two views of an image."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from jaxhash import losses
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
    from_loss,
    uniform_by_item,
    zero_padding,
)
from jaxhash.objectives._method import NO_LABELS, Method
from jaxhash.objectives._pairs import Candidates, batch_candidates
from jaxhash.ops.codes import relax, straight_through, with_gradient_of
from jaxhash.ops.collectives import all_gather, psum_no_grad, row_count
from jaxhash.ops.numerics import cosine_similarity
from jaxhash.ops.selection import is_above, top_m_threshold

__all__ = ["bihalf", "cibhash", "greedyhash_u", "semantic_structure_hashing"]

#: Width of a bin of cosine distances, and the number of bins from distance 0 to 2.
BIN, BINS = 0.01, 200

SignFn = Callable[[Float[Array, "n bits"], Bool[Array, " n"], str | None], Float[Array, "n bits"]]


def greedyhash_u(*, penalty: Weight = 0.1) -> Objective:
    r"""Unsupervised GreedyHash: cosines of signs are matched to those of fixed features.

    .. math:: L = \operatorname{mean}_{i \ne j} \big(\cos(b_i, b_j) - \cos(x_i, x_j)\big)^2,
              \qquad b = \operatorname{sign} u,

    over the pairs of the whole batch, with the gradient of the identity through the sign. The
    features x are the inputs themselves if these are vectors. For images they are those of the
    initial backbone, pretrained or not, which takes a second forward pass and a copy of the model
    in the state. Labels are ignored.

    Args:
        penalty: weight of its quantization penalty, the mean of :math:`||u| - 1|^3`; 0 leaves it
            out.

    Example:
        >>> method = greedyhash_u(penalty=0.0)

    Reference:
        Su, Zhang, Han, Tian, "Greedy Hash: Towards Fast Optimization for Accurate Hash Coding in
        CNN", NeurIPS 2018, in the form of its released unsupervised code: weight 0.1, and there
        SGD with rate 1e-4, momentum 0.9 and batches of 32 on a frozen VGG16. Departures: all pairs
        of the batch instead of its first half with its second half; and the features stay those of
        the start where the backbone is trained as well.
    """
    return add_penalty(
        _feature_cosines("greedyhash_u", lambda codes, mask, axis_name: straight_through(codes)),
        penalty,
        from_loss("greedyhash_u_penalty", losses.cubic_quantization),
    )


def bihalf(*, penalty: Weight = 3.0) -> Objective:
    r"""Bi-half: cosines of signs, balanced by construction, are matched to those of fixed features.

    The loss and the features are those of `greedyhash_u`. In training, the upper half of the whole
    batch is +1 in each bit and the lower half -1, with the gradient of the identity; in an odd
    batch the middle row is -1. Final codes are still cut at 0.

    Args:
        penalty: weight of `jaxhash.losses.hswd` with ``target="balanced"``, the mean of
            :math:`(u - b)^2` with those b; 0 leaves it out. The paper's backward pass adds
            :math:`\gamma (u - b)`, and its code divides that by the number of entries: the gradient
            of :math:`\gamma / 2` times the mean, so that its :math:`\gamma = 6` is 3 here.

    Example:
        >>> method = bihalf()

    Reference:
        Li, van Gemert, "Deep Unsupervised Image Hashing by Maximizing Bit Entropy", AAAI 2021, with
        :math:`\gamma` as in its released code for CIFAR-10, which trains by SGD with rate 1e-4,
        momentum 0.9 and batches of 32 for 300 epochs on a frozen VGG16. Departures: those of
        `greedyhash_u`; halves of the whole batch, however many devices hold it; and in an odd batch
        the penalty pulls the middle code to 0.
    """
    return add_penalty(
        _feature_cosines("bihalf", bihalf_codes),
        penalty,
        from_loss("bihalf_penalty", partial(losses.hswd, target="balanced")),
    )


def cibhash(*, temperature: float = 0.3, beta: float = 0.001, stochastic: bool = True) -> Objective:
    r"""CIBHash: a contrastive loss of binary codes of two views of an image.

    A bit is +1 with probability :math:`\sigma(u)`. The loss is `jaxhash.losses.nt_xent` of such
    random codes, plus beta times `jaxhash.losses.view_divergence` between the laws of the two
    views. The gradient through a draw is that of its mean, :math:`2 \sigma(u) - 1 = \tanh(u / 2)`.
    Labels are ignored.

    Args:
        temperature: temperature of the contrastive loss.
        beta: weight of the divergence, which is a sum over bits.
        stochastic: whether bits are drawn, as in the paper; the released code takes the more likely
            value, the sign of u.

    Raises:
        ValueError: if ``temperature`` is not above 0, or ``beta`` is negative.

    Example:
        >>> cibhash().views
        2

    Reference:
        Qiu, Su, Ou, Yu, Chen, "Unsupervised Hashing with Contrastive Information Bottleneck",
        IJCAI 2021; that bits are drawn is from memory of the paper, whose text was not at hand.
        Temperature and beta are those of the released code, which trains by Adam with rate 1e-3 and
        batches of 64 on a frozen VGG16. Departure: the gradient of a sign there is that of
        :math:`\sigma(u)`, half of the mean's.
    """
    check_positive(temperature=temperature)
    check_weights(beta=beta)

    def loss(variables, codes, batch, context):
        views = [zero_padding(view.astype(jnp.float32), batch) for view in codes]
        bits = [
            _sample_bits(view, jax.random.fold_in(context.key, number), batch.index, stochastic)
            for number, view in enumerate(views)
        ]
        options = {"where": batch.mask, "axis_name": context.axis_name}
        contrast = losses.nt_xent(*bits, temperature=temperature, **options)
        divergence = losses.view_divergence(*views, **options)
        terms = {"cibhash": contrast, "cibhash_divergence": divergence}
        return Loss(contrast + beta * divergence, variables.state, terms)

    return Objective(lambda key, setup: Variables(), loss, views=2)


def semantic_structure_hashing(*, alpha: float = 2.0, beta: float = 2.0) -> Objective:
    r"""SSDH of Yang et al.: pairs of unusually near features are similar, of far ones dissimilar.

    The cosine distances of the features have a mode m, and half a Gaussian on either side of it,
    with deviations :math:`\sigma_l` and :math:`\sigma_r` from m. Pairs nearer than
    :math:`m - \alpha \sigma_l` are similar and pairs farther than :math:`m + \beta \sigma_r`
    dissimilar; other pairs are left out. The loss is `jaxhash.losses.semantic_structure` of
    :math:`\tanh u` over the pairs of the whole batch. The features are those of `greedyhash_u`.
    Labels are ignored.

    Args:
        alpha: number of deviations below the mode at which similar pairs begin.
        beta: number of deviations above it at which dissimilar pairs begin.

    Raises:
        ValueError: if ``alpha`` or ``beta`` is negative.

    Example:
        >>> method = semantic_structure_hashing(alpha=1.5)

    Reference:
        Yang, Deng, Liu, Liu, Tao, "Semantic Structure-based Unsupervised Deep Hashing", IJCAI 2018;
        from memory of the paper and from public codes, the text was not at hand. Those train by SGD
        with rate 1e-3, momentum 0.9 and batches of 24 for 50 epochs. Departures: the distances are
        those of all pairs that shared a batch so far, in bins of width 0.01, where the paper has
        those of all training pairs beforehand; the mode is the middle of its bin, whose pairs count
        half on either side, where public codes take its lower edge; pairs of an image with itself
        are left out; and the mean is over pairs that are similar or dissimilar. One public code
        mirrors the distances at alpha or beta times half the mode, which is right only where they
        are 2.
    """
    check_weights(alpha=alpha, beta=beta)

    def init(key, setup):
        return Variables(state=(initial_encoder(setup), jnp.zeros(BINS, jnp.float32)))

    def loss(variables, codes, batch, context):
        encoder, counts = variables.state
        codes = relax(zero_padding(codes.astype(jnp.float32), batch))
        candidates = _candidates(codes, batch, context)
        distances = 1.0 - _cosines(fixed_features(encoder, batch, context), context)
        counts = counts + histogram(distances, candidates.where, context.axis_name)
        near, far = thresholds(counts, alpha, beta)
        value = losses.semantic_structure(
            codes,
            candidates.codes,
            jnp.where(distances < near, 1.0, jnp.where(distances > far, -1.0, 0.0)),
            where=candidates.where,
            axis_name=context.axis_name,
        )
        return Loss(value, (encoder, counts), {"semantic_structure_hashing": value})

    return Objective(init, loss)


def initial_encoder(setup: Setup) -> PyTree:
    """Returns what `fixed_features` needs: the initial variables for images, else nothing."""
    if setup.inputs.ndim == 2:
        return ()
    return jax.tree.map(jnp.copy, setup.variables)  # the training step donates both


def fixed_features(encoder: PyTree, batch: Batch, context: Context) -> Float[Array, "n features"]:
    """Returns features of the inputs that stay fixed in training; zeros for padding.

    Args:
        encoder: from `initial_encoder`.
        batch: a batch of vectors, which are their own features, or of images.
        context: the encoder of images.
    """
    features = jnp.asarray(batch.inputs)
    if features.ndim > 2:
        features = context.encode(encoder, features, return_features=True)
    features = lax.stop_gradient(features.astype(jnp.float32))
    return zero_padding(features, batch)


def bihalf_codes(
    codes: Float[Array, "n bits"], mask: Bool[Array, " n"], axis_name: str | None
) -> Float[Array, "n bits"]:
    """Returns +1 for the upper half of the whole batch in each bit, else -1, also for padding.

    The gradient is that of the identity. In an odd batch the middle row is -1; among equal codes
    later rows count as upper ones.
    """
    half = row_count(codes, mask, axis_name) // 2
    upper = is_above(
        top_m_threshold(codes, half, where=mask, axis_name=axis_name), codes, axis_name=axis_name
    )
    return with_gradient_of(codes, jnp.where(upper & mask[:, None], 1.0, -1.0))


def histogram(
    distances: Float[Array, "n m"], where: Bool[Array, "n m"], axis_name: str | None
) -> Float[Array, " bins"]:
    """Counts the valid pairs of all devices in each bin of cosine distances."""
    bins = jnp.clip(jnp.where(where, distances, 0.0) / BIN, 0, BINS - 1).astype(jnp.int32)
    counts = jnp.zeros(BINS, jnp.float32).at[jnp.where(where, bins, BINS)].add(1.0, mode="drop")
    return psum_no_grad(counts, axis_name)


def thresholds(
    counts: Float[Array, " bins"], alpha: float, beta: float
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns the distances below which a pair is similar and above which it is dissimilar."""
    mode, left, right = fit_halves(counts)
    return mode - alpha * left, mode + beta * right


def fit_halves(
    counts: Float[Array, " bins"],
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Returns the mode of the distances, and their deviations from it on its left and its right.

    The mode is the middle of its bin, whose pairs count half on either side.
    """
    number = jnp.arange(BINS)
    peak = jnp.argmax(counts)
    halved = jnp.where(number == peak, 0.5 * counts, counts)
    square = (BIN * (number - peak)) ** 2

    def deviation(side):
        weights = jnp.where(side, halved, 0.0)
        return jnp.sqrt(jnp.sum(weights * square) / jnp.maximum(jnp.sum(weights), 0.5))

    return BIN * (peak + 0.5), deviation(number <= peak), deviation(number >= peak)


def _feature_cosines(name: str, signs: SignFn) -> Objective:
    """Makes an objective that matches cosines of binary codes to those of fixed features."""

    def init(key, setup):
        return Variables(state=initial_encoder(setup))

    def loss(variables, codes, batch, context):
        codes = signs(zero_padding(codes.astype(jnp.float32), batch), batch.mask, context.axis_name)
        candidates = _candidates(codes, batch, context)
        value = losses.cosine_regression(
            codes,
            candidates.codes,
            _cosines(fixed_features(variables.state, batch, context), context),
            where=candidates.where,
            axis_name=context.axis_name,
        )
        return Loss(value, variables.state, {name: value})

    return Objective(init, loss)


def _candidates(codes: Float[Array, "n bits"], batch: Batch, context: Context) -> Candidates:
    """Returns the rows of the whole batch, none paired with itself, without reading labels."""
    return batch_candidates(codes, batch._replace(labels=batch.index), context.axis_name)


def _cosines(features: Float[Array, "n features"], context: Context) -> Float[Array, "n m"]:
    """Returns cosines of this device's rows with the whole batch; 0 for a row of zeros."""
    return cosine_similarity(features, all_gather(features, context.axis_name))


def _sample_bits(
    codes: Float[Array, "n bits"], key: Key[Array, ""], index: Int[Array, " n"], stochastic: bool
) -> Float[Array, "n bits"]:
    """Returns bits of -1 and +1, with the gradient of their mean.

    The bits of a row depend on its index in the training set, not on its position in the batch or
    on the devices.
    """
    mean = jnp.tanh(codes / 2)
    if stochastic:
        noise = uniform_by_item(key, index, codes.shape[1])
        signs = jnp.where(noise < jax.nn.sigmoid(codes), 1.0, -1.0)
    else:
        signs = jnp.where(codes >= 0, 1.0, -1.0)
    return with_gradient_of(mean, signs)


#: The methods of this family.
METHODS = (
    Method(
        greedyhash_u,
        "Su et al., NeurIPS 2018",
        kind="unsupervised",
        state="images: first model",
        multi_label=NO_LABELS,
    ),
    Method(
        bihalf,
        "Li and van Gemert, AAAI 2021",
        kind="unsupervised",
        state="images: first model",
        multi_label=NO_LABELS,
    ),
    Method(
        cibhash,
        "Qiu et al., IJCAI 2021",
        kind="unsupervised",
        multi_label=NO_LABELS,
        settings={"drop": 0.2},  # two views must differ
    ),
    Method(
        semantic_structure_hashing,
        "Yang et al., IJCAI 2018",
        kind="unsupervised",
        state="histogram, images: first model",
        multi_label=NO_LABELS,
    ),
)
