"""Exports a hash function."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

import jaxhash
from jaxhash.retrieval.export import jax_program, onnx_program
from jaxhash.retrieval.export.model_card import write_model_card
from jaxhash.retrieval.hasher import Hasher
from jaxhash.utils.files import check_output, whole_file, whole_folder


class HasherFormat(NamedTuple):
    """A form of a hash function.

    Attributes:
        write: writes it to a new file, or into a new folder.
        content: what a program returns; None for a folder, which describes itself.
    """

    write: Callable[[Hasher, Path], None]
    content: str | None = None


#: Forms of a hash function, by name; ``hf`` gets a model card as well.
HASHER_FORMATS = {
    "safetensors": HasherFormat(Hasher.save),
    "jax": HasherFormat(jax_program.write_jax, jax_program.OUTPUT),
    "onnx": HasherFormat(onnx_program.write_onnx, onnx_program.OUTPUT),
    "hf": HasherFormat(Hasher.save),
}


def export_hasher(
    hasher: Hasher, to: str, output: str | Path, *, results: Mapping[str, Any] | None = None
) -> list[Path]:
    """Writes a hash function in another form; nothing is overwritten.

    ``safetensors`` is a folder with config.json and model.safetensors, and ``hf`` adds a model card;
    `jaxhash.load` reads both. ``jax`` and ``onnx`` are a file each, whose weights are in it, and
    ``OUTPUT.json`` beside it, which says what goes in and what comes out.

    Args:
        hasher: the hash function.
        to: one of `HASHER_FORMATS`.
        output: file or folder to be made.
        results: content of the results.json of its run, for the model card.

    Returns:
        The files written.

    Raises:
        UserError: if the output exists or cannot be written, a package is missing, or the model
            cannot be converted.
    """
    form, output = HASHER_FORMATS[to], Path(output)
    about_path = output.with_name(output.name + ".json")
    check_output(output, new=True)
    if form.content is None:
        with whole_folder(output) as folder:
            form.write(hasher, folder)
            if to == "hf":
                write_model_card(hasher, folder, results)
        return sorted(output.iterdir())
    check_output(about_path, new=True)
    with whole_file(about_path, "w") as file:  # takes its name after the program
        json.dump(_describe(hasher, to, form.content), file, indent=2)
        file.write("\n")
        file.flush()
        form.write(hasher, output)
    return [output, about_path]


def _describe(hasher: Hasher, to: str, output: str) -> dict[str, Any]:
    """Returns what a reader of a program has to know, as JSON values."""
    form, config = hasher.form, hasher.config
    shape = ["batch", *form.shape]
    return {
        "format": f"jaxhash-{to}",
        "inputs": {"kind": form.kind, "shape": shape, "dtype": hasher.check_input.dtype.name},
        "output": output,
        "bits": hasher.bits,
        **{name: config[name] for name in ("bit_order", "zero", "digest", "check_code")},
        "versions": {"jaxhash": jaxhash.__version__, "jax": jax.__version__},
        "made_by": hasher.made_by,
    }
