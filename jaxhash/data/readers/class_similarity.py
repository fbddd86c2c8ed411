"""Reads how similar classes are: groups of classes, a tree of classes, or embeddings."""

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
    """Reads the similarity of the classes, or of the items, of a source.

    Args:
        name: ``classes``: classes are equal or not, with no graded similarity; ``coarse``: the coarse
            labels of the source; FILE.txt or FILE.json: a tree, see `jaxhash.similarity.read_hierarchy`,
            whose nodes are named by the ids of the classes, if all ids are there, or else by the names;
            FILE.npz: an array ``embeddings``, or else ``features``, with a row for each item of the
            source, or for each class.
        source: the data.
        data_dir: folder of the file; a relative path starts there.

    Returns:
        For a tree and for groups, the distances and the levels of the classes; for embeddings of classes,
        their distances; for embeddings of items, the embeddings of all items of the source.

    Raises:
        UserError: if the name is unknown, the file cannot be read, or the source does not fit.
    """
    if name == "classes":
        return ClassSimilarity()
    similarity = _read(name, source, data_dir)
    unlabeled = int((~has_label(source.labels)).sum()) if source.labels.ndim == 1 else 0
    if unlabeled and similarity.embeddings is None:
        raise UserError(
            f"`similarity={name}` compares items by their classes, and {unlabeled:,} of {source.name} "
            "have no label"
        )
    return similarity


def _read(name: str, source: Source, data_dir: Path | None) -> ClassSimilarity:
    if name == "coarse":
        return _from_coarse_labels(source)
    path = (data_dir or Path()) / name
    suffix = path.suffix.lower()
    if suffix not in (".txt", ".json", ".npz"):
        raise UserError(f"`similarity={name}`: expected {_EXPECTED}")
    if not path.is_file():
        raise UserError(f"`similarity={name}`: there is no file {path}")
    return _from_embeddings(path, source) if suffix == ".npz" else _from_tree(path, source)


def _from_coarse_labels(source: Source) -> ClassSimilarity:
    if source.coarse_labels is None:
        raise UserError(f"`similarity=coarse`: {source.name} has no coarse labels")
    try:
        levels = class_levels_from_items(np.stack([source.labels, source.coarse_labels]))
    except ValueError as error:
        raise UserError(f"`similarity=coarse`: {source.name}: {error}") from error
    return ClassSimilarity(1.0 - level_similarity(levels, levels), levels[1:])


def _from_tree(path: Path, source: Source) -> ClassSimilarity:
    ids = tuple(map(str, range(len(source.class_names))))
    try:
        try:
            tree = read_hierarchy(path, ids)
        except ValueError:
            tree = read_hierarchy(path, source.class_names)
    except (ValueError, OSError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise UserError(f"`similarity={path}`: {reason}") from error
    levels = class_levels(tree, merge_heights(tree).tolist())
    return ClassSimilarity(1.0 - tree_similarity(tree), levels.reshape(-1, len(ids)))


def _from_embeddings(path: Path, source: Source) -> ClassSimilarity:
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
        return ClassSimilarity(distances=_class_distances(embeddings))
    raise UserError(
        f"{path}: there are {len(embeddings):,} embeddings, for {items:,} items of {classes:,} classes"
    )


def _class_distances(
    embeddings: Float[np.ndarray, "classes dimensions"],
) -> Float[np.ndarray, "classes classes"]:
    distances = np.array(embedding_distance(embeddings))
    np.fill_diagonal(distances, 0.0)  # rounding may leave a small distance
    return distances
