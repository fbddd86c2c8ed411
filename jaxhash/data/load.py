"""Opens a source by its name.

The name is ``digits``, ``folder:DIR`` for image files, ``tfds:NAME`` for any TFDS set of images of one
size, or ``features:FILE.npz`` for feature vectors.
"""

from pathlib import Path

from jaxhash.data.readers.digits import read_digits
from jaxhash.data.readers.features import read_features
from jaxhash.data.readers.folder import read_folder
from jaxhash.data.readers.tfds import read_tfds
from jaxhash.data.sources import Source
from jaxhash.utils.errors import UserError

#: Share of a folder's images that may be left out as unreadable.
MOST_BAD = 0.01


def load_source(
    name: str,
    data_dir: Path | None = None,
    image_size: int | None = None,
    most_bad: float = MOST_BAD,
    index: Path | None = None,
) -> Source:
    """Open the source of that name.

    Where classes have names, each has an item, and each label a name.

    Args:
        name: ``digits``, ``folder:DIR``, ``tfds:NAME`` or ``features:FILE``.
        data_dir: folder of the TFDS sets, the feature files, or what DIR is in; TFDS has a default of
            its own.
        image_size: height and width that a folder's images are decoded to; other sources have one
            size already.
        most_bad: share of a folder's images that may be unreadable. They are left out; above 0, one
            may be of however few images.
        index: of a folder too large for memory, the file that says which images were checked before.

    Raises:
        UserError: if the name, the folder or the file is unknown, the set has no labels, a label is
            outside their range, a class is empty, or too many images are unreadable.
    """
    if data_dir is not None and not data_dir.is_dir():
        raise UserError(f"--data-dir {data_dir}: there is no such folder")
    kind, _, rest = name.partition(":")
    if name == "digits":
        return read_digits()
    if kind == "tfds" and rest:
        return read_tfds(name, rest, data_dir)
    if kind == "features" and rest:
        return read_features(name, (data_dir or Path()) / rest)
    if kind == "folder" and rest:
        return read_folder(name, (data_dir or Path()) / rest, image_size, most_bad, index=index)
    raise UserError(
        f"--dataset {name!r}: expected 'digits', 'folder:DIR', 'tfds:NAME' or 'features:FILE.npz'"
    )
