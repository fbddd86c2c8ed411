"""``jaxhash data captions``: embeddings of captions, in one file, to hash or to learn from.

``jaxhash train --dataset features:FILE.npz`` hashes the captions themselves; with ``--similarity
FILE.npz`` they say what images mean to each other.
"""

import json
from collections import Counter
from pathlib import Path

import numpy as np
from jaxtyping import Float
from rich.console import Console

from jaxhash.data.readers.arrays import read_npy
from jaxhash.retrieval.vectors import normalize_rows
from jaxhash.utils.console import print_line
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import check_output, whole_file
from jaxhash.utils.hardware import versions


def write_captions(
    captions: Path,
    output: Path,
    console: Console,
    *,
    embeddings: Path | None = None,
    dimensions: int = 256,
    pool: bool = False,
    command: str = "",
) -> None:
    """Write ``features``, ``labels``, ``class_names``, ``item_names`` and ``provenance``.

    Features are the embeddings at length 1, labels the numbers of the images, and class names theirs;
    an item is named by its image and its number among the captions of that, as in a.jpg#0. That is all
    that `jaxhash.data.load.load_source` reads as ``features:FILE.npz``.

    Args:
        captions: text file, a caption a line: the name of its image, a tab, the caption.
        output: file .npz to write.
        console: where to print.
        embeddings: file .npy of floats [captions, dimensions]; TF-IDF if not given.
        dimensions: length of an embedding by TF-IDF.
        pool: whether to write a row for each image, the mean of its captions.
        command: the command line, to be stored.

    Raises:
        UserError: if an argument is not allowed, or the captions do not fit.
    """
    if dimensions < 1:
        raise UserError(f"`dimensions` must be at least 1, got {dimensions}")
    check_output(output, ".npz", new=True)
    names, texts = read_captions(captions)
    if embeddings is None:
        features = tfidf_embeddings(texts, dimensions)
        encoder, explained = f"TF-IDF, {features.shape[1]} singular vectors", " by TF-IDF"
    else:
        features = _given(embeddings, len(texts))
        encoder, explained = embeddings.name, ""
    images = list(dict.fromkeys(names))
    number = {name: i for i, name in enumerate(images)}
    labels = np.array([number[name] for name in names], np.int32)
    features = normalize_rows(features.astype(np.float32))
    items = _numbered(names)
    if pool:
        order = np.argsort(labels, kind="stable")
        starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
        features = normalize_rows(np.add.reduceat(features[order], starts))
        labels, items = np.arange(len(images), dtype=np.int32), images
    provenance = {
        "command": command,
        "captions": captions.name,
        "encoder": encoder,
        "versions": versions(("jaxhash", "numpy", "scikit-learn")),
    }
    with whole_file(output, "wb") as file:
        np.savez(
            file,
            features=features,
            labels=labels,
            class_names=np.array(images),
            item_names=np.array(items),
            provenance=np.array(json.dumps(provenance)),
        )
    print_line(
        console,
        f"{output}: {len(texts):,} captions of {len(images):,} images, "
        f"{features.shape[1]:,} dimensions{explained}{', pooled by image' * pool}",
    )


def read_captions(path: Path) -> tuple[list[str], list[str]]:
    """The image and the text of each caption of a file.

    Raises:
        UserError: if the file cannot be read, is empty, or has a line of another form.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # a caption may hold other breaks
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"`captions={path}`: {error}") from error
    names, captions = [], []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, tab, caption = line.partition("\t")
        name = name.partition("#")[0].strip()
        if not tab or not name or not caption.strip():
            raise UserError(f"{path}, line {number}: expected IMAGE, a tab and a caption")
        names.append(name)
        captions.append(caption.strip())
    if not names:
        raise UserError(f"{path}: there are no captions")
    return names, captions


def tfidf_embeddings(captions: list[str], dimensions: int) -> Float[np.ndarray, "n dimensions"]:
    """Captions by the singular vectors of their TF-IDF weights (latent semantic analysis).

    Words that one caption alone has are left out; frequencies count by their logarithm.

    Raises:
        UserError: if the captions have fewer words than there are to be dimensions.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        weights = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(captions)
    except ValueError as error:
        raise UserError(f"`captions`: no word stands in two captions ({error})") from error
    most = min(weights.shape) - 1
    if dimensions > most:
        raise UserError(f"`dimensions` must be at most {most} for these captions, got {dimensions}")
    return TruncatedSVD(dimensions, random_state=0).fit_transform(weights)


def _numbered(names: list[str]) -> list[str]:
    """Names of the captions: that of the image, and which of its captions it is, from 0."""
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        numbered.append(f"{name}#{seen[name]}")
        seen[name] += 1
    return numbered


def _given(path: Path, captions: int) -> Float[np.ndarray, "captions dimensions"]:
    embeddings = read_npy(path)
    if embeddings.ndim != 2 or embeddings.dtype.kind != "f" or len(embeddings) != captions:
        raise UserError(
            f"`embeddings={path}`: expected floats [{captions} captions, dimensions], got shape "
            f"{embeddings.shape} of {embeddings.dtype}"
        )
    if not np.isfinite(embeddings).all():
        raise UserError(f"`embeddings={path}`: there are values that are not finite")
    return np.asarray(embeddings)
