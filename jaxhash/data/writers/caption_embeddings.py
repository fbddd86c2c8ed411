"""Writes embeddings of captions into a feature file (``jaxhash data captions``).

``jaxhash train --dataset features:FILE.npz`` learns to hash the captions; ``--similarity FILE.npz`` uses
them as the similarity of the images.
"""

import json
from collections import Counter
from pathlib import Path

import numpy as np
from jaxtyping import Float
from rich.console import Console

from jaxhash.data.readers.arrays import read_npy
from jaxhash.data.readers.captions import read_captions
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
    """Embeds captions and writes a file for the source ``features:FILE.npz``.

    It holds ``features``, the embeddings at length 1; ``labels``, the number of the image of each caption;
    ``class_names``, the names of the images; ``item_names``, such as a.jpg#0 for the first caption of an
    image; and ``provenance``, a JSON object.

    Args:
        captions: text file for `jaxhash.data.readers.captions.read_captions`.
        output: .npz file to write.
        console: console for messages.
        embeddings: .npy file of floats [captions, dimensions]; by default TF-IDF embeddings are computed.
        dimensions: number of dimensions of an embedding by TF-IDF.
        pool: whether to write one row per image, the mean of its captions.
        command: the command line, to store in ``provenance``.

    Raises:
        UserError: if an argument is not allowed, or the embeddings do not fit the captions.
    """
    if dimensions < 1:
        raise UserError(f"`dimensions` must be at least 1, got {dimensions}")
    check_output(output, ".npz", new=True)
    names, texts = read_captions(captions)
    if embeddings is None:
        features = tfidf_embeddings(texts, dimensions)
        encoder, method = f"TF-IDF, {features.shape[1]} singular vectors", " by TF-IDF"
    else:
        features = _read_embeddings(embeddings, len(texts))
        encoder, method = embeddings.name, ""
    images = list(dict.fromkeys(names))
    number = {name: i for i, name in enumerate(images)}
    labels = np.array([number[name] for name in names], np.int32)
    features = normalize_rows(features.astype(np.float32))
    items = _caption_names(names)
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
        f"{features.shape[1]:,} dimensions{method}{', pooled by image' * pool}",
    )


def tfidf_embeddings(captions: list[str], dimensions: int) -> Float[np.ndarray, "n dimensions"]:
    """Embeds captions by the singular vectors of their TF-IDF weights (latent semantic analysis).

    Words that occur in only one caption are left out; term frequencies are logarithmic.

    Raises:
        UserError: if the captions have too few words for this number of dimensions.
    """
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    try:
        weights = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(captions)
    except ValueError as error:
        raise UserError(f"`captions`: no word stands in two captions ({error})") from error
    limit = min(weights.shape) - 1
    if dimensions > limit:
        raise UserError(
            f"`dimensions` must be at most {limit} for these captions, got {dimensions}"
        )
    return TruncatedSVD(dimensions, random_state=0).fit_transform(weights)


def _caption_names(names: list[str]) -> list[str]:
    """Returns a name per caption: the name of its image and its number among the captions of the image."""
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        numbered.append(f"{name}#{seen[name]}")
        seen[name] += 1
    return numbered


def _read_embeddings(path: Path, captions: int) -> Float[np.ndarray, "captions dimensions"]:
    """Reads one embedding per caption, checked."""
    embeddings = read_npy(path)
    if embeddings.ndim != 2 or embeddings.dtype.kind != "f" or len(embeddings) != captions:
        raise UserError(
            f"`embeddings={path}`: expected floats [{captions} captions, dimensions], got shape "
            f"{embeddings.shape} of {embeddings.dtype}"
        )
    if not np.isfinite(embeddings).all():
        raise UserError(f"`embeddings={path}`: there are values that are not finite")
    return np.asarray(embeddings)
