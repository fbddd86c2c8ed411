"""A hash function as an ONNX model, for runtimes without JAX."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from jaxhash.retrieval.hasher import Hasher
from jaxhash.utils.errors import UserError, first_line
from jaxhash.utils.files import whole_file

#: What the model returns.
OUTPUT = "real-valued codes, float32 [batch, bits]; a bit is 1 where its value is at least 0"

#: Largest difference of a value from that of the hash function, in root mean squares of the codes.
_TOLERANCE = 1e-2

#: A file of protobuf holds less than this; larger models would need a second file for their weights.
_MOST_BYTES = 2**31

_INSTALL = 'pip install "jaxhash[onnx]"'


def write_onnx(hasher: Hasher, output: Path) -> None:
    """Writes one file with all weights in it, and compares what onnxruntime computes with it.

    The model ends in real-valued codes: ONNX packs no bits.

    Raises:
        UserError: if a package is missing, the model cannot be converted, or computes other values.
    """
    try:
        import jax2onnx
        import onnxruntime
    except ImportError as error:
        raise UserError(
            f"ONNX is written by jax2onnx and checked by onnxruntime, and one is missing ({error}): "
            f"{_INSTALL}"
        ) from None
    inputs = jax.ShapeDtypeStruct(("batch", *hasher.form.shape), hasher.check_input.dtype)

    def encode(inputs):
        with mock.patch.object(jax.image, "resize", _resize):
            return hasher.apply(hasher.variables, inputs)

    try:
        with _quiet(), jax.numpy_rank_promotion("allow"):  # which jax2onnx relies on
            model = jax2onnx.to_onnx(
                encode,
                [inputs],
                model_name="jaxhash",
                input_names=["inputs"],
                output_names=["codes"],
            )
        if model.ByteSize() >= _MOST_BYTES:
            raise UserError(
                "the model has 2 GB and more, which no ONNX file holds; export it to jax"
            )
        content = model.SerializeToString()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors; it warns of shapes that it merges
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except UserError:
        raise
    except Exception as error:  # of a library that patches Flax and reads JAX's private parts
        raise UserError(
            f"jax2onnx {version('jax2onnx')} by JAX {jax.__version__} does not convert this model "
            f"({type(error).__name__}: {first_line(error)}); export it to jax"
        ) from error
    _verify(hasher, lambda batch: session.run(None, {"inputs": batch})[0])
    with whole_file(output, "wb") as file:
        file.write(content)


def _resize(images: jax.Array, shape: tuple[Any, ...], method: str) -> jax.Array:
    """Does what `jax.image.resize` does, which jax2onnx converts for a fixed batch only."""
    dims = [dim for dim, size in enumerate(shape) if images.shape[dim] != size]
    scale = jnp.array([shape[dim] / images.shape[dim] for dim in dims], jnp.float32)
    return jax.image.scale_and_translate(images, shape, dims, scale, jnp.zeros_like(scale), method)


def _verify(hasher: Hasher, run: Any) -> None:
    """Raises `UserError` unless a model computes what the hash function does, for two batches."""
    one = hasher.check_input
    both = np.concatenate([one, np.flip(one, axis=range(1, one.ndim))])
    expected = hasher.encode_floats(both)
    scale = float(np.sqrt(np.square(expected).mean())) or 1.0
    for count in (1, 2):
        error = float(np.abs(run(both[:count]) - expected[:count]).max())
        if not error <= _TOLERANCE * scale:
            raise UserError(
                f"the ONNX model computes codes that differ by {error:.2g} where they have a root mean "
                f"square of {scale:.2g}: jax2onnx converts a part of this model wrongly; export it to jax"
            )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drops what jax2onnx prints and warns of: plug-ins for libraries that are not used here."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
