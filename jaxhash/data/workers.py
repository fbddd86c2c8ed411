"""Loads batches in worker processes."""

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
    """Yields the elements of a data set in order, each loaded by one of several processes.

    grain's own `mp_prefetch` assigns elements to processes in turn, so its state has one position per
    process, and it leaves shared memory behind. Here the state is one number, as with grain's threads,
    and elements come through a pipe.

    The processes are spawned, so a script must call this under ``if __name__ == "__main__":``. They end
    with the iterator, by `close`, and with this process, however it ends.

    Args:
        elements: the data set; each process receives a copy once.
        workers: number of processes.
    """

    def __init__(self, elements: grain.MapDataset, workers: int):
        super().__init__()
        self._pool = ProcessPoolExecutor(
            workers,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_init_worker,
            initargs=(elements,),
        )
        self._prefetch = 2 * workers
        self._futures: deque[Future] = deque()
        self._position = 0

    def __next__(self) -> Any:
        """Returns the next element; raises the exception that a worker raised in loading it."""
        while len(self._futures) < self._prefetch:
            self._futures.append(
                self._pool.submit(_load_element, self._position + len(self._futures))
            )
        element = self._futures[0].result()
        self._futures.popleft()
        self._position += 1
        return element

    def get_state(self) -> dict[str, int]:
        """Returns the position."""
        return {"next_index": self._position}

    def set_state(self, state: dict[str, int]) -> None:
        """Moves to a position that `get_state` returned."""
        self._position = state["next_index"]
        while self._futures:
            self._futures.pop().cancel()

    def close(self) -> None:
        """Ends the processes, after the elements that they are loading."""
        super().close()
        self._pool.shutdown(cancel_futures=True)


_elements: grain.MapDataset


def _init_worker(elements: grain.MapDataset) -> None:
    """Prepares a worker: it uses no accelerator, and only its parent ends it."""
    global _elements
    _elements = elements
    jax.config.update("jax_platforms", "cpu")
    # Ctrl-C and others send these to the whole group of processes.
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Waits for the parent process to end, and exits."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _load_element(number: int) -> Any:
    """Loads an element in a worker."""
    return _elements[number]
