"""Inputs that are image files, each decoded once, by one thread per core."""

import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from jaxtyping import Int

from jaxhash.data.input_form import InputForm
from jaxhash.data.inputs.base import Block, Inputs, Item
from jaxhash.data.inputs.prepare import prepare_image
from jaxhash.data.readers.images import try_read_image
from jaxhash.training.digests import file_digest
from jaxhash.utils.errors import UserError, first_line
from jaxhash.utils.hardware import cores_used

_NOT_UTF8 = "its name is not UTF-8"


class ImageFileInputs(Inputs):
    """Image files below a root.

    Args:
        name: name by which they were opened.
        root: the root.
        paths: path of each file below it.
        labels: label of each file; None if they have none.
        notes: sentences on what was guessed or passed over.
    """

    kind = "images"

    def __init__(
        self,
        name: str,
        root: Path,
        paths: Sequence[str],
        labels: Sequence[str | None] | None = None,
        notes: Sequence[str] = (),
    ):
        self.name, self.notes = name, tuple(notes)
        self._root, self._paths, self._labels = os.fspath(root), paths, labels

    def __len__(self) -> int:
        return len(self._paths)

    def items(self, rows: slice) -> list[Item]:
        """Returns the items of a range of rows; a missing file has size and time 0."""
        return [self._item(row) for row in range(len(self))[rows]]

    def read(self, rows: slice, form: InputForm) -> Block:
        """Reads a range of rows; see `Inputs.read`."""
        numbers = range(len(self))[rows]
        images, digests, readable, broken = [], [], [], {}
        read = image_threads().map(lambda row: self._read(row, form), numbers)
        for row, found in zip(numbers, read, strict=True):
            if isinstance(found, str):
                broken[row] = found
            else:
                readable.append(row)
                images.append(found[0])
                digests.append(found[1])
        inputs = np.stack(images) if images else np.empty((0, *form.shape), np.uint8)
        return Block(inputs, np.array(readable, np.int64), digests, broken)

    def take(self, rows: Int[np.ndarray, " n"]) -> "ImageFileInputs":
        """Returns some of the files, in this order."""
        numbers = rows.tolist()
        labels = self._labels and [self._labels[row] for row in numbers]
        return ImageFileInputs(
            self.name, Path(self._root), [self._paths[n] for n in numbers], labels
        )

    def check(self, form: InputForm) -> None:
        """Raises a `UserError` if the first readable image is not of the form."""
        if form.kind != "images":
            raise UserError(
                f"{self.name}: these are image files, and the hash function takes vectors of "
                f"{form.shape[0]} dimensions"
            )
        for row in range(len(self)):
            path = self._path(row)
            if not isinstance(try_read_image(path, None), str):
                prepare_image(path, form)
                return

    def _path(self, row: int) -> Path:
        return Path(self._root, self._paths[row])

    def _item(self, row: int) -> Item:
        path = self._paths[row]
        label = self._labels[row] if self._labels else None
        try:
            state = os.stat(os.path.join(self._root, path))
        except OSError:
            return Item(_in_utf8(path), 0, 0, label)
        return Item(_in_utf8(path), state.st_size, state.st_mtime_ns, label)

    def _read(self, row: int, form: InputForm) -> tuple[np.ndarray, str] | str:
        """Returns an image and the digest of its file; or why it cannot be read."""
        path = self._path(row)
        if _in_utf8(self._paths[row]) != self._paths[row]:
            return _NOT_UTF8
        try:
            image = prepare_image(path, form)
            _, digest = file_digest(path)
            return image, digest
        except UserError as error:
            return str(error.args[0]).removeprefix(f"{path}: ")
        except OSError as error:
            return first_line(error)


@functools.cache
def image_threads() -> ThreadPoolExecutor:
    """Returns the threads that decode images and make thumbnails, one per core, which all share."""
    return ThreadPoolExecutor(cores_used(), "image")


def _in_utf8(path: str) -> str:
    """Returns a path with ``/`` and with bytes that are no UTF-8 escaped."""
    if os.sep != "/":
        path = path.replace(os.sep, "/")
    try:
        path.encode()
        return path
    except UnicodeEncodeError:
        return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
