"""The model card of a hash function: README.md as the Hugging Face hub reads it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

import jaxhash
from jaxhash.retrieval.hasher import Hasher
from jaxhash.utils.errors import UserError, first_line
from jaxhash.utils.files import whole_file

#: Tags of the hub by which a hash function is found.
_TAGS = ["jaxhash", "jax", "flax", "hashing", "binary-codes", "image-retrieval"]

_PURPOSE = """\
It maps {kind} to codes of {bits} bits, so that the items nearest in Hamming distance are similar. It is
meant for search, for near-duplicates, and for re-ranking the nearest items by something slower. Codes of
another hash function do not compare with these, whatever their length: the digest below tells them apart.
A near code is no proof of identity, so it is unfit to decide about persons."""

_CODES = """\
Codes are packed `uint8 [n, {bytes}]`: the first bit is the most significant, a real-valued code of 0 counts
as +1, and unused bits of the last byte are 0. The digest of the hash function is `{digest}`, and its check
code, by which an implementation tests itself, `{check_code}`."""


def write_model_card(hasher: Hasher, folder: Path, results: Mapping[str, Any] | None) -> None:
    """Writes README.md beside an archive. What is unknown is left out, the license among it.

    Args:
        hasher: the hash function.
        folder: folder of its archive.
        results: content of the results.json of its run, if it comes from a run.

    Raises:
        UserError: if the results lack what the card states.
    """
    try:
        header = yaml.safe_dump(_metadata(hasher, results), sort_keys=False, allow_unicode=True)
        card = f"---\n{header}---\n\n{_body(hasher, results or {})}"
    except (KeyError, TypeError, AttributeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else first_line(error)
        raise UserError(f"the results of the run are damaged ({reason})") from error
    with whole_file(folder / "README.md", "wb") as file:
        file.write(card.encode())


def _metadata(hasher: Hasher, results: Mapping[str, Any] | None) -> dict[str, Any]:
    """Returns the header of the card."""
    is_image = hasher.form.kind == "images"
    task = "image-feature-extraction" if is_image else "feature-extraction"
    found = {"library_name": "jaxhash", "pipeline_tag": task, "tags": _TAGS}
    if not results:
        return found
    entry = {
        "task": {"type": task, "name": "retrieval by Hamming distance"},
        "dataset": {
            "name": results["dataset"],
            "type": results["dataset"],
            "split": results["split"],
            "args": {"split_sha256": results["split_sha256"]},
        },
        "metrics": [
            {"type": name, "value": value, "name": f"{name}: {convention}"}
            for name, value, convention in _metrics(results)
        ],
    }
    return found | {"model-index": [{"name": _name(hasher), "results": [entry]}]}


def _body(hasher: Hasher, results: Mapping[str, Any]) -> str:
    config = hasher.config
    values = {
        "kind": hasher.form.kind,
        "bits": hasher.bits,
        "bytes": -(-hasher.bits // 8),
        "digest": hasher.digest,
        "check_code": hasher.check_code,
    }
    own = config["encoder"].get("own")
    sections = {
        f"# {_name(hasher)}": f"A hash function made by jaxhash {jaxhash.__version__}.",
        "## Load it": _loading(hasher, own),
        "## Intended use": _PURPOSE.format(**values),
        "## Input": _input(hasher),
        "## Codes": _CODES.format(**values),
        "## Training": _training(results or hasher.made_by),
        "## Results": _results(results),
    }
    return "\n".join(f"{title}\n\n{text}\n" for title, text in sections.items() if text)


def _name(hasher: Hasher) -> str:
    encoder = hasher.config["encoder"]
    return f"{encoder.get('backbone') or encoder['own']}, {hasher.bits} bits"


def _loading(hasher: Hasher, own: str | None) -> str:
    items = '["photo.jpg"]' if hasher.form.kind == "images" else "vectors"
    load = 'jaxhash.load("PATH OF THIS FOLDER")'
    if own is not None:
        load = f'jaxhash.load("PATH OF THIS FOLDER", model={own}(...))'
    return (
        f"```python\nimport jaxhash\nhasher = {load}\n"
        f"codes = hasher.encode(hasher.preprocess({items}))\n```"
    )


def _input(hasher: Hasher) -> str:
    form = hasher.form
    if form.words is not None:
        return (
            f"Counts of {form.shape[0]:,} words, float32, in the order of `input.words.vocabulary` of "
            "config.json; they become tf-idf rows inside."
        )
    if form.kind == "vectors":
        return f"Vectors of {form.shape[0]:,} dimensions, float32, multiplied by {form.scale:.6g} inside."
    height, width, channels = form.shape
    plural = "" if channels == 1 else "s"
    text = (
        f"Images of {height} x {width} pixels and {channels} channel{plural}, bytes from 0 to 255"
    )
    if form.image_size is not None:
        text += f", brought to {form.image_size} x {form.image_size}"
    preparation = form.preprocessing
    if preparation is None:
        return f"{text}."
    mean, std = (", ".join(f"{v:.6g}" for v in preparation[name]) for name in ("mean", "std"))
    order = " of blue, green and red" if preparation["bgr"] else ""
    return f"{text}; then (x - mean) / std inside, mean{order} {mean} and std {std}."


def _training(facts: Mapping[str, Any]) -> str:
    """Lists what is known of the training: from the results of the run, or what the archive keeps."""
    known = {
        "data set": facts.get("dataset"),
        "split": facts.get("split"),
        "SHA-256 of the split": facts.get("split_sha256"),
        "objective": facts.get("objective"),
        "method": facts.get("method"),
        "epochs": facts.get("epochs"),
        "seed": facts.get("seed"),
    }
    items = facts.get("items") if isinstance(facts.get("items"), Mapping) else {}
    known |= {f"{part} items": f"{count:,}" for part, count in items.items() if count}
    return "\n".join(f"- {name}: {value}" for name, value in known.items() if value is not None)


def _results(results: Mapping[str, Any]) -> str:
    rows = []
    for name, value, convention in _metrics(results):
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
        rows.append(f"| {name} | {shown} | {_escaped(convention)} |")
    if not rows:
        return ""
    size = f"{results['items']['query']:,} queries, {results['items']['database']:,} items"
    table = ["| metric | value | convention |", "|---|---:|---|", *rows]
    return "\n".join([f"{results['dataset']}, {results['split']}: {size}.", "", *table])


def _metrics(results: Mapping[str, Any]) -> Iterator[tuple[str, float, str]]:
    """Yields each metric that has a convention."""
    for name, convention in results.get("conventions", {}).items():
        if isinstance(results.get(name), int | float):
            yield name, results[name], convention


def _escaped(text: str) -> str:
    """Returns a text for the cell of a table."""
    return text.replace("|", "\\|")
