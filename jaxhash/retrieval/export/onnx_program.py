"""A hash function as an ONNX model, for runtimes without JAX."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
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
    try:
        with _quiet():
            model = jax2onnx.to_onnx(
                lambda inputs: hasher.apply(hasher.variables, inputs),
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
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    except UserError:
        raise
    except Exception as error:  # of a library that patches Flax and reads JAX's private parts
        raise UserError(
            f"jax2onnx {jax2onnx.__version__} by JAX {jax.__version__} does not convert this model "
            f"({type(error).__name__}: {first_line(error)}); export it to jax"
        ) from error
    _verify(hasher, lambda batch: session.run(None, {"inputs": batch})[0])
    with whole_file(output, "wb") as file:
        file.write(content)


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
