"""Batches loaded by processes of their own."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

import grain
import jax


class WorkerIterator(grain.DatasetIterator):
    """The elements of a data set in order, each loaded by one of several processes.

    grain's own `mp_prefetch` deals the elements out to the processes in turn, so its position is
    one for each of them, and it leaves shared memory behind. Here a position is a number, the one of
    grain's threads, and elements come through a pipe.

    The processes are spawned: a script that gets here stands under ``if __name__ == "__main__":``.
    They end with the iterator, by `close`, and with this process, however it ends.

    Args:
        elements: what to load, by number; each process is sent a copy once.
        workers: number of processes.
    """

    def __init__(self, elements: grain.MapDataset, workers: int):
        super().__init__()
        self._pool = ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin,
            initargs=(elements,),
        )
        self._ahead = 2 * workers
        self._loading: deque[Future] = deque()
        self._number = 0

    def __next__(self) -> Any:
        """The next element; what went wrong in loading it is raised here."""
        while len(self._loading) < self._ahead:
            self._loading.append(self._pool.submit(_load, self._number + len(self._loading)))
        element = self._loading[0].result()
        self._loading.popleft()
        self._number += 1
        return element

    def get_state(self) -> dict[str, int]:
        """The position."""
        return {"next_index": self._number}

    def set_state(self, state: dict[str, int]) -> None:
        """Go to a position that `get_state` returned."""
        self._number = state["next_index"]
        while self._loading:
            self._loading.pop().cancel()

    def close(self) -> None:
        """End the processes, when they are through with what they are loading."""
        super().close()
        self._pool.shutdown(cancel_futures=True)


_elements: grain.MapDataset


def _begin(elements: grain.MapDataset) -> None:
    """Prepare a worker: no accelerator is its own, and none but its parent ends it."""
    global _elements
    _elements = elements
    jax.config.update("jax_platforms", "cpu")
    for stop in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # they may be sent to the whole group, as by Ctrl-C
        signal.signal(stop, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _load(number: int) -> Any:
    return _elements[number]
