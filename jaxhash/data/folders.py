"""Image folders: a subfolder for each class, and what to do about images that cannot be read."""

import contextlib
import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from rich.console import Console
from rich.progress import track

from jaxhash.data.sources import MEMORY_LIMIT, Index, Rows, Source
from jaxhash.errors import UserError, first_line
from jaxhash.machine import cores_used

#: Files that are taken for images.
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm")

#: Names of the parts of a set, where there is a level of them above the classes.
PARTS = {"train": "train", "val": "validation", "test": "test"}

#: Of many files the first are named.
_MOST_NAMED = 3


T = TypeVar("T")


class _File(NamedTuple):
    path: Path
    class_folder: Path
    part: str | None


class _Scan(NamedTuple):
    """What decoding every file has shown: who is readable, why the others are not, the pixels."""

    good: list[_File]
    left_out: list[str]
    inputs: Rows


def read_folder(
    name: str,
    folder: Path,
    image_size: int | None,
    most_bad: float,
    held: int | None = None,
) -> Source:
    """A source of the images below a folder, in DIR/CLASS/ or in DIR/PART/CLASS/.

    Classes are numbered in the order of their names. Images may lie deeper within a class; hidden
    files, those of other suffixes than `SUFFIXES`, and those of no class are not looked at. The
    parts are train, val and test; val counts as the test part of a set that has no test.

    Every image is decoded once. Those that cannot be are left out before anything is counted.

    Args:
        name: name of the source.
        folder: DIR.
        image_size: see `decode`; None where all images have one size.
        most_bad: share of the files that may be left out; above 0, one file may be in any case.
        held: a set of at most so many decoded bytes is held in memory, another is read when it is
            asked for; `MEMORY_LIMIT` by default.

    Raises:
        UserError: if there is no such folder, or no class in it; if a class has no image that can
            be read, too many files cannot, or the images have several sizes.
    """
    files = _find(name, folder)
    good, left_out, inputs = _scan(
        name, folder, files, image_size, MEMORY_LIMIT if held is None else held
    )
    _refuse_many(name, left_out, len(files), most_bad)
    readable = {file.class_folder for file in good}
    for file in files:
        if file.class_folder not in readable:
            raise UserError(
                f"--dataset {name}: class folder {file.class_folder}: none of its images can be read"
            )
    class_names = tuple(sorted({file.class_folder.name for file in good}))
    number = {class_name: label for label, class_name in enumerate(class_names)}
    parts = tuple(dict.fromkeys(file.part for file in good if file.part))
    return Source(
        name,
        inputs,
        np.array([number[file.class_folder.name] for file in good], np.int32),
        class_names,
        np.array([parts.index(file.part) for file in good], np.int8) if parts else None,
        left_out=tuple(left_out),
        parts=parts or None,
        item_names=[file.path.relative_to(folder).as_posix() for file in good],
    )


def _scan(
    name: str, folder: Path, files: Sequence[_File], image_size: int | None, limit: int
) -> _Scan:
    """Decode each file once; hold the images where they are few."""
    good, left_out, held, shape = [], [], None, ()
    with _decoders() as pool:
        decoded = pool.map(lambda file: _try_decode(file.path, image_size), files)
        decoded = _shown(decoded, name, len(files))
        for file, image in zip(files, decoded, strict=True):
            if isinstance(image, str):
                left_out.append(f"{file.path.relative_to(folder)}: {image}")
                continue
            if not good:
                shape = image.shape
                if len(files) * image.size <= limit:
                    held = np.empty((len(files), *shape), np.uint8)
            if image.shape != shape:
                raise UserError(
                    f"--dataset {name}: its images have several sizes, {good[0].path.name} "
                    f"{_size(shape)} and {file.path.name} {_size(image.shape)}; --image-size N "
                    "brings them to one"
                )
            if held is not None:
                held[len(good)] = image
            good.append(file)
    if held is not None:
        return _Scan(good, left_out, held[: len(good)])
    return _Scan(good, left_out, Files([file.path for file in good], image_size, shape))


def _shown(decoded: Iterator[T], name: str, total: int) -> Iterable[T]:
    """The same, with a bar where a person watches."""
    console = Console(stderr=True)
    return track(
        decoded,
        f"{name}: opening",
        total=total,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextlib.contextmanager
def _decoders() -> Iterator[ThreadPoolExecutor]:
    """Threads that decode, for which too large an image is an error and not a warning."""
    pool = ThreadPoolExecutor(cores_used())
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


class Files:
    """Images decoded when they are asked for, by as many threads as there are cores.

    Args:
        paths: a file for each image.
        image_size: see `decode`.
        shape: what each image had when the folder was opened.
    """

    def __init__(self, paths: Sequence[Path], image_size: int | None, shape: tuple[int, ...]):
        self._paths, self._size, self._shape = paths, image_size, shape
        self._pool = ThreadPoolExecutor(cores_used())

    def __reduce__(self):
        return Files, (self._paths, self._size, self._shape)

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
        image = _try_decode(path, self._size)
        if isinstance(image, str):
            raise UserError(f"{path}: it was readable when the folder was opened ({image})")
        if image.shape != self._shape:
            size = _size(self._shape)
            raise UserError(f"{path}: it was {size} when the folder was opened")
        return image


def decode(path: Path, image_size: int | None = None) -> UInt8[np.ndarray, "height width 3"]:
    """The RGB pixels of an image file; of an animation those of the first frame.

    Args:
        path: the file. What it says of its orientation is not looked at.
        image_size: the shorter side is brought to this (bilinear, antialiased), and the middle
            square is taken; None for the image as it is. A JPEG is decoded at a fraction of its
            resolution where that is still twice the size asked for.

    Raises:
        OSError: or other exceptions of Pillow, if it is not a whole image.
    """
    with Image.open(path) as image:
        if image_size is not None:
            image.draft(None, (2 * image_size, 2 * image_size))
        image = _rgb(image)
    if image_size is not None:
        side = min(image.size)
        left, top = ((length - side) / 2 for length in image.size)
        image = image.resize(
            (image_size, image_size),
            Image.Resampling.BILINEAR,
            box=(left, top, left + side, top + side),
        )
    return np.asarray(image)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # convert would cut above 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode}, whose range is not known")
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def _try_decode(path: Path, image_size: int | None) -> UInt8[np.ndarray, "height width 3"] | str:
    """The image, or why there is none."""
    try:
        if not path.stat().st_size:
            return "an empty file"
        return decode(path, image_size)
    except UnidentifiedImageError:
        return "not an image of a known format"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return f"more than {Image.MAX_IMAGE_PIXELS:,} pixels"
    except Exception as error:  # a broken file can raise anything, by format
        return first_line(error)


def _find(name: str, folder: Path) -> list[_File]:
    """All files that are taken for images, by part, class and path."""
    if not folder.is_dir():
        raise UserError(
            f"--dataset {name}: there is no folder {folder}; --data-dir names its place"
        )
    below = _subfolders(folder)
    in_parts = bool(below) and {path.name for path in below} <= set(PARTS)
    parts = {PARTS[part]: folder / part for part in PARTS if (folder / part).is_dir()}
    files = []
    for part, place in parts.items() if in_parts else [(None, folder)]:
        for class_folder in _subfolders(place):
            found = sorted(_images(class_folder))
            if not found:
                raise UserError(f"--dataset {name}: class folder {class_folder} holds no image")
            files += [_File(path, class_folder, part) for path in found]
    if not files:
        raise UserError(
            f"--dataset {name}: {folder} holds no class folders; images are looked for in "
            "CLASS/ or in train/CLASS/ and test/CLASS/"
        )
    return files


def _subfolders(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield Path(place, name)


def _refuse_many(name: str, left_out: Sequence[str], count: int, most_bad: float) -> None:
    """Raise if more files are left out than may be."""
    allowed = max(1, int(round(most_bad * count, 6))) if most_bad else 0
    if len(left_out) > allowed:
        more = len(left_out) - _MOST_NAMED
        named = "; ".join(left_out[:_MOST_NAMED]) + (f" and {more:,} more" if more > 0 else "")
        raise UserError(
            f"--dataset {name}: {len(left_out):,} of {count:,} images cannot be read, "
            f"{len(left_out) / count:.1%}, and at most {allowed:,} may: {named}"
        )


def _size(shape: Sequence[int]) -> str:
    """A shape in words, width first as everywhere but in arrays."""
    return f"{shape[1]} x {shape[0]}"
