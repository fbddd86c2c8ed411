"""Reconstruction of the inputs from their codes: DCW-AE."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Key, Shaped

from jaxhash import losses
from jaxhash.objectives._base import (
    Loss,
    Objective,
    Variables,
    Weight,
    add_penalty,
    from_loss,
    on_relaxed,
    zero_padding,
)
from jaxhash.objectives._linear import init_linear
from jaxhash.objectives._method import NO_LABELS, Method
from jaxhash.ops.codes import relax
from jaxhash.ops.collectives import psum_local_grad, row_count

__all__ = ["dcw_autoencoder"]

#: Kernel and bias of each layer.
Decoder = list[dict[str, Float[Array, "..."]]]


def dcw_autoencoder(*, narrow: int = 100, wide: int = 500, penalty: Weight = 0.1) -> Objective:
    r"""DCW-AE: reconstructs the inputs from relaxed codes, whose law is matched to random signs.

    .. math:: L = \operatorname{mean}_i \tfrac1d \| D(\tanh u_i) - x_i \|^2

    with d the number of entries of an input. Vectors are reconstructed in their own units, in which
    the weight of the penalty is meant too; images of bytes as numbers in [-1, 1]. The decoder D is
    trained with the network. It has layers of ``narrow``, ``wide`` and ``wide`` units with leaky
    ReLUs, then a linear layer of d units, the largest for large images. Labels are ignored.

    Args:
        narrow: number of units of the first layer after the code.
        wide: number of units of the second and the third layer.
        penalty: weight of `jaxhash.losses.hswd` of :math:`\tanh u`; 0 leaves it out.

    Raises:
        ValueError: if ``narrow`` or ``wide`` is below 1.

    Example:
        >>> method = dcw_autoencoder(penalty=0.0)

    Reference:
        Doan, Reddy, "Image Hashing by Minimizing Discrete Component-wise Wasserstein Distance",
        arXiv 2003.00134, of which HSWD is the matching term. Its released notebook trains an
        encoder of 500, 500 and 100 units by Adam with rate 1e-4 and :math:`\beta_1 = 0.5`, in
        batches of 64 for 20 epochs, on images in [-1, 1]; the decoder mirrors it. Departures:
        reconstruction and matching are one loss; there, five updates for the first alternate with
        one for the second, on different batches; the decoder takes tanh(u), there u; and it
        does not end in a tanh, so that it suits vectors as well.
    """
    for name, width in (("narrow", narrow), ("wide", wide)):
        if width < 1:
            raise ValueError(f"{name} must be at least 1, got {width}")

    def init(key, setup):
        entries = math.prod(setup.inputs.shape[1:])
        return Variables(params=init_decoder(key, [setup.bits, narrow, wide, wide, entries]))

    def loss(variables, codes, batch, context):
        kept = batch.mask[:, None]
        target = jnp.where(kept, flat_inputs(batch.inputs), 0.0)
        reconstruction = decode(
            variables.params, relax(zero_padding(codes.astype(jnp.float32), batch))
        )
        squares = jnp.where(kept, (reconstruction - target) ** 2, 0.0)
        entries = (
            jnp.maximum(row_count(codes, batch.mask, context.axis_name), 1)
            * reconstruction.shape[1]
        )
        value = psum_local_grad(jnp.sum(squares) / entries, context.axis_name)
        return Loss(value, variables.state, {"dcw_autoencoder": value})

    return add_penalty(
        Objective(init, loss),
        penalty,
        from_loss("dcw_autoencoder_penalty", on_relaxed(losses.hswd), random=True),
    )


def init_decoder(key: Key[Array, ""], widths: list[int]) -> Decoder:
    """Initializes a layer per pair of widths: kernels of variance 1 / inputs, and zero biases."""
    keys = jax.random.split(key, len(widths) - 1)
    return [init_linear(key, n, m) for key, n, m in zip(keys, widths[:-1], widths[1:], strict=True)]


def decode(decoder: Decoder, codes: Float[Array, "n bits"]) -> Float[Array, "n entries"]:
    """Applies the decoder to codes."""
    x = codes
    for number, layer in enumerate(decoder):
        if number:
            x = jax.nn.leaky_relu(x, 0.2)
        x = x @ layer["kernel"] + layer["bias"][None, :]
    return x


def flat_inputs(inputs: Shaped[ArrayLike, "n ..."]) -> Float[Array, "n entries"]:
    """Flattens inputs to float32 rows; bytes are mapped to [-1, 1]."""
    inputs = jnp.asarray(inputs)
    rows = inputs.reshape(len(inputs), -1).astype(jnp.float32)
    return rows / 127.5 - 1.0 if inputs.dtype == jnp.uint8 else rows


#: The methods of this family.
METHODS = (
    Method(
        dcw_autoencoder,
        "Doan and Reddy, 2020",
        kind="unsupervised",
        state="decoder",
        multi_label=NO_LABELS,
    ),
)
