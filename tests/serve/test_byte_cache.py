"""The cache by bytes: what is kept, and threads that want the same value."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from jaxhash.serve.cache import ByteCache


def test_the_least_recently_used_go_first():
    cache = ByteCache(30, len)
    for key in "abc":
        cache.get(key, lambda key=key: key * 10)
    assert cache.get("a", lambda: None) == "a" * 10  # used again
    cache.get("d", lambda: "d" * 10)
    assert [key in cache for key in "abcd"] == [True, False, True, True]


def test_a_value_that_is_too_large_is_returned_and_not_kept():
    cache = ByteCache(30, len)
    cache.get("a", lambda: "a")
    assert cache.get("b", lambda: "b" * 31) == "b" * 31
    assert "b" not in cache
    assert cache.get("c", lambda: "c" * 30) == "c" * 30 and "c" in cache


def test_threads_that_want_one_value_make_it_once():
    cache, made, go_on = ByteCache(100, len), [], threading.Event()

    def make():
        made.append(1)
        go_on.wait(10)
        return "value"

    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(cache.get, "a", make) for _ in range(8)]
        go_on.set()
        assert [each.result() for each in found] == ["value"] * 8
    assert made == [1]


def test_an_error_reaches_all_and_is_not_kept():
    cache, entered, go_on = ByteCache(100, len), threading.Event(), threading.Event()

    def fail():
        entered.set()
        go_on.wait(10)
        raise OSError("gone")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get, "a", fail)
        entered.wait(10)
        second = pool.submit(cache.get, "a", fail)
        go_on.set()
        for each in (first, second):
            with pytest.raises(OSError, match="gone"):
                each.result()
    assert cache.get("a", lambda: "there") == "there"
