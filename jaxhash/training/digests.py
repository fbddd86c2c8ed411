"""Digests of the files of a folder, by which damage is found before anything is read from them."""

import json
import os
from collections.abc import Container
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import xxhash

#: The file that holds the digests of all others in its folder.
DIGESTS_FILE = "digests.json"

#: Bytes that are read at a time: they stay in a core's cache.
_BLOCK = 2**18


def write_digests(folder: Path, *, exclude: Container[str] = ()) -> None:
    """Write the size and the 128 bits of XXH3 of every file under a folder into its `DIGESTS_FILE`.

    That is as fast as memory is read. It finds damage, not what somebody changes on purpose.

    Args:
        folder: its files are whole, and stay as they are.
        exclude: files that do not, by their names from this folder on.
    """
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names = [name for name in files if name not in exclude]
    with (folder / DIGESTS_FILE).open("w") as file:
        json.dump(_digests(folder, sorted(names)), file, indent=0)
        file.flush()
        os.fsync(file.fileno())


def check_digests(folder: Path) -> bool:
    """Whether the files under a folder are known to be those that were written.

    Files that have come since are not looked at: nothing that was written refers to them.

    Returns:
        False where the folder has no digests.

    Raises:
        ValueError: if a file is missing or another than it was, by name.

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
        written = json.loads((folder / DIGESTS_FILE).read_text())
    except ValueError:
        written = None
    if not written or not isinstance(written, dict):
        raise ValueError(f"{DIGESTS_FILE} is damaged")
    for name in written:
        if not (folder / name).is_file():
            raise ValueError(f"{name} is missing")
    for name, digest in _digests(folder, list(written)).items():
        if digest != written[name]:
            raise ValueError(f"{name} is damaged")
    return True


def _digests(folder: Path, names: list[str]) -> dict[str, list[int | str]]:
    """Digest each file; several at a time, as hashing leaves Python free."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return dict(zip(names, pool.map(lambda name: _digest(folder / name), names), strict=True))


def _digest(path: Path) -> list[int | str]:
    size, digest = 0, xxhash.xxh3_128()
    block = memoryview(bytearray(_BLOCK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            size += count
            digest.update(block[:count])
    return [size, digest.hexdigest()]
