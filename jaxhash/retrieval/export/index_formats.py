"""Writes the codes of an index in the forms that other systems read.

Each function writes one form to a new file, piece by piece, so memory does not grow with the index.
Codes keep their bytes unless the form asks for others: the first bit is the most significant, and the
last byte is filled with zeros, which changes no Hamming distance.
"""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Int8, Shaped, UInt8

from jaxhash.retrieval.export.source import ExportSource
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import whole_file

# Arrays


def write_npy(source: ExportSource, output: Path) -> None:
    """Writes packed codes as uint8 [n, bytes] in NumPy's format, and their ids beside it."""
    _write_arrays(source, output, np.uint8, lambda codes: codes)


def write_int8(source: ExportSource, output: Path) -> None:
    """Writes the same bytes as signed ones, 129 as -127, and the ids beside it."""
    _write_arrays(source, output, np.int8, as_int8)


def write_offset_int8(source: ExportSource, output: Path) -> None:
    """Writes each byte minus 128 as a signed one, 129 as 1, and the ids beside it."""
    _write_arrays(source, output, np.int8, as_offset_int8)


def as_int8(codes: UInt8[np.ndarray, "n bytes"]) -> Int8[np.ndarray, "n bytes"]:
    """Returns bytes in two's complement.

    Example:
        >>> as_int8(np.array([[129, 127]], np.uint8))
        array([[-127,  127]], dtype=int8)
    """
    return np.ascontiguousarray(codes).view(np.int8)


def as_offset_int8(codes: UInt8[np.ndarray, "n bytes"]) -> Int8[np.ndarray, "n bytes"]:
    """Returns bytes minus 128, which differ from those in two's complement in the highest bit.

    Example:
        >>> as_offset_int8(np.array([[129, 127]], np.uint8))
        array([[ 1, -1]], dtype=int8)
    """
    return as_int8(codes ^ np.uint8(0x80))


def ids_path(output: Path) -> Path:
    """Returns the file of the ids beside a file that holds codes only.

    Example:
        >>> ids_path(Path("codes.npy")).name
        'codes.ids.npy'
    """
    return output.with_name(f"{output.name.removesuffix('.npy')}.ids.npy")


def _write_arrays(
    source: ExportSource,
    output: Path,
    dtype: type,
    convert: Callable[[Any], Shaped[np.ndarray, "n bytes"]],
) -> None:
    with whole_file(ids_path(output), "wb") as ids_file, whole_file(output, "wb") as file:
        _write_npy_header(ids_file, np.int64, (len(source),))
        _write_npy_header(file, dtype, (len(source), source.code_bytes))
        for ids, codes in source.codes():
            ids_file.write(ids.astype("<i8").tobytes())
            file.write(convert(codes).tobytes())


def _write_npy_header(file: IO, dtype: type, shape: tuple[int, ...]) -> None:
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype).newbyteorder("<"))
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)


# Tables


def write_parquet(source: ExportSource, output: Path) -> None:
    """Writes a Parquet table of id, path, label and code; the codes are lists of uint8.

    Milvus reads a list of uint8 in all its versions, and a list of fixed size in the newest only;
    LanceDB casts it. What the codes are stands in the metadata, under the key ``jaxhash``.
    """
    schema = pa.schema(
        {"id": pa.int64(), "path": pa.string(), "label": pa.string(), "code": pa.list_(pa.uint8())},
        metadata={"jaxhash": json.dumps(source.about)},
    )
    with whole_file(output, "wb") as file, pq.ParquetWriter(file, schema) as writer:
        for table in source.tables():
            writer.write_table(table.cast(schema))


def write_hex(source: ExportSource, output: Path) -> None:
    """Writes a JSON object a line: id, code as hexadecimal digits, path and label."""
    with whole_file(output, "w") as file:
        for row in source.rows():
            file.write(json.dumps(row._asdict() | {"code": row.code.hex()}) + "\n")


def write_pgcopy(source: ExportSource, output: Path) -> None:
    """Writes rows of (id bigint, path text, label text, code bit(n)) for PostgreSQL's binary COPY.

    Raises:
        UserError: if a path or a label holds the character NUL, which PostgreSQL refuses.
    """
    bits = struct.pack(">i", source.bits)  # a bit string is its length in bits, then packed bytes
    with whole_file(output, "wb") as file:
        file.write(b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0))  # no flags, no extension
        for number, code, path, label in source.rows():
            if "\0" in path or "\0" in (label or ""):
                raise UserError(f"item {number}: PostgreSQL takes no character NUL, as in {path!r}")
            fields = (struct.pack(">q", number), _encoded(path), _encoded(label), bits + code)
            file.write(struct.pack(">h", len(fields)) + b"".join(map(_pg_field, fields)))
        file.write(struct.pack(">h", -1))


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else text.encode()


def _pg_field(value: bytes | None) -> bytes:
    return struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value


# faiss


def write_faiss(source: ExportSource, output: Path) -> None:
    """Writes an `IndexBinaryIDMap2` over an `IndexBinaryFlat`, as `faiss.write_index_binary` does.

    faiss itself would need all codes in memory to write them; its file is a header, the codes and the
    ids, which are written here as they come.
    """
    size = len(source), source.code_bytes
    header = struct.pack("<iiq?i", 8 * size[1], size[1], size[0], True, 1)  # trained; L2, unused
    with whole_file(output, "wb") as file:
        file.write(b"IBM2" + header + b"IBxF" + header + struct.pack("<Q", size[0] * size[1]))
        for _, codes in source.codes():
            file.write(codes.tobytes())
        file.write(struct.pack("<Q", size[0]))
        for ids, _ in source.codes():
            file.write(ids.astype("<i8").tobytes())
