"""Digests of the files of a folder, which reveal damage before a file is read."""

import json
import os
from collections.abc import Container
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import xxhash

#: File that holds the digests of the other files in its folder.
DIGESTS_FILE = "digests.json"

#: Bytes to read at a time; a block fits the cache of a core.
_BLOCK_BYTES = 2**18


def write_digests(folder: Path, *, exclude: Container[str] = ()) -> None:
    """Writes the size and the 128-bit XXH3 digest of every file under a folder to `DIGESTS_FILE`.

    Hashing is as fast as reading memory. It reveals damage, not deliberate changes.

    Args:
        folder: folder whose files are complete and do not change.
        exclude: paths, relative to the folder, of files that may still change.
    """
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [name for name in files if name not in exclude]
    with (folder / DIGESTS_FILE).open("w") as file:
        json.dump(_digests(folder, sorted(names)), file, indent=0)
        file.flush()
        os.fsync(file.fileno())


def check_digests(folder: Path) -> bool:
    """Compares the files under a folder with their digests.

    Files without a digest are ignored: no file that was written with the digests refers to them.

    Returns:
        True if all files match, False if the folder has no digests.

    Raises:
        ValueError: if a file is missing or damaged; the message names it.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "weights").write_bytes(bytes(8))
        >>> check_digests(folder)
        False
        >>> write_digests(folder)
        >>> check_digests(folder)
        True
        >>> _ = (folder / "weights").write_bytes(bytes(7) + b"1")
        >>> check_digests(folder)
        Traceback (most recent call last):
        ValueError: weights is damaged
    """
    if not (folder / DIGESTS_FILE).exists():
        return False
    try:
        expected = json.loads((folder / DIGESTS_FILE).read_text())
    except ValueError:
        expected = None
    if not expected or not isinstance(expected, dict):
        raise ValueError(f"{DIGESTS_FILE} is damaged")
    for name in expected:
        if not (folder / name).is_file():
            raise ValueError(f"{name} is missing")
    for name, digest in _digests(folder, list(expected)).items():
        if digest != expected[name]:
            raise ValueError(f"{name} is damaged")
    return True


def _digests(folder: Path, names: list[str]) -> dict[str, list[int | str]]:
    """Returns the size and digest of each file; threads help, as hashing releases the GIL."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return dict(
            zip(names, pool.map(lambda name: file_digest(folder / name), names), strict=True)
        )


def file_digest(path: Path) -> list[int | str]:
    """Returns the size and the 128-bit XXH3 digest of a file."""
    size, digest = 0, xxhash.xxh3_128()
    block = memoryview(bytearray(_BLOCK_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            size += count
            digest.update(block[:count])
    return [size, digest.hexdigest()]
