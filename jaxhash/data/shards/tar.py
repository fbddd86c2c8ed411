"""WebDataset shards: tar files in which the members of a sample share their name up to the first dot."""

import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from jaxhash.data.readers.images import image_suffixes
from jaxhash.data.shards.records import Content, Record, ShardFormat, range_reader, read_array

#: Keys of a .json member that hold the label; the first that is there counts.
LABEL_KEYS = ("label", "cls", "class")

#: First bytes of compressed files.
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")

#: Bytes of a block of a tar file.
_BLOCK = 512

#: Bytes that are read at a time where a tar file has ended.
_PART = 1 << 20


def _scan(path: Path) -> Iterator[Record]:
    """Yields the samples of a shard; see `ShardFormat.scan`.

    A sample has one input, an image file or a vector in .npy, and a label: KEY.cls with a number or a name,
    or KEY.json with one of `LABEL_KEYS`.
    """
    with path.open("rb") as file:
        if file.read(8).startswith(_COMPRESSED):
            raise ValueError(
                "it is compressed, so that no record can be read by itself; images hardly compress: "
                "unpack it to a plain .tar"
            )
        for key, members in _samples(path, file):
            yield _read_sample(file, key, members)


def _samples(path: Path, file: BinaryIO) -> Iterator[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Yields the key of each sample with its members, by what follows the first dot of their names."""
    size, key, members = path.stat().st_size, None, {}
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            if member.offset_data + member.size > size:
                raise ValueError(f"the shard is cut within {member.name}")
            folder, name = os.path.split(member.name)
            if not member.isfile() or name.startswith("."):
                continue
            stem, _, suffix = name.partition(".")
            if os.path.join(folder, stem) != key:
                if members:
                    yield key, members
                key, members = os.path.join(folder, stem), {}
            if suffix.lower() in members:
                raise ValueError(f"two members are called {member.name}")
            members[suffix.lower()] = member
        end = os.pread(file.fileno(), _BLOCK, archive.offset)
        if end != bytes(_BLOCK):
            raise ValueError(
                f"the shard is cut or damaged after {key or 'its beginning'}: what follows is no member "
                "and no end of a tar file"
            )
        file.seek(archive.offset)
        if any(part.strip(b"\0") for part in iter(lambda: file.read(_PART), b"")):
            raise ValueError(
                f"the tar file ends after {key or 'its beginning'}, at byte {archive.offset:,}, and more follows: "
                "it is damaged, or several tar files were joined"
            )
    if members:
        yield key, members


def _read_sample(file: BinaryIO, key: str, members: dict[str, tarfile.TarInfo]) -> Record:
    """Reads the input and the label of a sample."""
    known = image_suffixes()
    inputs = [suffix for suffix in members if suffix == "npy" or f".{suffix}" in known]
    if len(inputs) != 1:
        found = f"several inputs: {', '.join(inputs)}" if inputs else "no input"
        raise ValueError(
            f"sample {key} holds {found}; expected one image file or one .npy, and its members are "
            f"{', '.join(members)}"
        )
    content, member = _read(file, members[inputs[0]]), members[inputs[0]]
    if inputs[0] == "npy":
        content = read_array(content)
    return Record(_label(file, members), content, member.offset_data, member.size)


def _label(file: BinaryIO, members: dict[str, tarfile.TarInfo]) -> Any:
    if "cls" in members:
        text = _read(file, members["cls"]).decode().strip()
        return int(text) if text.lstrip("-").isdecimal() else text
    if "json" in members:
        content = json.loads(_read(file, members["json"]))
        found = [key for key in LABEL_KEYS if isinstance(content, dict) and key in content]
        return content[found[0]] if found else None
    return None


def _read(file: BinaryIO, member: tarfile.TarInfo) -> bytes:
    return os.pread(file.fileno(), member.size, member.offset_data)


def _decode(content: bytes) -> Content:
    """Returns a vector if the member is a .npy, else the bytes of the image."""
    return read_array(content) if content.startswith(b"\x93NUMPY") else content


FORMAT = ShardFormat(
    _scan,
    range_reader(_decode),
    f"KEY.cls, a number or a name, and KEY.json with a key {', '.join(LABEL_KEYS[:-1])} or {LABEL_KEYS[-1]}",
)
