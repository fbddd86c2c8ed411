"""What a model's inputs are: kept with it, so that whatever it encodes later is made into the same.

Vectors are scaled by one factor to a root mean square of 1. The factor is that of the training items,
and belongs to the model: the same vector is the same input whatever file it stands in.
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxhash.data.rows import Index, Rows, row_blocks
from jaxhash.training.distributed import broadcast_from_host0, is_main_process
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import read_json, write_json

#: Of images so many are looked at, evenly spaced; of vectors all that a model learns from.
SAMPLE = 256

#: Items of a part that are so many times larger, or smaller, than the training items are told.
ODD_RATIO = 4.0

#: Images of bytes whose largest value is below this are told: they may be meant for 0 to 255.
ODD_MOST = 64

#: Name of the digest of the data in inputs.json, see `jaxhash.data.checks.training_data.Findings`.
_DATA = "data_sha256"

#: What to do where the file of a run's inputs is damaged.
_REMEDY = "put a sound copy back, or train anew into another --run-dir"

#: Root mean squares that float32 can scale to 1.
_SCALABLE = (1e-37, 1e37)


@dataclasses.dataclass(frozen=True)
class InputForm:
    """All that is needed to prepare an item for a model, and to see that it is of the same kind.

    Attributes:
        kind: ``images`` or ``vectors``.
        shape: of one item: height, width, channels, or dimensions.
        dtype: of the values before `prepare`.
        least: smallest value of the training items, or of a sample of `SAMPLE` images of them.
        most: the largest.
        size: median of their root mean squares, an item each.
        scale: factor that vectors are multiplied by; None for images.
        image_size: height and width that images are brought to; None leaves them.
        preprocessing: of images what the backbone does to the bytes, the fields of
            `jaxhash.models.Preprocessing`; None for vectors.
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

    def prepare(self, inputs: Rows) -> Rows:
        """The inputs as the model takes them."""
        return inputs if self.scale is None else _Scaled(inputs, self.scale)

    def check(self, inputs: Rows, where: Any, preprocessing: Mapping[str, Any]) -> None:
        """Raise a `UserError` unless the model's inputs are such ones, prepared in this way.

        Args:
            inputs: inputs, not prepared.
            where: whose they are, for the message.
            preprocessing: what the model does to images.
        """
        other = _kind(inputs[:1])
        mine = (self.kind, self.shape, self.dtype)
        if other != mine:
            raise UserError(
                f"{where}: the model takes {_words(*mine)}, and these are {_words(*other)}"
            )
        if self.kind == "images" and self.preprocessing != _as_json(preprocessing):
            raise UserError(
                f"{where}: the model was trained on images prepared by {self.preprocessing}, and "
                f"now it prepares them by {_as_json(preprocessing)}"
            )

    def remarks(
        self, inputs: Rows, parts: Mapping[str, Int[np.ndarray, " items"]]
    ) -> Iterator[str]:
        """What is odd about the values, a sentence each.

        Args:
            inputs: inputs of this form, not prepared.
            parts: by the name of a part its items, of which a sample is looked at.
        """
        if self.least == self.most:
            yield f"all values of the training items are {self.least:g}: there is nothing to learn from"
        elif self.dtype == "uint8" and self.kind == "images" and self.most < ODD_MOST:
            yield (
                f"the training images hold values from {self.least:g} to {self.most:g}, and bytes go to "
                "255: they may be of another range"
            )
        for name, items in parts.items():
            size = _measure(inputs, _sample(items)).size
            ratio = size / self.size if self.size else 1.0
            if not 1 / ODD_RATIO <= ratio <= ODD_RATIO:
                yield (
                    f"the {name} items are {ratio:.3g} times as large as the training items (medians of "
                    f"root mean squares, {size:.3g} and {self.size:.3g}): they may be of another range"
                )

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return dataclasses.asdict(self) | {"shape": list(self.shape)}

    @classmethod
    def from_json(cls, content: Any) -> "InputForm":
        """Undo `to_json`.

        Raises:
            ValueError: if a field is missing, unknown or of another type.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(content, dict) or sorted(content) != sorted(names):
            raise ValueError(f"expected an object of {', '.join(names)}")
        kind, shape, dtype, *numbers, image_size, preprocessing = (content[name] for name in names)
        is_image = kind == "images"
        if is_image and numbers.pop() is not None or not is_image and image_size is not None:
            raise ValueError("scale is for vectors, image_size for images")
        fits = (
            (kind, dtype) in (("images", "uint8"), ("vectors", "float32"))
            and all(type(number) in (int, float) and math.isfinite(number) for number in numbers)
            and isinstance(shape, list)
            and len(shape) == (3 if is_image else 1)
            and all(type(length) is int and length > 0 for length in shape)
            and isinstance(image_size, int | None)
            and isinstance(preprocessing, dict | None)
        )
        if not fits:
            raise ValueError("its fields are of other types, or do not fit together")
        return cls(**content | {"shape": tuple(shape)})


def measure_inputs(
    inputs: Rows,
    train: Int[np.ndarray, " train"],
    *,
    image_size: int | None = None,
    preprocessing: dict[str, Any] | None = None,
) -> InputForm:
    """The form of the inputs of a model that learns from these items.

    Args:
        inputs: images or vectors as their source has them.
        train: the training items.
        image_size: as `InputForm` has it.
        preprocessing: likewise.

    Raises:
        UserError: if vectors are too large or too small to be scaled.

    Example:
        >>> vectors = np.array([[3.0, 4.0], [100.0, 0.0]], np.float32)
        >>> form = measure_inputs(vectors, np.array([0]))
        >>> round(form.scale, 4), form.prepare(vectors)[0]
        (0.2828, array([0.84852815, 1.1313709 ], dtype=float32))
    """
    kind, shape, dtype = _kind(inputs[:1])
    if kind == "images":
        found = _measure(inputs, _sample(train))
        return InputForm(
            *(kind, shape, dtype, found.least, found.most, found.size),
            image_size=image_size,
            preprocessing=preprocessing and _as_json(preprocessing),
        )
    found = _measure(inputs, train)
    if found.mean and not _SCALABLE[0] < found.mean < _SCALABLE[1]:
        raise UserError(
            f"the training vectors have a root mean square of {found.mean:.3g}, which float32 cannot "
            "scale to 1"
        )
    scale = float(np.float32(1.0 / (found.mean or 1.0)))
    return InputForm(kind, shape, dtype, found.least, found.most, found.size, scale)


def stored_form(folder: Path, dataset: str) -> InputForm | None:
    """What the inputs of the model in a run's folder are; None where none has been trained yet.

    Args:
        folder: folder of the run.
        dataset: name of its data.

    Raises:
        UserError: in all processes, if that is damaged, or is missing and cannot be told without it.
    """
    path = folder / "inputs.json"

    def read() -> dict[str, Any] | None:
        if path.is_file():
            content = read_json(path, _REMEDY)
            try:
                if isinstance(content, dict):
                    content.pop(_DATA, None)
                return InputForm.from_json(content).to_json()
            except ValueError as error:
                raise UserError(
                    f"{path} does not say what the inputs of a run are: {error}; {_REMEDY}"
                ) from error
        if dataset.startswith("features:") and any((folder / "checkpoints").glob("*")):
            raise UserError(
                f"{folder} has no inputs.json: a version of jaxhash that kept the scale of its vectors "
                "nowhere has made it; train anew (codes.npz can still be evaluated)"
            )
        return None

    stored = broadcast_from_host0(read)
    return stored and InputForm.from_json(stored)


def has_learned_from(folder: Path, data_sha256: str) -> bool:
    """Whether the model in a run's folder has learned from such data, as far as is known.

    Args:
        folder: folder of the run.
        data_sha256: digest of the data, see `jaxhash.data.checks.training_data.Findings`.
    """

    def same() -> bool:
        path = folder / "inputs.json"
        stored = read_json(path, _REMEDY) if path.is_file() else {}
        return stored.get(_DATA, data_sha256) == data_sha256

    return broadcast_from_host0(same)


def keep_form(folder: Path, form: InputForm, data_sha256: str) -> None:
    """Write what the inputs of the model in a run's folder are, and what data it learns from, once.

    Raises:
        UserError: in all processes, if it has begun to learn from other data.
    """
    path = folder / "inputs.json"

    if not has_learned_from(folder, data_sha256):
        raise UserError(
            f"{folder} is a training that began with other data: items, labels or the split have "
            "changed since; bring them back, or remove the folder to begin anew"
        )
    if is_main_process() and not path.exists():
        write_json(path, form.to_json() | {_DATA: data_sha256})


class _Scaled:
    """Vectors multiplied by a factor when they are read."""

    def __init__(self, inputs: Rows, factor: float):
        self._inputs, self._factor = inputs, np.float32(factor)

    def __len__(self) -> int:
        return len(self._inputs)

    def __getitem__(self, rows: Index) -> Float[np.ndarray, "..."]:
        return self._inputs[rows] * self._factor


@dataclasses.dataclass(frozen=True)
class _Measured:
    """Least and greatest value, root mean square of all, and the median of those of single items."""

    least: float
    most: float
    mean: float
    size: float


def _measure(inputs: Rows, items: Int[np.ndarray, " items"]) -> _Measured:
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


def _sample(items: Int[np.ndarray, " items"]) -> Int[np.ndarray, " n"]:
    """At most `SAMPLE` of the items, evenly spaced."""
    count = min(SAMPLE, len(items))
    return items[np.arange(count) * len(items) // count]


def _kind(row: Shaped[np.ndarray, "1 ..."]) -> tuple[str, tuple[int, ...], str]:
    return "images" if row.ndim == 4 else "vectors", row.shape[1:], row.dtype.name


def _as_json(preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(dict(preprocessing)))


def _words(kind: str, shape: tuple[int, ...], dtype: str) -> str:
    size = " x ".join(map(str, shape)) if kind == "images" else f"of {shape[0]} dimensions"
    return f"{kind} {size} of {dtype}"
