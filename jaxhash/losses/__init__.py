"""Hashing losses as pure functions of arrays.

Conventions, the same for every function here:

* rows are images and columns are bits; codes may be float32, bfloat16 or float16, and everything is
  accumulated in float32;
* ``where`` marks the valid rows: a masked row changes neither the value nor the normaliser, and its
  gradient is exactly zero; without a valid row the loss is 0;
* ``axis_name`` names a mapped axis (pmap, vmap) over which the batch is spread. The value is then
  that of the whole batch, the same on every device, and the gradient is the device's *share*: sum
  the gradients over the axis (``jax.lax.psum``), do not average them.
"""

from jaxhash.losses._elementwise import l2_quantization as l2_quantization
from jaxhash.losses._pairwise import hashnet as hashnet
from jaxhash.losses._pairwise import pairwise_likelihood as pairwise_likelihood
from jaxhash.losses._quantization import Method as Method
from jaxhash.losses._quantization import Target as Target
from jaxhash.losses._quantization import hswd as hswd
from jaxhash.losses._transport import optimal_transport as optimal_transport
from jaxhash.losses._transport import sliced_wasserstein as sliced_wasserstein

__all__ = [
    "Method",
    "Target",
    "hashnet",
    "hswd",
    "l2_quantization",
    "optimal_transport",
    "pairwise_likelihood",
    "sliced_wasserstein",
]
