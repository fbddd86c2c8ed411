"""Opens inputs by their names."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxhash.data.input_form import InputForm
from jaxhash.data.inputs.arrays import from_source, open_array_file, open_count_file
from jaxhash.data.inputs.base import Inputs
from jaxhash.data.inputs.files import ImageFileInputs
from jaxhash.data.inputs.lists import read_file_list, read_label_list
from jaxhash.data.readers.digits import read_digits
from jaxhash.data.readers.folder import MAX_UNREADABLE
from jaxhash.data.readers.folder_layout import (
    list_counts,
    part_of_folder,
    skipped_notes,
    walk_images,
)
from jaxhash.data.readers.images import image_suffixes
from jaxhash.data.readers.shards import read_shards
from jaxhash.data.readers.tfds import read_tfds
from jaxhash.utils.errors import UserError

#: Suffixes of files of arrays.
ARRAY_SUFFIXES = (".npy", ".npz", ".parquet", ".pq")

#: Number of labels that a note lists.
_MAX_LISTED = 5

_ALLOWED = (
    "a folder, image files, a .txt list of files, .npy, .npz, .parquet, tfds:NAME, folder:DIR, "
    "shards:DIR, features:FILE, counts:FILE or digits"
)


class OpenedInputs(NamedTuple):
    """Inputs and the folder that the paths of their items are relative to; None of data sets alone."""

    root: Path | None
    inputs: list[Inputs]


class _Named(NamedTuple):
    """What a name stands for: files of one folder or list, a file of arrays, or a data set.

    Attributes:
        kind: ``folder``, ``image``, ``list``, ``array``, ``counts``, ``shards``, ``tfds`` or ``digits``.
        name: the name.
        path: absolute path, of counts maybe with a field; of a data set its name.
    """

    kind: str
    name: str
    path: str


def open_inputs(
    names: Sequence[str | Path],
    form: InputForm | None = None,
    *,
    root: Path | None = None,
    data_dir: Path | None = None,
    labels: str = "auto",
    column: str | None = None,
) -> OpenedInputs:
    """Opens inputs by their names.

    A name is a folder (of any nesting), an image file, a .txt list of image files, a .npy or .npz of
    images or vectors, a Parquet file with a column of vectors, or a data set: ``folder:DIR``, ``shards:DIR``,
    ``features:FILE``, ``counts:FILE``, ``tfds:NAME``, ``digits``. A file that is named twice is taken once.

    Args:
        names: the names.
        form: form of the inputs of a hash function, which they must have; None checks nothing.
        root: folder that the paths of items are relative to; by default the deepest one that holds all
            inputs.
        data_dir: what the names are relative to; folder of the TFDS sets.
        labels: labels of image files: ``auto`` is the first folder below a folder that was named, if
            every image lies in one; ``folder`` the same, and an error if not; ``none``; or the name of
            a file with a path and a label on each line. Arrays and data sets have their own.
        column: column of the vectors in Parquet files.

    Raises:
        UserError: if a name is unknown, a folder holds no images, an array cannot be read, something
            lies outside the root, or the inputs are not of the form.

    Example:
        >>> [digits] = open_inputs(["digits"]).inputs
        >>> len(digits), digits.kind, digits.items(slice(0, 2))
        (1797, 'images', [Item(path='digits#0', size=64, mtime_ns=0, label='0'),
                          Item(path='digits#1', size=64, mtime_ns=0, label='1')])
    """
    if not names:
        raise UserError(f"name what to encode: {_ALLOWED}")
    named = [_find(str(name), data_dir) for name in names]
    root = _find_root(named, root)
    repeated = Counter(each for each in named if each.kind != "image")
    opened: list[Inputs] = []
    seen: set[str] = set()
    for each, group in _groups(dict.fromkeys(named)):
        if each.kind in ("folder", "list", "image"):
            opened.append(_open_files(each, group, root, labels, seen, data_dir))
        elif each.kind == "array":
            source = _below(root, each.path, each.name)
            opened.append(open_array_file(each.name, Path(each.path), source, column))
        elif each.kind == "counts":
            source = _below(root, each.path, each.name)
            opened.append(open_count_file(each.name, Path(each.path), source))
        elif each.kind == "digits":
            opened.append(from_source(read_digits()))
        elif each.kind == "shards":
            resize = None if form is None else form.resize
            opened.append(
                from_source(read_shards(each.name, Path(each.path), resize, MAX_UNREADABLE))
            )
        else:
            opened.append(from_source(read_tfds(each.name, each.path, data_dir)))
        if repeated[each] > 1:
            opened[-1].notes += (f"{each.name} is named {repeated[each]} times, and taken once",)
    if form is not None:
        for inputs in opened:
            inputs.check(form)
    return OpenedInputs(root, opened)


def _find(name: str, data_dir: Path | None) -> _Named:
    """Returns what a name stands for."""
    prefix, _, rest = name.partition(":")
    if prefix == "tfds" and rest:
        return _Named("tfds", name, rest)
    if name == "digits":
        return _Named("digits", name, name)
    place = rest if prefix in ("folder", "features") and rest else name
    path = os.path.abspath(os.path.join(data_dir or "", place))
    if prefix == "counts" and rest:
        return _Named("counts", name, os.path.abspath(os.path.join(data_dir or "", rest)))
    if prefix == "shards" and rest:
        return _Named("shards", name, os.path.abspath(os.path.join(data_dir or "", rest)))
    suffix = os.path.splitext(path)[1].lower()
    if os.path.isdir(path):
        return _Named("folder", name, path)
    if prefix == "folder" or not os.path.lexists(path):
        raise UserError(f"{name}: there is no such {'folder' if prefix == 'folder' else 'input'}")
    kinds = {**dict.fromkeys(ARRAY_SUFFIXES, "array"), ".txt": "list"}
    if kind := kinds.get(suffix, "image" if suffix in image_suffixes() else None):
        return _Named(kind, name, path)
    raise UserError(f"{name}: no input by its suffix; expected {_ALLOWED}")


def _find_root(named: Iterable[_Named], root: Path | None) -> Path | None:
    """Returns the folder that paths are relative to; None if nothing has a path."""
    if root is not None:
        if not root.is_dir():
            raise UserError(f"`root={root}`: there is no such folder")
        return Path(os.path.abspath(root))
    places = [
        each.path if each.kind == "folder" else os.path.dirname(each.path)
        for each in named
        if each.kind not in ("shards", "tfds", "digits")
    ]
    return Path(os.path.commonpath(places)) if places else None


def _below(root: Path | None, path: str, name: str) -> str:
    """Returns a path relative to the root, with ``/``; raises if it lies elsewhere."""
    for base, place in ((str(root), path), (os.path.realpath(root), os.path.realpath(path))):
        relative = os.path.relpath(place, base)
        if relative != os.pardir and not relative.startswith(os.pardir + os.sep):
            return relative.replace(os.sep, "/")
    raise UserError(
        f"{name} lies outside the root {root}, which the paths of items are relative to"
    )


def _groups(named: Iterable[_Named]) -> list[tuple[_Named, list[_Named]]]:
    """Returns the inputs to be opened; image files that are named are one of them."""
    groups: dict[object, list[_Named]] = defaultdict(list)
    for each in named:
        groups["images" if each.kind == "image" else each].append(each)
    return [(group[0], group) for group in groups.values()]


def _open_files(
    each: _Named,
    group: Sequence[_Named],
    root: Path,
    labels: str,
    seen: set[str],
    data_dir: Path | None,
) -> ImageFileInputs:
    """Opens the image files of a folder or a list, or those that were named; notes what was seen before."""
    notes, own_labels = [], None
    name = each.name
    if each.kind == "folder":
        skipped: dict[str, Counter[str]] = defaultdict(Counter)
        files = sorted(walk_images(Path(each.path), skipped), key=lambda file: file.split(os.sep))
        notes += [f"{name}: {note}" for note in skipped_notes(skipped)]
        if not files:
            other = skipped["of no suffix of an image"]
            held = f"; of what is passed over: {list_counts(other)}" if other else ""
            raise UserError(f"{name}: the folder holds no image{held}")
        below = _below(root, each.path, name)
        if labels in ("auto", "folder"):
            own_labels, note = _folder_labels(name, files, required=labels == "folder")
            notes += note
        paths = [file.replace(os.sep, "/") for file in files]
        if below != ".":
            paths = [f"{below}/{path}" for path in paths]
    elif each.kind == "list":
        folder = os.path.abspath(data_dir) if data_dir else os.path.dirname(each.path)
        listed, own_labels = read_file_list(Path(each.path), Path(folder))
        notes.append(f"{name}: paths are taken from {folder}")
        if own_labels is not None:
            notes.append(f"{name}: what follows a path is its labels")
            own_labels = None if labels == "none" else own_labels
        paths = [_below(root, os.path.normpath(path), path) for path in listed]
    else:
        paths = [_below(root, one.path, one.name) for one in group]
        name = name if len(group) == 1 else f"{name} and {len(group) - 1:,} more files"
    new = [row for row, path in enumerate(paths) if path not in seen and not seen.add(path)]
    if len(new) < len(paths):
        notes.append(f"{name}: {len(paths) - len(new):,} files are named twice, and taken once")
        paths = [paths[row] for row in new]
        own_labels = own_labels and [own_labels[row] for row in new]
    if labels not in ("auto", "folder", "none"):
        own_labels, note = _listed_labels(name, Path(labels), paths)
        notes.append(note)
    return ImageFileInputs(name, root, paths, own_labels, notes)


def _folder_labels(
    name: str, files: Sequence[str], *, required: bool
) -> tuple[list[str | None] | None, list[str]]:
    """Returns the first folder of each file, or the second where the first ones are parts; and a note."""
    folders = [file.split(os.sep)[:-1] for file in files]
    depth = 0
    if all(folders) and all(part_of_folder(first) for first in {each[0] for each in folders}):
        depth = 1 if all(len(each) > 1 for each in folders) else 0
    if not all(folders):
        if required:
            lone = next(file for file, each in zip(files, folders, strict=True) if not each)
            raise UserError(f"{name}: `labels=folder`, and {lone} lies in no folder below it")
        return None, [f"{name}: labels: none, as images lie beside its folders or it has none"]
    found = [each[depth] for each in folders]
    classes = sorted(set(found))
    some = ", ".join(classes[:_MAX_LISTED]) + ", ..." * (len(classes) > _MAX_LISTED)
    parts = " below its parts" * depth
    return list(found), [
        f"{name}: labels: the names of the {len(classes):,} folders{parts} ({some})"
    ]


def _listed_labels(name: str, file: Path, paths: Sequence[str]) -> tuple[list[str | None], str]:
    """Returns the label that a file gives to each path, and a note."""
    listed = read_label_list(file)
    found = [listed.get(os.path.normpath(path)) for path in paths]
    known = sum(label is not None for label in found)
    if not known:
        raise UserError(
            f"`labels={file}` names none of the images of {name}; its first path is "
            f"{next(iter(listed))!r}, and the first image is {paths[0]!r}"
        )
    return found, f"{name}: labels: {known:,} of {len(paths):,} images have one in {file}"
