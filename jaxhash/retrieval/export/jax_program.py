"""A hash function as a program of JAX (StableHLO), which needs neither jaxhash nor Flax to run."""

from pathlib import Path

import jax
import jax.numpy as jnp
from jax import export

from jaxhash.retrieval.hasher import Hasher
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import whole_file

#: What the program runs on.
PLATFORMS = ("cpu", "cuda", "tpu")

#: What the program returns.
OUTPUT = "packed codes, uint8 [batch, bytes]"


def export_program(hasher: Hasher) -> export.Exported:
    """Returns the program from a batch of inputs, of any size, to packed codes.

    Inputs are as `Hasher.preprocess` returns them: uint8 images, or float32 vectors before scaling.
    The weights are part of the program.
    """
    (batch,) = export.symbolic_shape("batch")
    inputs = jax.ShapeDtypeStruct((batch, *hasher.form.shape), hasher.check_input.dtype)

    def encode(inputs):
        return jnp.packbits(hasher.apply(hasher.variables, inputs) >= 0, axis=1)

    return export.export(jax.jit(encode), platforms=PLATFORMS)(inputs)


def write_jax(hasher: Hasher, output: Path) -> None:
    """Writes the program to a file that `jax.export.deserialize` reads.

    JAX reads such a file for six months at least; the archive of a hash function does not expire.

    Raises:
        UserError: if flatbuffers is not installed.
    """
    try:
        import flatbuffers  # noqa: F401
    except ImportError:
        raise UserError(
            'JAX writes programs by flatbuffers, which is not installed: pip install "jaxhash[jax]"'
        ) from None
    program = export_program(hasher).serialize()
    with whole_file(output, "wb") as file:
        file.write(program)
