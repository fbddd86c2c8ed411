"""A linear classifier of codes with so many classes that its scores are no matrix."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key, Shaped

from jaxhash.losses._common import check_codes
from jaxhash.ops.arguments import UNLABELLED, as_floating, as_labels, check_shape
from jaxhash.ops.class_blocks import other_classes_logsumexp, sampled_classes_logsumexp
from jaxhash.ops.collectives import masked_mean
from jaxhash.ops.meshes import on_any_mesh
from jaxhash.ops.numerics import at_least_float32, inner_products


@on_any_mesh
def linear_cross_entropy(
    codes: Float[Array, "n bits"],
    kernel: Float[Array, "bits classes"],
    labels: Shaped[ArrayLike, " n"],
    *,
    bias: Float[Array, " classes"] | None = None,
    samples: int | None = None,
    key: Key[Array, ""] | None = None,
    where: Shaped[ArrayLike, " n"] | None = None,
    axis_name: str | None = None,
) -> Float[Array, ""]:
    r"""Softmax cross-entropy of a linear classifier, for so many classes that scores are no matrix.

    This is `cross_entropy` with the scores :math:`a = V^\top h + c`, which are computed for a block of
    classes at a time, and again in the backward pass; or for some classes that are drawn
    (sampled softmax), as an estimate.

    Args:
        codes: relaxed codes h.
        kernel: V, the same on all devices. Its gradient is this device's share.
        labels: class ids; a row of -1 is left out.
        bias: c; 0 by default.
        samples: number of classes, drawn uniformly with replacement, that stand for all but the
            row's own, which always counts; None for all classes. The sum of exponentials is then an
            unbiased estimate, its logarithm too small on average.
        key: needed with ``samples``.

    Raises:
        ValueError: if ``samples`` is below 1, or given without a ``key``.

    Example:
        >>> codes, kernel = jnp.array([[1.0]]), jnp.log(jnp.array([[1.0, 1.0, 2.0]]))
        >>> linear_cross_entropy(codes, kernel, jnp.array([2])).round(4)  # log(4 / 2)
        Array(0.6931, dtype=float32)

    Reference:
        Sampled softmax: Jean, Cho, Memisevic, Bengio, "On Using Very Large Target Vocabulary for
        Neural Machine Translation", ACL 2015, as in `jaxhash.ops.class_blocks`. Blocks: as in
        Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models", ICLR 2025.
    """
    codes, where = check_codes(codes, where)
    kernel = at_least_float32(as_floating("kernel", kernel, ndim=2))
    classes = kernel.shape[1]
    check_shape("kernel", kernel, (codes.shape[1], classes))
    bias = (
        jnp.zeros(classes) if bias is None else at_least_float32(as_floating("bias", bias, ndim=1))
    )
    check_shape("bias", bias, (classes,))
    labels = jnp.asarray(as_labels("labels", labels, classes))
    check_shape("labels", labels, codes.shape[:1])
    if samples is not None and (samples < 1 or key is None):
        raise ValueError(f"samples must be at least 1 and have a key, got {samples} and key={key}")
    valid = labels != UNLABELLED if where is None else where & (labels != UNLABELLED)
    weights = kernel.T

    def scores(part):
        return inner_products(codes, part[0]) + part[1][None, :]

    if samples is None:
        others = other_classes_logsumexp(scores, (weights, bias), labels)
    else:
        others = sampled_classes_logsumexp(
            scores, (weights, bias), labels, key=key, samples=samples
        )
    # A traced id out of range cannot be refused; its loss is NaN.
    of_label = {"mode": "fill", "fill_value": jnp.nan}
    own = jnp.sum(codes * weights.at[labels].get(**of_label), axis=1)
    own = own + bias.at[labels].get(**of_label)
    return masked_mean(jax.nn.softplus(others - own), valid, axis_name)
