"""``jaxhash export``: a hash function, or the codes of an index, in another form."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from jaxhash.cli.parsing import parse
from jaxhash.retrieval.export.export_hasher import HASHER_FORMATS, export_hasher
from jaxhash.retrieval.export.export_index import INDEX_FORMATS, export_index
from jaxhash.retrieval.index import Index
from jaxhash.runs.folder import read_results
from jaxhash.runs.load import load
from jaxhash.utils.console import print_line, show_work
from jaxhash.utils.errors import UserError

_FORMATS = (*HASHER_FORMATS, *INDEX_FORMATS)


@dataclasses.dataclass(frozen=True)
class ExportArguments:
    """Write a hash function, or the codes of an index, in a form that other systems read.

    A hash function (of a run, an archive or an index) goes to safetensors, the archive that jaxhash
    reads; jax and onnx, programs that need no jaxhash; hf, a folder for the Hugging Face hub. The codes
    of an index go to npy, parquet, hex, pgcopy, int8, offset-int8 and faiss.
    """

    path: Annotated[Path, tyro.conf.Positional]
    """Folder of a run, of an archive, or of an index."""
    to: Literal[_FORMATS]
    """The form."""
    output: Path
    """File or folder to be made."""
    modality: str | None = None
    """Of a run of several modalities: whose hash function."""


def run(arguments: list[str], console: Console, command: str) -> None:
    """Runs the verb.

    Args:
        arguments: words after ``jaxhash export``.
        console: where to print.
        command: the whole command line.
    """
    parsed = parse(ExportArguments, arguments, prog="jaxhash export")
    if parsed.to in INDEX_FORMATS:
        if parsed.modality is not None:
            raise UserError(
                f"`modality` is for a run of several, and `to={parsed.to}` for an index"
            )
        files = export_index(_open_index(parsed), parsed.to, parsed.output, console)
    else:
        hasher = load(parsed.path, modality=parsed.modality)
        has_results = (parsed.path / "results.json").is_file()
        results = read_results(parsed.path) if has_results else None
        print_line(console, f"{parsed.path}: a hash function of {hasher.bits} bits, to {parsed.to}")
        with show_work(f"exporting to {parsed.to}", console):
            files = export_hasher(hasher, parsed.to, parsed.output, results=results)
    print_line(console, f"wrote {', '.join(map(str, files))}")


def _open_index(arguments: ExportArguments) -> Index:
    """Opens the index whose codes are exported."""
    path = arguments.path
    if path.is_dir() and not (path / "index.json").exists():
        names = ", ".join(HASHER_FORMATS)
        raise UserError(
            f"`to={arguments.to}` is for the codes of an index, and {path} is none; a hash function "
            f"goes to {names}"
        )
    return Index.open(path)
