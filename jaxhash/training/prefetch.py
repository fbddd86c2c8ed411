"""Batches that are on the devices before their step is launched."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class Prefetch(Iterator[Any]):
    """The batches of an iterator, in their order, each put onto the devices ahead of its turn.

    A thread does both, so neither reading nor copying a batch holds up the launch of a step. What
    the iterator raises comes out at its turn. To be closed at the end, for the thread reads on.

    Args:
        batches: batches on the host.
        put: brings one to the devices, such as `jaxhash.training.parallel.Lift.put`.
        size: batches that are on their way or there, beside the one that was handed over last; the
            devices need memory for them all.

    Example:
        >>> batches = Prefetch(iter("ab"), str.upper)
        >>> list(batches)
        ['A', 'B']
        >>> batches.close()
    """

    def __init__(self, batches: Iterator[Any], put: Callable[[Any], Any], *, size: int = 2):
        self._batches, self._put = batches, put
        self._thread = ThreadPoolExecutor(1, "prefetch")
        self._ahead = deque(self._thread.submit(self._load) for _ in range(size))

    def _load(self) -> Any:
        return self._put(next(self._batches))

    def __next__(self) -> Any:
        batch = self._ahead.popleft().result()
        self._ahead.append(self._thread.submit(self._load))
        return batch

    def close(self) -> None:
        """Read no more; wait until the batch that is being read is there."""
        self._thread.shutdown(cancel_futures=True)
