"""TFRecord shards of tf.train.Example, read by range of bytes.

A record is its length (8 bytes), the masked CRC-32C of the length (4), the payload, and its masked CRC-32C (4).
Both are compared when the index of a shard is made; a read compares with the index.
"""

import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

from jaxhash.data.shards.example import LOOKS_FOR, read_content, read_example
from jaxhash.data.shards.records import Record, ShardFormat, range_reader

with (
    warnings.catch_warnings()
):  # a line for each process, also of those that read no TFRecord; see `_slow`
    warnings.simplefilter("ignore", RuntimeWarning)
    import google_crc32c

_HEADER, _FOOTER = 12, 4


def masked_crc(content: bytes) -> int:
    """Returns the CRC-32C of some bytes, rotated and shifted as TFRecord stores it.

    Example:
        >>> hex(masked_crc(b"123456789"))  # of the CRC 0xe3069283
        '0xc78ab0e5'
    """
    crc = google_crc32c.value(content)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _scan(path: Path) -> Iterator[Record]:
    """Yields the records of a shard; see `ShardFormat.scan`."""
    size, offset = path.stat().st_size, 0
    with path.open("rb") as file:
        while header := file.read(_HEADER):
            if len(header) < _HEADER:
                raise ValueError(
                    f"the shard is cut at byte {size:,}, within the length of a record"
                )
            length, crc = struct.unpack("<QI", header)
            if crc != masked_crc(header[:8]):
                raise ValueError(
                    f"there is no record of TFRecord at byte {offset:,}: the shard is damaged, or "
                    "compressed, which is not read"
                )
            if offset + _HEADER + length + _FOOTER > size:
                raise ValueError(f"the shard is cut at byte {size:,}, within a record")
            payload = file.read(length)
            if file.read(_FOOTER) != struct.pack("<I", masked_crc(payload)):
                raise ValueError(
                    "its bytes are not those that were written: their CRC-32C is another"
                )
            place = {"offset": offset + _HEADER, "length": length}
            yield read_example(payload)._replace(**place)
            offset += _HEADER + length + _FOOTER


def _slow() -> str | None:
    """Returns a sentence where checksums are computed in Python; see `ShardFormat.slow`."""
    if google_crc32c.implementation == "c":
        return None
    return (
        "the checksums of TFRecord are computed in Python, some MB a second: the package google-crc32c is "
        "here without its part in C, which its wheels from PyPI have"
    )


FORMAT = ShardFormat(_scan, range_reader(read_content), LOOKS_FOR, slow=_slow)
