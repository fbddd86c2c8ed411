"""A hash function: from images or vectors to packed binary codes, without any training data."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, PyTree, Shaped, UInt8
from PIL import Image

from jaxhash.data.input_form import InputForm
from jaxhash.data.inputs.prepare import describe_form, prepare_image, prepare_vectors
from jaxhash.models import Encoder
from jaxhash.retrieval.archive_format import (
    FORMAT,
    digest,
    encoder_to_json,
    input_to_json,
    write_archive,
)
from jaxhash.retrieval.stable_values import StableProgram
from jaxhash.utils.errors import UserError

#: Values of `Hasher.check_input` that are farther from zero, in root mean squares, have the same sign
#: on any device and by any version of XLA.
CHECK_TOLERANCE = 1e-2


@dataclasses.dataclass(frozen=True, eq=False)
class Hasher:
    """A hash function, as `jaxhash.load` reads it.

    Its codes are packed uint8, the first bit the most significant, with zero as +1, and the last byte
    filled with 0.

    **The same input has the same bits**, whatever the other inputs of a call are, in whatever order
    and batches, on however many devices of a kind. The last digits of real-valued codes do depend on
    that; so each row with a value within rounding of zero is computed again by itself. In a job of
    several processes each call is local to its process.

    Attributes:
        model: Flax module from a batch of inputs to real-valued codes.
        variables: its variables.
        form: the form of its inputs.
        made_by: where it comes from, as JSON values.

    Example:
        >>> from jaxhash.models import backbone_factory
        >>> model = Encoder(backbone_factory("linear"), bits=4)
        >>> form = InputForm("vectors", (2,), "float32", 0.0, 1.0, 1.0, scale=1.0)
        >>> kernel = np.array([[1, -1, 0, 0], [0, 0, 1, -1]], np.float32)
        >>> variables = {"params": {"head": {"kernel": kernel, "bias": np.zeros(4, np.float32)}}}
        >>> hasher = Hasher(model, variables, form)
        >>> hasher
        Hasher(bits=4, digest=..., takes vectors of 2 dimensions)
        >>> hasher.encode(np.array([[2.0, -1.0], [0.0, 3.0]]))
        array([[144],
               [224]], dtype=uint8)
    """

    model: nn.Module
    variables: PyTree
    form: InputForm
    made_by: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"Hasher(bits={self.bits}, digest={self.digest[:12]}, takes {describe_form(self.form)})"
        )

    @cached_property
    def bits(self) -> int:
        """Length of a code."""
        if isinstance(self.model, Encoder):
            return self.model.bits
        return jax.eval_shape(self.apply, self.variables, self.check_input).shape[1]

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of all that determines codes: the weights and `config`."""
        return digest(self._determining, self.variables)

    @cached_property
    def check_code(self) -> str:
        """Packed code of `check_input`, in hexadecimal."""
        return self.encode(self.check_input)[0].tobytes().hex()

    @property
    def config(self) -> dict[str, Any]:
        """The content of an archive's config.json."""
        return {
            "format": FORMAT,
            **self._determining,
            "digest": self.digest,
            "check_code": self.check_code,
            "jaxhash": version("jaxhash"),
            "made_by": self.made_by,
        }

    @cached_property
    def _determining(self) -> dict[str, Any]:
        """The part of `config` that determines codes."""
        return {
            "bits": self.bits,
            "bit_order": "big",
            "zero": "+1",
            "encoder": encoder_to_json(self.model),
            "input": input_to_json(self.form),
        }

    @property
    def check_input(self) -> Shaped[np.ndarray, "1 ..."]:
        """One input that is the same on any machine: made from the form by integer arithmetic."""
        number = np.arange(math.prod(self.form.shape), dtype=np.uint32)
        values = (number * np.uint32(2654435761) >> np.uint32(24)).astype(np.uint8)
        values = values.reshape(1, *self.form.shape)
        if self.form.kind == "images":
            return values
        if self.form.words is not None:
            return (values >> 6).astype(np.float32)
        size = np.float32(self.form.size or 1.0) / np.float32(128)
        return (values.astype(np.float32) - np.float32(127.5)) * size

    def preprocess(
        self, items: Sequence[Any] | Shaped[np.ndarray, "n ..."]
    ) -> Shaped[np.ndarray, "n ..."]:
        """Returns items as `encode` takes them.

        Args:
            items: files of images, PIL images, or arrays of images; or vectors. Arrays are given by
                themselves: a file of an array is opened by `jaxhash.data.inputs`.

        Returns:
            uint8 images [n, height, width, channels], or float32 vectors [n, dimensions].

        Raises:
            UserError: if an item cannot be read, or is not of the kind, size or channels that the hash
                function takes.
        """
        if isinstance(items, str | Path):
            raise UserError(f"`items` must be a list, got {str(items)!r}: put it in brackets")
        if self.form.kind == "vectors":
            return prepare_vectors(items, self.form)
        shape = getattr(items, "shape", None)
        if isinstance(items, Image.Image) or (
            shape is not None and not _is_batch(shape, self.form)
        ):
            raise UserError("`items` must be a list of images: put a single one in brackets")
        images = [prepare_image(item, self.form) for item in items]
        return np.stack(images) if images else np.zeros((0, *self.form.shape), np.uint8)

    def encode(
        self, array: Shaped[np.ndarray | Array, "n ..."], *, batch_size: int = 256
    ) -> UInt8[np.ndarray, "n bytes"]:
        """Returns packed codes of inputs.

        Args:
            array: inputs as `preprocess` returns them; they are read batch by batch.
            batch_size: inputs computed at a time.

        Raises:
            UserError: if inputs are of another form, or not finite.
        """
        blocks = [np.packbits(v >= 0, axis=1) for v in self._values(array, batch_size)]
        return _join(blocks, (-(-self.bits // 8),), np.uint8)

    def encode_floats(
        self, array: Shaped[np.ndarray | Array, "n ..."], *, batch_size: int = 256
    ) -> Float32[np.ndarray, "n bits"]:
        """Returns real-valued codes of inputs, whose signs are the bits of `encode`.

        Their last digits may depend on the batch. See `encode` for arguments and errors.
        """
        return _join(list(self._values(array, batch_size)), (self.bits,), np.float32)

    def features(
        self, array: Shaped[np.ndarray | Array, "n ..."], *, batch_size: int = 256
    ) -> Float32[np.ndarray, "n features"]:
        """Returns the backbone's features of inputs, before the hash head.

        Their last digits may depend on the batch. See `encode` for arguments and errors.

        Raises:
            UserError: if the model is a module of the user's own, whose features are unknown.
        """
        if not isinstance(self.model, Encoder):
            raise UserError("the features of a module that is no Encoder are unknown")
        shape = jax.eval_shape(self._apply_features, self.variables, self.check_input).shape
        return _join(list(self._values(array, batch_size, self._features)), shape[1:], np.float32)

    def save(self, folder: str | Path) -> None:
        """Writes the archive that `jaxhash.load` reads: config.json and model.safetensors."""
        write_archive(Path(folder), self.config, self.variables)

    def apply(
        self, variables: PyTree, inputs: Shaped[Array | np.ndarray, "n ..."]
    ) -> Float[Array, "n bits"]:
        """Computes real-valued codes of inputs as `preprocess` returns them; a pure function for JAX."""
        with jax.default_matmul_precision("highest"):  # or GPUs and TPUs would round to fewer bits
            return self.model.apply(variables, self.form.transform(inputs), train=False)

    def _apply_features(self, variables: PyTree, inputs: Shaped[Array | np.ndarray, "n ..."]):
        with jax.default_matmul_precision("highest"):
            inputs = self.form.transform(inputs)
            return self.model.apply(variables, inputs, train=False, return_features=True)

    @cached_property
    def _codes(self) -> StableProgram:
        return StableProgram(self.apply, self.variables)

    @cached_property
    def _features(self) -> StableProgram:
        return StableProgram(self._apply_features, self.variables, repeats=False)

    def _values(
        self, array: Any, batch_size: int, program: StableProgram | None = None
    ) -> Iterator[Float[np.ndarray, "m bits"]]:
        """Yields the values of successive inputs; raises if one is not finite."""
        if (
            isinstance(batch_size, bool)
            or not isinstance(batch_size, int | np.integer)
            or batch_size < 1
        ):
            raise UserError(f"`batch_size` must be at least 1, got {batch_size}")
        inputs = _Inputs(array, self.form)
        start = 0
        for values in (program or self._codes)(inputs, batch_size) if len(inputs) else ():
            for row in np.flatnonzero(~np.isfinite(values).all(axis=1))[:1]:
                what = "holds values that are not finite"
                if np.isfinite(inputs[start + row : start + row + 1]).all():
                    what = "gets a code that is not finite"
                raise UserError(f"row {start + row} {what}")
            yield values
            start += len(values)


class _Inputs:
    """Inputs of the form of a hash function, converted to its dtype in slices."""

    def __init__(self, array: Any, form: InputForm):
        is_image = form.kind == "images"
        takes = f"`array` must be {form.kind} [n, {', '.join(map(str, form.shape))}]"
        if not hasattr(array, "shape") or not hasattr(array, "dtype"):
            found = type(array).__name__
            raise UserError(f"{takes}, got {found}: preprocess makes an array of items")
        if tuple(array.shape[1:]) != form.shape or not array.shape:
            raise UserError(f"{takes}, got an array of shape {tuple(array.shape)}")
        fits = array.dtype == np.uint8 if is_image else jnp.issubdtype(array.dtype, jnp.floating)
        if not fits:
            raise UserError(f"{takes} of {'uint8' if is_image else 'floats'}, got {array.dtype}")
        self._array = np.asarray(array) if isinstance(array, jax.Array) else array
        self._dtype = form.dtype

    def __len__(self) -> int:
        return self._array.shape[0]

    def __getitem__(self, rows: slice) -> Shaped[np.ndarray, "m ..."]:
        with np.errstate(over="ignore"):  # what becomes infinite is refused
            return np.asarray(self._array[rows]).astype(self._dtype, copy=False)


def _is_batch(shape: tuple[int, ...], form: InputForm) -> bool:
    """Returns whether a shape is that of images [n, h, w, c], or [n, h, w] of the size that fits."""
    return len(shape) == 4 or (len(shape) == 3 and shape[1:] == form.shape[:2])


def _join(blocks: list[np.ndarray], shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.concatenate(blocks) if blocks else np.zeros((0, *shape), dtype)
