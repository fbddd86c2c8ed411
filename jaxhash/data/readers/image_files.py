"""Makes image files the inputs of a source: decodes each once to check it, and indexes the results.

The images of a small set stay in memory. Those of a large one are decoded again on access, and the
results of the check are stored in an index by path, size and modification time, so that an unchanged
file is not checked again.
"""

import contextlib
import dataclasses
import hashlib
import json
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
from jaxtyping import UInt8
from PIL import Image

from jaxhash import __version__
from jaxhash.data.readers.images import ImageSize, Resize, guess_white_levels, try_read_image
from jaxhash.data.rows import Index, Rows, row_digest, row_numbers
from jaxhash.data.sources import Source
from jaxhash.utils.console import track_progress
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import whole_file
from jaxhash.utils.hardware import cores_used

#: File name of the index in its folder.
INDEX_NAME = "images.json"

#: Seconds after which an index that is being made is written.
SAVE_SECONDS = 60.0

#: Notes on images whose white level is a guess, by the kind of their values.
_DEEP_NOTES = {"integers": "grey of more than 8 bits", "floats": "grey in floats"}

#: Notes on images, by the remarks of `jaxhash.data.readers.images.Decoded`.
_REMARK_NOTES = {
    "frames": "of several frames or pages the first is taken",
    "transparent": "transparent pixels are shown over white",
}


class FileCheck(NamedTuple):
    """The result of decoding a file; the index stores it as a list.

    Attributes:
        shape: height, width and 3; None if the file cannot be read.
        reason: why the file cannot be read.
        remarks: as in `jaxhash.data.readers.images.Decoded`.
        deep: likewise.
        digest: `jaxhash.data.rows.row_digest` of the pixels, if they do not depend on the other files.
    """

    shape: Sequence[int] | None
    reason: str | None = None
    remarks: Sequence[str] = ()
    deep: Sequence[Any] | None = None
    digest: int | None = None


class ScanResult(NamedTuple):
    """The result of decoding every file, as JSON values.

    Attributes:
        readable: numbers of the readable files.
        left_out: name of each unreadable file, with the reason.
        shape: height, width and 3.
        white_levels: see `jaxhash.data.readers.images.guess_white_levels`.
        notes: sentences on what was guessed.
        in_memory: whether the images are few enough to be held in memory.
    """

    readable: list[int]
    left_out: list[str]
    shape: list[int]
    white_levels: dict[str, float]
    notes: list[str]
    in_memory: bool


class ImageFiles:
    """Images that are decoded on access, by one thread per core.

    Args:
        paths: file of each image.
        image_size: see `jaxhash.data.readers.images.read_image`.
        shape: height, width and 3 of each image, when the folder was opened.
        white_levels: see `jaxhash.data.readers.images.read_image`.
        checks: result of the check of each image, when the folder was opened.
        index: results of the check of each file, for `write_index`.

    Attributes:
        digests: `jaxhash.data.rows.row_digest` of each image; 0 if unknown.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        image_size: ImageSize | None,
        shape: Sequence[int],
        white_levels: Mapping[str, float] | None = None,
        checks: Sequence[FileCheck] = (),
        index: Mapping[str, Any] | None = None,
    ):
        self._paths, self._size, self._shape = paths, image_size, tuple(shape)
        self._white_levels, self.index = white_levels, index
        self.digests = np.array([each.digest or 0 for each in checks], np.uint64)
        self._pool = ThreadPoolExecutor(cores_used())

    def __reduce__(self) -> tuple[object, ...]:
        return ImageFiles, (self._paths, self._size, self._shape, self._white_levels)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, rows: Index) -> UInt8[np.ndarray, "*n height width 3"]:
        numbers = row_numbers(rows, len(self))
        images = np.empty((*numbers.shape, *self._shape), np.uint8)
        read = self._pool.map(self._read, numbers.reshape(-1).tolist())
        for image, pixels in zip(images.reshape(-1, *self._shape), read, strict=True):
            image[:] = pixels
        return images

    def _read(self, row: int) -> UInt8[np.ndarray, "height width 3"]:
        path = self._paths[row]
        image = try_read_image(path, self._size, self._white_levels)
        if isinstance(image, str):
            raise UserError(f"{path}: it was readable when the folder was opened ({image})")
        if image.pixels.shape != self._shape:
            raise UserError(f"{path}: it was {_in_pixels(self._shape)} when the folder was opened")
        return image.pixels


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """The image files of a source.

    Attributes:
        name: name of the source.
        folder: folder of the files.
        files: paths of the files within it.
        image_size: see `jaxhash.data.readers.images.read_image`.
    """

    name: str
    folder: Path
    files: Sequence[str]
    image_size: ImageSize | None

    def scan(
        self, memory_limit: int, index_file: Path | None = None
    ) -> tuple[ScanResult, Rows | None]:
        """Decodes each file, or looks up the result of an earlier check.

        Args:
            memory_limit: largest size in bytes, decoded, of a set that is held in memory.
            index_file: the index of an earlier scan; it may be missing.

        Returns:
            The result, and the readable images; None if there are none.

        Raises:
            UserError: if the images have several sizes, or the range of their values is unknown.
        """
        first, shape = self._first_image()
        if shape is None or len(self.files) * int(np.prod(shape)) > memory_limit:
            return self._scan_files(first, shape, index_file)
        held = np.empty((len(self.files), *shape), np.uint8)
        checked: list[FileCheck | None] = [None] * len(self.files)
        self._check(checked, first, shape, held)
        scan = self._sum_up(checked, shape, in_memory=True)
        # Decode again the images whose own values suggest another white level than those of all files.
        for number in scan.readable:
            deep = checked[number].deep
            if (
                deep
                and deep[0] in _DEEP_NOTES
                and guess_white_levels([deep])[deep[0]] != scan.white_levels[deep[0]]
            ):
                held[number] = self._open([number], scan)[0]
        return scan, held[scan.readable] if scan.left_out else held

    def write_index(self, index_file: Path) -> ScanResult:
        """Checks each file that an index does not hold yet, and writes the index, now and then as well.

        Raises:
            UserError: if the images have several sizes, or the range of their values is unknown.
        """
        scan, _ = self._scan_files(*self._first_image(), index_file, saves=True)
        return scan

    def read(self, scan: ScanResult) -> Rows:
        """Reads the images that the scan of another process found readable."""
        rows = self._open(scan.readable, scan)
        return rows[:] if scan.in_memory else rows

    def _scan_files(
        self,
        first: str | None,
        shape: Sequence[int] | None,
        index_file: Path | None,
        *,
        saves: bool = False,
    ) -> tuple[ScanResult, Rows | None]:
        """Does what `scan` does for images that are decoded on access; may write the index, too."""
        states = [_state(self.folder / file) for file in self.files]
        known = _read_index(index_file, self.image_size)
        checked: list[FileCheck | None] = [None] * len(self.files)
        for number, file in enumerate(self.files) if known else ():
            before = known.get(file)
            if before and before[0] == states[number]:
                checked[number] = FileCheck(*before[1])

        def make_index() -> dict[str, Any]:
            found = zip(self.files, states, checked, strict=True)
            entries = {file: (state, check) for file, state, check in found if check is not None}
            return {"of": _circumstances(self.image_size), "files": entries}

        if saves:
            self._check(checked, first, shape, save=lambda: _write(index_file, make_index()))
        else:
            self._check(checked, first, shape)
        scan = self._sum_up(checked, shape or (), in_memory=False)
        if shape is None:
            return scan, None
        index = make_index()
        return scan, self._open(
            scan.readable, scan, [checked[number] for number in scan.readable], index
        )

    def _open(self, numbers: Sequence[int], scan: ScanResult, *found: Any) -> ImageFiles:
        paths = [self.folder / self.files[number] for number in numbers]
        return ImageFiles(paths, self.image_size, scan.shape, scan.white_levels, *found)

    def _first_image(self) -> tuple[str | None, tuple[int, ...] | None]:
        """Returns the first readable file and its shape, which all others must have."""
        with _decoding_threads():
            for file in self.files:
                image = try_read_image(self.folder / file, self.image_size, {})
                if not isinstance(image, str):
                    return file, image.pixels.shape
        return None, None

    def _check(
        self,
        checked: list[FileCheck | None],
        first: str | None,
        shape: Sequence[int] | None,
        held: np.ndarray | None = None,
        save: Callable[[], None] | None = None,
    ) -> None:
        """Decodes the files without a result yet; stores the results in ``checked``, the pixels in ``held``.

        Saves what is checked so far every `SAVE_SECONDS`, and at the end.
        """

        def check(number: int) -> FileCheck:
            image = try_read_image(self.folder / self.files[number], self.image_size, {})
            if isinstance(image, str):
                return FileCheck(None, image)
            pixels, remarks, deep = image
            if held is not None and pixels.shape == shape:
                held[number] = pixels
            digest = row_digest(pixels) if held is None and deep is None else None
            return FileCheck(pixels.shape, None, remarks, deep, digest)

        def check_shape(file: str, found: FileCheck) -> None:
            if found.shape is not None and tuple(found.shape) != shape:
                raise UserError(
                    f"`dataset={self.name}`: its images have several sizes, {first} {_in_pixels(shape)} "
                    f"and {file} {_in_pixels(found.shape)}; `image_size=N` brings them to one"
                )

        unknown = [number for number, each in enumerate(checked) if each is None]
        with _decoding_threads() as pool:
            found = pool.map(check, unknown)
            found = track_progress(found, f"{self.name}: opening", len(unknown))
            saved = time.monotonic()
            for number, each in zip(unknown, found, strict=True):
                check_shape(self.files[number], each)
                checked[number] = each
                if save is not None and time.monotonic() - saved >= SAVE_SECONDS:
                    save()
                    saved = time.monotonic()
        if save is not None:
            save()
        for file, each in zip(self.files, checked, strict=True):
            check_shape(file, each)

    def _sum_up(
        self, checked: Sequence[FileCheck], shape: Sequence[int], *, in_memory: bool
    ) -> ScanResult:
        try:
            white_levels = guess_white_levels(each.deep for each in checked if each.deep)
        except ValueError as error:
            raise UserError(f"`dataset={self.name}`: {error}") from error
        reasons = zip(self.files, checked, strict=True)
        return ScanResult(
            [number for number, each in enumerate(checked) if each.shape is not None],
            [f"{file}: {each.reason}" for file, each in reasons if each.reason],
            list(shape),
            white_levels,
            list(_notes(checked, white_levels)),
            in_memory,
        )


def write_index(source: Source, folder: Path) -> None:
    """Writes the index of a source into a folder, if its images are decoded on access."""
    if isinstance(source.inputs, ImageFiles) and source.inputs.index is not None:
        _write(folder / INDEX_NAME, source.inputs.index)


def _write(path: Path, index: Mapping[str, Any]) -> None:
    content = json.dumps(index)
    with whole_file(path, "w") as file:
        file.write(f"{_digest(content)}\n{content}\n")


def _read_index(path: Path | None, image_size: ImageSize | None) -> dict[str, Any]:
    """Reads an index; returns an empty one if it is missing, damaged or of other circumstances."""
    if path is None or path.is_symlink() or not path.is_file():
        return {}
    digest, _, content = path.read_text(errors="replace").partition("\n")
    if digest != _digest(content.rstrip("\n")):
        return {}
    index = json.loads(content)
    return index["files"] if index["of"] == _circumstances(image_size) else {}


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def _circumstances(image_size: ImageSize | None) -> dict[str, Any]:
    """Returns what the result of a check depends on, apart from the file."""
    if isinstance(image_size, Resize):
        image_size = list(image_size)
    return {"image_size": image_size, "pillow": PIL.__version__, "jaxhash": __version__}


def _state(path: Path) -> list[int] | None:
    """Returns the size and the modification time of a file; None if it is a broken link."""
    try:
        state = path.stat()
    except OSError:
        return None
    return [state.st_size, state.st_mtime_ns]


@contextlib.contextmanager
def _decoding_threads() -> Iterator[ThreadPoolExecutor]:
    """Returns threads that decode, in which too large an image is an error and not a warning."""
    pool = ThreadPoolExecutor(cores_used())
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def _notes(checked: Sequence[FileCheck], white_levels: Mapping[str, float]) -> Iterator[str]:
    """Yields sentences on what was guessed, with the number of images."""
    remarks = Counter(remark for each in checked for remark in each.remarks)
    for remark, words in _REMARK_NOTES.items():
        if remarks[remark]:
            yield f"{_count_images(remarks[remark])}: {words}"
    for kind, white in white_levels.items():
        if kind not in _DEEP_NOTES:
            continue
        values = [each.deep[1] for each in checked if each.deep and each.deep[0] == kind]
        dark = [value for value in values if guess_white_levels([(kind, value)])[kind] < white]
        yield (
            f"{_count_images(len(values))}: {_DEEP_NOTES[kind]}, none above {max(values):,g}, of which {white:,g} is "
            f"taken for white"
            + (f"; {len(dark):,} hold none above {max(dark):,g}, and stay as dark" if dark else "")
        )


def _count_images(count: int) -> str:
    return f"{count:,} image" + "s" * (count > 1)


def _in_pixels(shape: Sequence[int]) -> str:
    """Formats a shape as width x height."""
    return f"{shape[1]} x {shape[0]}"
