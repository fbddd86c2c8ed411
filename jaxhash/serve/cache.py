"""Keeps what was computed within a number of bytes."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class ByteCache(Generic[T]):
    """Values by key, of which those that were used last are kept; for several threads.

    Args:
        max_bytes: bytes that are kept.
        size: returns the bytes of a value.

    Example:
        >>> cache = ByteCache(10, len)
        >>> [cache.get(name, lambda name=name: name.encode() * 4) for name in "aba"]
        [b'aaaa', b'bbbb', b'aaaa']
        >>> cache.get("c", lambda: b"cccc"), "a" in cache, "b" in cache
        (b'cccc', True, False)
    """

    def __init__(self, max_bytes: int, size: Callable[[T], int]):
        self._max_bytes, self._size, self._bytes = max_bytes, size, 0
        self._kept: OrderedDict[Hashable, T] = OrderedDict()
        self._running: dict[Hashable, Future] = {}
        self._lock = threading.Lock()

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Returns the value of a key, made if it is not there; threads that ask for it meanwhile wait.

        Args:
            key: the key.
            make: makes the value; what it raises is raised in all threads that wait.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            running = self._running.get(key)
            if running is None:
                made = self._running[key] = Future()
        if running is not None:
            return running.result()
        try:
            value = make()
        except BaseException as error:
            with self._lock:
                del self._running[key]
            made.set_exception(error)
            raise
        with self._lock:
            del self._running[key]
            self._keep(key, value)
        made.set_result(value)
        return value

    def _keep(self, key: Hashable, value: T) -> None:
        """Keeps a value; those that were used the longest time ago go, itself if it is too large."""
        self._kept[key] = value
        self._bytes += self._size(value)
        while self._bytes > self._max_bytes:
            self._bytes -= self._size(self._kept.popitem(last=False)[1])
