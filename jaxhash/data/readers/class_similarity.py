"""What a run knows of the meaning of its labels: groups of classes, a tree of them, or embeddings."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from jaxhash.data.readers.arrays import read_npz
from jaxhash.data.sources import Source
from jaxhash.objectives import ClassSimilarity
from jaxhash.similarity import (
    class_levels,
    class_levels_from_items,
    embedding_distance,
    has_label,
    level_similarity,
    merge_heights,
    read_hierarchy,
    tree_similarity,
)
from jaxhash.utils.errors import UserError

_EXPECTED = "'classes', 'coarse', a tree FILE.txt or FILE.json, or embeddings FILE.npz"


def read_class_similarity(
    name: str, source: Source, data_dir: Path | None = None
) -> ClassSimilarity:
    """What that name says of the classes, or of the images, of a source.

    Args:
        name: ``classes``: they are equal or not, and nothing is known; ``coarse``: the coarse labels
            of the source; FILE.txt or FILE.json: a tree, see `jaxhash.similarity.read_hierarchy`,
            whose nodes are called as the classes or, if all are there, by their ids; FILE.npz: an
            array ``embeddings``, or ``features`` where there is none, with a row for each item of
            the source, or for each class.
        source: the data.
        data_dir: folder of the file, where its path is not absolute.

    Returns:
        Of a tree and of groups the distances and the levels of the classes; of embeddings of
        classes their distances; those of items as they are, for all items of the source.

    Raises:
        UserError: in one line, if the name, the file or the source does not allow it.
    """
    if name == "classes":
        return ClassSimilarity()
    known = _read(name, source, data_dir)
    unlabelled = int((~has_label(source.labels)).sum()) if source.labels.ndim == 1 else 0
    if unlabelled and known.embeddings is None:
        raise UserError(
            f"--similarity {name} compares items by their classes, and {unlabelled:,} of {source.name} "
            "have no label"
        )
    return known


def _read(name: str, source: Source, data_dir: Path | None) -> ClassSimilarity:
    if name == "coarse":
        return _of_groups(source)
    path = (data_dir or Path()) / name
    suffix = path.suffix.lower()
    if suffix not in (".txt", ".json", ".npz"):
        raise UserError(f"--similarity {name}: expected {_EXPECTED}")
    if not path.is_file():
        raise UserError(f"--similarity {name}: there is no file {path}")
    return _of_embeddings(path, source) if suffix == ".npz" else _of_tree(path, source)


def _of_groups(source: Source) -> ClassSimilarity:
    if source.coarse_labels is None:
        raise UserError(f"--similarity coarse: {source.name} has no coarse labels")
    try:
        levels = class_levels_from_items(np.stack([source.labels, source.coarse_labels]))
    except ValueError as error:
        raise UserError(f"--similarity coarse: {source.name}: {error}") from error
    return ClassSimilarity(1.0 - level_similarity(levels, levels), levels[1:])


def _of_tree(path: Path, source: Source) -> ClassSimilarity:
    ids = tuple(map(str, range(len(source.class_names))))
    try:
        try:
            tree = read_hierarchy(path, ids)
        except ValueError:
            tree = read_hierarchy(path, source.class_names)
    except (ValueError, OSError) as error:
        raise UserError(f"--similarity {error}") from error
    levels = class_levels(tree, merge_heights(tree).tolist())
    return ClassSimilarity(1.0 - tree_similarity(tree), levels.reshape(-1, len(ids)))


def _of_embeddings(path: Path, source: Source) -> ClassSimilarity:
    arrays = read_npz(path, optional=("embeddings", "features"))
    if not arrays:
        raise UserError(f"{path}: no array 'embeddings', nor 'features'")
    found = next(iter(arrays.values()))
    if found.ndim != 2 or found.dtype.kind != "f" or not found.size:
        raise UserError(
            f"{path}: embeddings must be floats [items or classes, dimensions], got shape "
            f"{found.shape} of {found.dtype}"
        )
    with np.errstate(over="ignore"):
        embeddings = found.astype(np.float32)
    if not np.isfinite(embeddings).all():
        raise UserError(f"{path}: embeddings hold values that are not finite in float32")
    items, classes = len(source.labels), len(source.class_names)
    if len(embeddings) == items:
        return ClassSimilarity(embeddings=embeddings)
    if len(embeddings) == classes:
        return ClassSimilarity(distances=_between_classes(embeddings))
    raise UserError(
        f"{path}: there are {len(embeddings):,} embeddings, for {items:,} items of {classes:,} classes"
    )


def _between_classes(
    embeddings: Float[np.ndarray, "classes dimensions"],
) -> Float[np.ndarray, "classes classes"]:
    distances = np.array(embedding_distance(embeddings))
    np.fill_diagonal(distances, 0.0)  # a class is its own, whatever the rounding
    return distances
