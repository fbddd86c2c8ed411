"""Opens a source by its name.

The name is ``digits``, ``folder:DIR`` for image files, ``tfds:NAME`` for any TFDS set of images of one
size, ``shards:DIR`` for images or vectors in shards, ``features:FILE.npz`` or ``features:FILE.npy`` for
feature vectors, ``counts:FILE.npz`` for word counts of documents, ``interactions:FILE.npz`` for users and
items, or ``modalities:NAME=DATASET,NAME=DATASET`` for items of several modalities.
"""

from pathlib import Path

from jaxhash.data.readers.counts import read_counts
from jaxhash.data.readers.digits import read_digits
from jaxhash.data.readers.features import read_features
from jaxhash.data.readers.folder import MAX_UNREADABLE, read_folder
from jaxhash.data.readers.images import ImageSize
from jaxhash.data.readers.interactions import read_interactions
from jaxhash.data.readers.modalities import EXPECTED, read_modalities
from jaxhash.data.readers.shards import read_shards
from jaxhash.data.readers.tfds import read_tfds
from jaxhash.data.sources import Source
from jaxhash.utils.errors import UserError


def load_source(
    name: str,
    data_dir: Path | None = None,
    image_size: ImageSize | None = None,
    max_unreadable: float = MAX_UNREADABLE,
    index_file: Path | None = None,
) -> Source:
    """Opens the source of a name.

    Where classes have names, each class has an item and each label has a name.

    Args:
        name: ``digits``, ``folder:DIR``, ``shards:DIR``, ``tfds:NAME``, ``features:FILE``, ``counts:FILE``,
            ``interactions:FILE``, or ``modalities:NAME=...,NAME=...`` of several of these.
        data_dir: folder of the TFDS sets, of the feature files, or of DIR; by default that of TFDS, or
            the working directory.
        image_size: height and width in pixels to which images of files or shards are decoded, or a
            `jaxhash.data.readers.images.Resize`; other sources have one size already.
        max_unreadable: largest share of unreadable images of a folder, which are left out; if above 0,
            one image may be unreadable in any case.
        index_file: for a folder too large for memory, the file that records which images were checked
            before; see `jaxhash.data.readers.image_files.write_index`.

    Raises:
        UserError: if the name, the folder or the file is unknown, the data set has no labels, a label
            is out of range, a class is empty, or too many images are unreadable.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise UserError(f"`data_dir={data_dir}`: there is no such folder")
    kind, _, rest = name.partition(":")
    if name == "digits":
        return read_digits()
    if kind == "tfds" and rest:
        return read_tfds(name, rest, data_dir)
    if kind == "features" and rest:
        return read_features(name, (data_dir or Path()) / rest)
    if kind == "counts" and rest:
        return read_counts(name, (data_dir or Path()) / rest)
    if kind == "interactions" and rest:
        return read_interactions(name, (data_dir or Path()) / rest)
    if kind == "modalities" and rest:
        return read_modalities(
            name, rest, lambda part: load_source(part, data_dir, image_size, max_unreadable)
        )
    if kind == "shards" and rest:
        return read_shards(name, (data_dir or Path()) / rest, image_size, max_unreadable)
    if kind == "folder" and rest:
        folder = (data_dir or Path()) / rest
        return read_folder(name, folder, image_size, max_unreadable, index_file=index_file)
    raise UserError(
        f"`dataset={name!r}`: expected 'digits', 'folder:DIR', 'shards:DIR', 'tfds:NAME', 'features:FILE.npz (or .npy)', "
        f"'counts:FILE.npz', 'interactions:FILE.npz' or {EXPECTED}"
    )
