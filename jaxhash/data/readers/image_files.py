"""Image files as inputs of a source: all are decoded once to be checked, and an index says so.

The images of a small set are held in memory from then on. Those of a large one are decoded again when
they are asked for, and what the check found is kept in an index, by path, size and time of change:
a file that is still as it was is not checked again.
"""

import contextlib
import dataclasses
import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL
from jaxtyping import Shaped, UInt8
from PIL import Image

from jaxhash import __version__
from jaxhash.data.readers.images import try_read, white_of
from jaxhash.data.rows import Index, Rows
from jaxhash.data.sources import Source
from jaxhash.utils.console import track_progress
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import whole_file
from jaxhash.utils.hardware import cores_used

#: Name of the index in a folder that it is kept in.
INDEX = "images.json"

#: What is said of images whose white is a guess, by the kind of their numbers.
_DEEP = {"integers": "grey of more than 8 bits", "floats": "grey in floats"}

#: What is said of images, by the remarks on them.
_REMARKS = {
    "frames": "of several frames or pages the first is taken",
    "transparent": "transparent pixels are shown over white",
}


class Checked(NamedTuple):
    """What was found in decoding a file; JSON holds it as a list.

    Attributes:
        shape: height, width, and 3; of what cannot be read None.
        reason: why it cannot be read.
        remarks: see `Decoded`.
        deep: likewise.
        digest: of the pixels, where they do not depend on the other files; see `digest_of`.
    """

    shape: Sequence[int] | None
    reason: str | None = None
    remarks: Sequence[str] = ()
    deep: Sequence[Any] | None = None
    digest: int | None = None


class Scan(NamedTuple):
    """What decoding every file has shown; JSON holds it.

    Attributes:
        good: numbers of the files that are images.
        left_out: of each other file its name and the reason.
        shape: height, width, and 3.
        whites: what is white, by the kind of numbers; see `jaxhash.data.readers.images.white_of`.
        notes: what was guessed, a sentence each.
        fits: whether the images are few enough to be held.
    """

    good: list[int]
    left_out: list[str]
    shape: list[int]
    whites: dict[str, float]
    notes: list[str]
    fits: bool


class Files:
    """Images decoded when they are asked for, by as many threads as there are cores.

    Args:
        paths: a file for each image.
        image_size: see `jaxhash.data.readers.images.read_image`.
        shape: what each image had when the folder was opened.
        whites: see `jaxhash.data.readers.images.read_image`.
        checked: what was found of each image when the folder was opened.
        index: what was found of each file, to be kept; see `keep_index`.

    Attributes:
        digests: of the pixels of each image, see `digest_of`; 0 where none is known.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        image_size: int | None,
        shape: Sequence[int],
        whites: Mapping[str, float] | None = None,
        checked: Sequence[Checked] = (),
        index: Mapping[str, Any] | None = None,
    ):
        self._paths, self._size, self._shape = paths, image_size, tuple(shape)
        self._whites, self.index = whites, index
        self.digests = np.array([each.digest or 0 for each in checked], np.uint64)
        self._pool = ThreadPoolExecutor(cores_used())

    def __reduce__(self):
        return Files, (self._paths, self._size, self._shape, self._whites)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, rows: Index) -> UInt8[np.ndarray, "*n height width 3"]:
        numbers = np.arange(len(self))[rows]
        images = np.empty((*numbers.shape, *self._shape), np.uint8)
        read = self._pool.map(self._read, numbers.reshape(-1).tolist())
        for image, pixels in zip(images.reshape(-1, *self._shape), read, strict=True):
            image[:] = pixels
        return images

    def _read(self, row: int) -> UInt8[np.ndarray, "height width 3"]:
        path = self._paths[row]
        image = try_read(path, self._size, self._whites)
        if isinstance(image, str):
            raise UserError(f"{path}: it was readable when the folder was opened ({image})")
        if image.pixels.shape != self._shape:
            raise UserError(f"{path}: it was {_size(self._shape)} when the folder was opened")
        return image.pixels


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """Files that are to be the images of a source.

    Attributes:
        name: name of the source.
        folder: what the files are in.
        files: their paths within it.
        image_size: see `jaxhash.data.readers.images.read_image`.
    """

    name: str
    folder: Path
    files: Sequence[str]
    image_size: int | None

    def scan(self, limit: int, index: Path | None = None) -> tuple[Scan, Rows | None]:
        """Decode each file, or look up what was found of it.

        Args:
            limit: of at most so many decoded bytes the images are held.
            index: file of what was found before, if it is there.

        Returns:
            What was found, and the good images; None where there are none.

        Raises:
            UserError: if the images have several sizes, or their range is not known.
        """
        first, shape = self._first_image()
        if shape is None or len(self.files) * int(np.prod(shape)) > limit:
            return self._scan_files(first, shape, index)
        held = np.empty((len(self.files), *shape), np.uint8)
        checked: list[Checked | None] = [None] * len(self.files)
        self._check(checked, first, shape, held)
        scan = self._sum_up(checked, shape, fits=True)
        for number in scan.good:  # files that by themselves were taken for brighter than they are
            deep = checked[number].deep
            if deep and deep[0] in _DEEP and white_of([deep])[deep[0]] != scan.whites[deep[0]]:
                held[number] = self._open([number], scan)[0]
        return scan, held[scan.good] if scan.left_out else held

    def read(self, scan: Scan) -> Rows:
        """The images that another process's scan has found good."""
        rows = self._open(scan.good, scan)
        return rows[:] if scan.fits else rows

    def _scan_files(
        self, first: str | None, shape: Sequence[int] | None, index: Path | None
    ) -> tuple[Scan, Rows | None]:
        """`scan` of images that are read when they are asked for."""
        states = [_state(self.folder / file) for file in self.files]
        known = _read_index(index, self.image_size)
        checked: list[Checked | None] = [None] * len(self.files)
        for number, file in enumerate(self.files) if known else ():
            before = known.get(file)
            if before and before[0] == states[number]:
                checked[number] = Checked(*before[1])
        self._check(checked, first, shape)
        scan = self._sum_up(checked, shape or (), fits=False)
        if shape is None:
            return scan, None
        entries = dict(zip(self.files, zip(states, checked, strict=True), strict=True))
        kept = {"of": _of(self.image_size), "files": entries}
        return scan, self._open(scan.good, scan, [checked[number] for number in scan.good], kept)

    def _open(self, numbers: Sequence[int], scan: Scan, *found: Any) -> Files:
        paths = [self.folder / self.files[number] for number in numbers]
        return Files(paths, self.image_size, scan.shape, scan.whites, *found)

    def _first_image(self) -> tuple[str | None, tuple[int, ...] | None]:
        """The first file that can be read, and the shape that it gives all."""
        with _threads():
            for file in self.files:
                image = try_read(self.folder / file, self.image_size, {})
                if not isinstance(image, str):
                    return file, image.pixels.shape
        return None, None

    def _check(
        self,
        checked: list[Checked | None],
        first: str | None,
        shape: Sequence[int] | None,
        held: np.ndarray | None = None,
    ) -> None:
        """Decode the files of which nothing is known yet, and keep what is found; or the pixels."""

        def check(number: int) -> Checked:
            image = try_read(self.folder / self.files[number], self.image_size, {})
            if isinstance(image, str):
                return Checked(None, image)
            pixels, remarks, deep = image
            if held is not None and pixels.shape == shape:
                held[number] = pixels
            digest = digest_of(pixels) if held is None and deep is None else None
            return Checked(pixels.shape, None, remarks, deep, digest)

        def refuse_other(file: str, found: Checked) -> None:
            if found.shape is not None and tuple(found.shape) != shape:
                raise UserError(
                    f"--dataset {self.name}: its images have several sizes, {first} {_size(shape)} "
                    f"and {file} {_size(found.shape)}; --image-size N brings them to one"
                )

        unknown = [number for number, each in enumerate(checked) if each is None]
        with _threads() as pool:
            found = pool.map(check, unknown)
            found = track_progress(found, f"{self.name}: opening", len(unknown))
            for number, each in zip(unknown, found, strict=True):
                refuse_other(self.files[number], each)
                checked[number] = each
        for file, each in zip(self.files, checked, strict=True):
            refuse_other(file, each)

    def _sum_up(self, checked: Sequence[Checked], shape: Sequence[int], *, fits: bool) -> Scan:
        try:
            whites = white_of(each.deep for each in checked if each.deep)
        except ValueError as error:
            raise UserError(f"--dataset {self.name}: {error}") from error
        reasons = zip(self.files, checked, strict=True)
        return Scan(
            [number for number, each in enumerate(checked) if each.shape is not None],
            [f"{file}: {each.reason}" for file, each in reasons if each.reason],
            list(shape),
            whites,
            list(_notes(checked, whites)),
            fits,
        )


def digest_of(values: Shaped[np.ndarray, "..."]) -> int:
    """A digest of 8 bytes: equal images, or vectors of one dtype, have an equal one.

    Example:
        >>> digest_of(np.zeros((1, 1, 3), np.uint8)) == digest_of(np.ones((1, 1, 3), np.uint8))
        False
    """
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(values), digest_size=8).digest())


def keep_index(source: Source, folder: Path) -> None:
    """Write what was found of the files of a source into a folder, where it reads them one by one."""
    if isinstance(source.inputs, Files) and source.inputs.index is not None:
        content = json.dumps(source.inputs.index)
        with whole_file(folder / INDEX, "w") as file:
            file.write(f"{_digest(content)}\n{content}\n")


def _read_index(path: Path | None, image_size: int | None) -> dict[str, Any]:
    """What is known of files; nothing where it is of other circumstances, or damaged."""
    if path is None or path.is_symlink() or not path.is_file():
        return {}
    digest, _, content = path.read_text(errors="replace").partition("\n")
    if digest != _digest(content.rstrip("\n")):
        return {}
    index = json.loads(content)
    return index["files"] if index["of"] == _of(image_size) else {}


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def _of(image_size: int | None) -> dict[str, Any]:
    """What the outcome of a check depends on, beside the file."""
    return {"image_size": image_size, "pillow": PIL.__version__, "jaxhash": __version__}


def _state(path: Path) -> list[int] | None:
    """Size and time of change of a file, by which a change is noticed."""
    try:
        state = path.stat()
    except OSError:  # a link to nowhere
        return None
    return [state.st_size, state.st_mtime_ns]


@contextlib.contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that decode, for which too large an image is an error and not a warning."""
    pool = ThreadPoolExecutor(cores_used())
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def _notes(checked: Sequence[Checked], whites: Mapping[str, float]) -> Iterator[str]:
    """What was guessed about the images, and of how many."""
    remarks = Counter(remark for each in checked for remark in each.remarks)
    for remark, words in _REMARKS.items():
        if remarks[remark]:
            yield f"{_images(remarks[remark])}: {words}"
    for kind, white in whites.items():
        if kind not in _DEEP:
            continue
        values = [each.deep[1] for each in checked if each.deep and each.deep[0] == kind]
        dark = [value for value in values if white_of([(kind, value)])[kind] < white]
        yield (
            f"{_images(len(values))}: {_DEEP[kind]}, none above {max(values):,g}, of which {white:,g} is "
            f"taken for white"
            + (f"; {len(dark):,} hold none above {max(dark):,g}, and stay as dark" if dark else "")
        )


def _images(count: int) -> str:
    return f"{count:,} image" + "s" * (count > 1)


def _size(shape: Sequence[int]) -> str:
    """A shape in words, width first as everywhere but in arrays."""
    return f"{shape[1]} x {shape[0]}"
