"""The form of a model's inputs, stored with the model to prepare later inputs in the same way.

Vectors are scaled by one factor to a root mean square of 1. The factor is computed from the training
items and belongs to the model, so the same vector is the same input in any file. Word counts become
tf-idf rows first, whose weights come from the training items and belong to the model likewise.
"""

import dataclasses
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from jaxhash.data.readers.counts import CountRows
from jaxhash.data.readers.images import Resize
from jaxhash.data.rows import Index, Rows, blocks_of, large_parts, row_blocks
from jaxhash.data.word_weights import WordWeights
from jaxhash.utils.errors import UserError

#: Number of images that are measured, evenly spaced; of vectors, all training items are.
SAMPLE_SIZE = 256

#: Number of vectors that are measured where they are too large for all to be read.
VECTOR_SAMPLE = 2**16

#: Ratio of the sizes of the items of a part and the training items, or its inverse, above which a warning
#: is given.
MAX_SIZE_RATIO = 4.0

#: Largest value of images of bytes below which a warning is given: they may be meant for 0 to 255.
MIN_LARGEST_BYTE = 64

#: Fields of the preprocessing that files of older versions lack.
_LATER_FIELDS = {"crop": 1.0, "interpolation": "bilinear"}

#: Range of root mean squares that float32 can scale to 1.
_SCALABLE = (1e-37, 1e37)


@dataclasses.dataclass(frozen=True)
class InputForm:
    """The form of a model's inputs: prepares items for the model, and checks that they are of this form.

    The attributes are the keys of inputs.json.

    Attributes:
        kind: ``images``, ``vectors``, or ``ids``: integers that a model looks up.
        shape: shape of one item: height, width and channels, or dimensions.
        dtype: dtype before `prepare`.
        least: smallest value of the training items, or of a sample of `SAMPLE_SIZE` images, or of
            `VECTOR_SAMPLE` vectors of a large file.
        most: largest value, likewise.
        size: median over items of the root mean square of an item.
        scale: factor of vectors; None for all else.
        image_size: height and width in pixels to which images are resized; None leaves them.
        preprocessing: preprocessing of images by the backbone, the fields of
            `jaxhash.models.Preprocessing`; None for vectors.
        words: weights of word counts, which are vectors that become tf-idf rows before they are scaled;
            None for others.
    """

    kind: str
    shape: tuple[int, ...]
    dtype: str
    least: float
    most: float
    size: float
    scale: float | None = None
    image_size: int | None = None
    preprocessing: dict[str, Any] | None = None
    words: WordWeights | None = None

    @property
    def resize(self) -> Resize | None:
        """How image files are brought to ``image_size``; None leaves them."""
        return Resize.of(self.image_size, self.preprocessing)

    def example(self) -> Shaped[np.ndarray, "1 ..."]:
        """Returns an input of zeros."""
        return np.zeros((1, *self.shape), self.dtype)

    def prepare(self, inputs: Rows) -> Rows:
        """Returns the inputs as the model takes them."""
        return inputs if self.scale is None else _PreparedRows(inputs, self.transform)

    def transform(self, inputs: Shaped[np.ndarray | Array, "..."]) -> Any:
        """Returns a batch of inputs, of NumPy or JAX, as the model takes them."""
        if self.words is not None:
            inputs = self.words.apply(inputs)
        return inputs if self.scale is None else inputs * np.float32(self.scale)

    def check(self, inputs: Rows, where: Any, preprocessing: Mapping[str, Any]) -> None:
        """Raises a `UserError` unless inputs and preprocessing are of this form.

        Args:
            inputs: inputs before `prepare`.
            where: name of the inputs, for the message.
            preprocessing: preprocessing of images by the model.
        """
        found = _row_form(inputs[:1])
        expected = (self.kind, self.shape, self.dtype)
        if found != expected:
            raise UserError(
                f"{where}: the model takes {_describe(*expected)}, and these are {_describe(*found)}"
            )
        self.check_words(inputs, where)
        if self.kind == "images" and self.preprocessing != _as_json(preprocessing):
            raise UserError(
                f"{where}: the model was trained on images prepared by {self.preprocessing}, and "
                f"now it prepares them by {_as_json(preprocessing)}"
            )

    def check_words(self, inputs: Rows, where: Any) -> None:
        """Raises a `UserError` if inputs are word counts and the model takes none, or other words."""
        if not isinstance(inputs, CountRows):
            return
        if self.words is None:
            raise UserError(f"{where}: the model takes vectors, and these are word counts")
        self.words.check_vocabulary(inputs.vocabulary, where)

    def warnings(
        self, inputs: Rows, parts: Mapping[str, Int[np.ndarray, " items"]]
    ) -> Iterator[str]:
        """Yields sentences on unusual values.

        Args:
            inputs: inputs of this form, before `prepare`.
            parts: the items of each part, by name; a sample of them is measured.
        """
        if self.kind == "ids":  # they have no size
            return
        if self.least == self.most:
            yield f"all values of the training items are {self.least:g}: there is nothing to learn from"
        elif self.dtype == "uint8" and self.kind == "images" and self.most < MIN_LARGEST_BYTE:
            yield (
                f"the training images hold values from {self.least:g} to {self.most:g}, and bytes go to "
                "255: they may be of another range"
            )
        for name, items in parts.items():
            size = _measure(inputs, _sample(items)).size
            ratio = size / self.size if self.size else 1.0
            if not 1 / MAX_SIZE_RATIO <= ratio <= MAX_SIZE_RATIO:
                yield (
                    f"the {name} items are {ratio:.3g} times as large as the training items (medians of "
                    f"root mean squares, {size:.3g} and {self.size:.3g}): they may be of another range"
                )

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON values; without ``words`` where there are none."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        words = fields.pop("words")
        fields["shape"] = list(self.shape)
        return fields if words is None else fields | {"words": words.to_json()}

    @classmethod
    def from_json(cls, content: Any) -> "InputForm":
        """Makes an input form from the result of `to_json`.

        Raises:
            ValueError: if a field is missing, unknown or of another type.
        """
        names = [field.name for field in dataclasses.fields(cls) if field.name != "words"]
        if not isinstance(content, dict) or sorted(content.keys() - {"words"}) != sorted(names):
            raise ValueError(f"expected an object of {', '.join(names)}")
        kind, shape, dtype, *numbers, image_size, preprocessing = (content[name] for name in names)
        is_image, is_vector = kind == "images", kind == "vectors"
        if not is_vector and numbers.pop() is not None or not is_image and image_size is not None:
            raise ValueError("scale is for vectors, image_size for images")
        fits = (
            (kind, dtype) in (("images", "uint8"), ("vectors", "float32"), ("ids", "int32"))
            and all(type(number) in (int, float) and math.isfinite(number) for number in numbers)
            and isinstance(shape, list)
            and (kind == "ids" or len(shape) == (3 if is_image else 1))
            and all(type(length) is int and length > 0 for length in shape)
            and isinstance(image_size, int | None)
            and isinstance(preprocessing, dict | None)
        )
        if not fits:
            raise ValueError("its fields are of other types, or do not fit together")
        if preprocessing:
            preprocessing = _LATER_FIELDS | preprocessing
        words = content.get("words")
        words = None if words is None else WordWeights.from_json(words)
        if words is not None and (is_image or len(words.vocabulary) != shape[0]):
            raise ValueError("its word weights are not of its shape")
        read = {"shape": tuple(shape), "preprocessing": preprocessing, "words": words}
        return cls(**content | read)


def measure_inputs(
    inputs: Rows,
    train: Int[np.ndarray, " train"],
    *,
    image_size: int | None = None,
    preprocessing: dict[str, Any] | None = None,
) -> InputForm:
    """Measures the training items, for the form of the inputs of a model trained on them.

    Args:
        inputs: images or vectors as their source holds them.
        train: the training items.
        image_size: as in `InputForm`.
        preprocessing: likewise.

    Raises:
        UserError: if vectors are too large or too small to be scaled.

    Example:
        >>> vectors = np.array([[3.0, 4.0], [100.0, 0.0]], np.float32)
        >>> form = measure_inputs(vectors, np.array([0]))
        >>> round(form.scale, 4), form.prepare(vectors)[0]
        (0.2828, array([0.84852815, 1.1313709 ], dtype=float32))
    """
    kind, shape, dtype = _row_form(inputs[:1])
    if kind != "vectors":
        measured = _measure(inputs, _sample(train))
        form = InputForm(kind, shape, dtype, measured.least, measured.most, measured.size)
        if kind == "ids":
            return form
        prepared = preprocessing and _as_json(preprocessing)
        return dataclasses.replace(form, image_size=image_size, preprocessing=prepared)
    if large_parts(inputs):
        train = _sample(train, VECTOR_SAMPLE)
    measured, words = _measure(inputs, train), None
    found = (kind, shape, dtype, measured.least, measured.most, measured.size)
    mean = measured.mean
    if isinstance(inputs, CountRows):
        if not measured.most:
            raise UserError("none of the training documents has a word")
        words = inputs.weights(train)
        mean = _measure(_PreparedRows(inputs, words.apply), train).mean
    if mean and not _SCALABLE[0] < mean < _SCALABLE[1]:
        raise UserError(
            f"the training vectors have a root mean square of {mean:.3g}, which float32 cannot scale to 1"
        )
    return InputForm(*found, scale=float(np.float32(1.0 / (mean or 1.0))), words=words)


class _PreparedRows:
    """Inputs that are transformed on access."""

    def __init__(self, inputs: Rows, transform: Callable[[np.ndarray], np.ndarray]):
        self._inputs, self._transform, self.blocks = inputs, transform, blocks_of(inputs)

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, rows: Index) -> Float[np.ndarray, "..."]:
        return self._transform(self._inputs[rows])


@dataclasses.dataclass(frozen=True)
class _Measured:
    """Smallest and largest value, root mean square of all values, and median of that of each item."""

    least: float
    most: float
    mean: float
    size: float


def _measure(inputs: Rows, items: Int[np.ndarray, " items"]) -> _Measured:
    """Measures the values of some items, a block at a time."""
    row = inputs[items[:1]]
    least, most, squares = math.inf, -math.inf, []
    for block in row_blocks(len(items), 8 * row.size):
        rows = inputs[items[block]].reshape(block.stop - block.start, -1)
        least, most = min(least, float(rows.min())), max(most, float(rows.max()))
        squares.append(np.square(rows, dtype=np.float64).mean(axis=1))
    squares = np.concatenate(squares)
    return _Measured(
        least, most, float(np.sqrt(squares.mean())), float(np.median(np.sqrt(squares)))
    )


def _sample(items: Int[np.ndarray, " items"], most: int = SAMPLE_SIZE) -> Int[np.ndarray, " n"]:
    """Returns at most a number of the items, evenly spaced."""
    count = min(most, len(items))
    return items[np.arange(count) * len(items) // count]


def _row_form(row: Shaped[np.ndarray, "1 ..."]) -> tuple[str, tuple[int, ...], str]:
    kind = "images" if row.ndim == 4 else "vectors"
    return "ids" if row.dtype == np.int32 else kind, row.shape[1:], row.dtype.name


def _as_json(preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(dict(preprocessing)))


def _describe(kind: str, shape: tuple[int, ...], dtype: str) -> str:
    size = f"of {shape[0]} dimensions" if kind == "vectors" else " x ".join(map(str, shape))
    return f"{kind} {size} of {dtype}"
