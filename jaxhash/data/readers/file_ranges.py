"""Reads ranges of bytes of many files, from any thread, without mapping them into memory."""

import os
import threading
from collections import OrderedDict
from io import FileIO
from pathlib import Path
from typing import Any

from jaxhash.utils.errors import UserError

#: Files that are held open.
_MAX_OPEN = 128


class FileRanges:
    """Reads ranges of files. The files used last are held open; a copy in another process opens its own.

    Example:
        >>> FileRanges().read(Path(__file__), 0, 3)
        b'\"\"\"'
    """

    def __init__(self):
        self._open: OrderedDict[Path, FileIO] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:
        return FileRanges, ()

    def read(self, path: Path, offset: int, length: int) -> bytes:
        """Returns a range of a file.

        Raises:
            UserError: if the file is missing, or ends before the range does.
        """
        buffer = bytearray(length)
        self.read_into(path, offset, buffer)
        return bytes(buffer)

    def read_into(self, path: Path, offset: int, buffer: Any) -> None:
        """Fills a buffer with the bytes of a file from an offset; raises as `read` does."""
        view = memoryview(buffer).cast("B")
        try:
            file = self._file(path)  # held here, so that it stays open if it is closed meanwhile
            done = 0
            while done < len(view):
                count = os.preadv(file.fileno(), [view[done:]], offset + done)
                if not count:
                    break
                done += count
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}") from error
        if done < len(view):
            raise UserError(
                f"{path}: it ends before byte {offset + len(view):,}, to which a record reaches: the file "
                "was cut after it was opened"
            )

    def _file(self, path: Path) -> FileIO:
        with self._lock:
            if path not in self._open:
                self._open[path] = FileIO(path)
            self._open.move_to_end(path)
            while len(self._open) > _MAX_OPEN:
                self._open.popitem(last=False)  # closed once no thread reads it
            return self._open[path]
