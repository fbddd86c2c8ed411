"""Exports the codes of an index, beside a file that says what they are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rich.console import Console

from jaxhash.retrieval.export import index_formats
from jaxhash.retrieval.export.index_formats import ids_path
from jaxhash.retrieval.export.source import CodeStore, ExportSource
from jaxhash.utils.files import check_output, whole_file


class IndexFormat(NamedTuple):
    """A form of codes.

    Attributes:
        write: writes it to a new file.
        content: what the file holds.
        has_ids: whether the ids lie in a file beside it.
    """

    write: Callable[[ExportSource, Path], None]
    content: str
    has_ids: bool = False


#: Forms of the codes of an index, by name.
INDEX_FORMATS = {
    "npy": IndexFormat(index_formats.write_npy, "packed codes, uint8 [n, bytes]", has_ids=True),
    "parquet": IndexFormat(
        index_formats.write_parquet, "table of id, path, label and code (list of uint8)"
    ),
    "hex": IndexFormat(
        index_formats.write_hex, "a JSON object a line: id, code in hexadecimal, path and label"
    ),
    "pgcopy": IndexFormat(
        index_formats.write_pgcopy,
        "binary COPY of PostgreSQL: id bigint, path text, label text, code bit(n)",
    ),
    "int8": IndexFormat(
        index_formats.write_int8, "packed codes, int8 [n, bytes] in two's complement", has_ids=True
    ),
    "offset-int8": IndexFormat(
        index_formats.write_offset_int8, "packed codes minus 128, int8 [n, bytes]", has_ids=True
    ),
    "faiss": IndexFormat(
        index_formats.write_faiss, "faiss IndexBinaryIDMap2 over IndexBinaryFlat, with the ids"
    ),
}


def export_index(
    index: CodeStore, to: str, output: str | Path, console: Console | None = None
) -> list[Path]:
    """Writes the codes of an index in another form; nothing is overwritten.

    ``OUTPUT.json`` beside the output has the bits, their order, what zero counts as, and the digest
    and check code of the hash function, by which a reader tells whether codes compare.

    Args:
        index: the index, a `jaxhash.retrieval.index.Index`.
        to: one of `INDEX_FORMATS`.
        output: file to be made.
        console: where progress is printed; the error stream by default.

    Returns:
        The files written.

    Raises:
        UserError: if a file exists or cannot be written, or the form cannot hold an item.
    """
    form, output, source = INDEX_FORMATS[to], Path(output), ExportSource(index, console)
    about_path = output.with_name(output.name + ".json")
    files = [output, *([ids_path(output)] if form.has_ids else []), about_path]
    for path in files:
        check_output(path, new=True)
    about = {"format": "jaxhash-codes", "to": to, "content": form.content, **source.about}
    with whole_file(about_path, "w") as file:  # takes its name after the others
        file.write(json.dumps(about | {"files": [path.name for path in files[:-1]]}, indent=2))
        file.write("\n")
        file.flush()
        form.write(source, output)
    return files
