"""Batches come in their order, ahead of their turn and not by more than is asked for."""

import itertools
import threading

import pytest

from jaxhash.training.prefetch import Prefetch


class Recorder:
    """An endless iterator, and a ``put``, that know what was read and put where."""

    def __init__(self, reads=None):
        self.read, self.put_at, self.threads = [], [], set()
        self._more = threading.Semaphore(0)
        self._reads = itertools.count() if reads is None else iter(reads)

    def __iter__(self):
        return self

    def __next__(self):
        self.read.append(next(self._reads))
        return self.read[-1]

    def put(self, batch):
        self.put_at.append(batch)
        self.threads.add(threading.current_thread())
        self._more.release()
        return f"device {batch}"

    def wait(self, count):
        """Wait until so many more were put."""
        assert all(self._more.acquire(timeout=60) for _ in range(count))


@pytest.mark.parametrize("size", [1, 3])
def test_batches_are_there_before_they_are_asked_for(size):
    host = Recorder()
    batches = Prefetch(host, host.put, size=size)
    host.wait(size)
    assert host.read == host.put_at == list(range(size))
    for number in range(20):
        assert next(batches) == f"device {number}"
        host.wait(1)
        assert host.put_at == list(range(number + 1 + size))
    batches.close()
    assert len(host.threads) == 1 and threading.current_thread() not in host.threads


def test_nothing_is_read_after_the_end():
    host = Recorder()
    batches = Prefetch(host, host.put)
    host.wait(2)
    batches.close()
    (thread,) = host.threads
    assert not thread.is_alive()
    assert host.read == [0, 1]


def test_errors_come_out_at_their_turn():
    def reads():
        yield 0
        yield 1
        raise OSError("no such file")

    host = Recorder(reads())
    batches = Prefetch(host, host.put)
    assert [next(batches), next(batches)] == ["device 0", "device 1"]
    with pytest.raises(OSError, match="no such file"):
        next(batches)
    batches.close()


def test_the_end_of_the_batches_is_the_end():
    host = Recorder(range(3))
    batches = Prefetch(host, host.put)
    assert list(batches) == ["device 0", "device 1", "device 2"]
    batches.close()
