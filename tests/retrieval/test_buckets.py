"""Buckets of a database beside a dictionary, and their places on a map."""

from collections import Counter

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from jaxhash.retrieval.buckets import (
    describe_bucket,
    fullest_codes,
    place_codes,
    sampled_codes,
)
from jaxhash.retrieval.near_duplicates.join import distinct_codes


@pytest.fixture
def codes():
    """2,000 codes of 16 bits, of which few are frequent and many are there once."""
    rng = np.random.default_rng(0)
    return rng.choice([0, 1, 255], (2000, 2), p=[0.6, 0.3, 0.1]).astype(np.uint8) ^ np.where(
        rng.random((2000, 1)) < 0.5, rng.integers(0, 256, (2000, 2)), 0
    ).astype(np.uint8)


@pytest.mark.parametrize("kind", ["ids", "sets"])
def test_fullest_buckets_are_those_of_a_dictionary(codes, kind):
    rng = np.random.default_rng(1)
    labels = rng.integers(-1, 4, 2000) if kind == "ids" else rng.integers(0, 2, (2000, 4))
    sets = [
        {int(label)} - {-1} if kind == "ids" else set(np.flatnonzero(label).tolist())
        for label in labels
    ]
    held = {}
    for row, code in enumerate(codes):
        held.setdefault(code.tobytes().hex(), []).append(row)
    expected = sorted(held.items(), key=lambda each: (-len(each[1]), each[1][0]))[:20]
    found = distinct_codes(codes)
    buckets = [describe_bucket(found, number, labels) for number in fullest_codes(found, 20)]
    assert [(bucket.code, bucket.rows.tolist()) for bucket in buckets] == expected
    for bucket in buckets:
        counted = Counter(each for row in bucket.rows for each in sets[row])
        assert bucket.classes == sorted(counted.items(), key=lambda each: (-each[1], each[0]))


def test_a_sample_holds_the_codes_of_spaced_items(codes):
    found = distinct_codes(codes)
    few = sampled_codes(found, 100)
    assert {found.codes[number].tobytes() for number in few} == {
        code.tobytes() for code in codes[::20]
    }
    assert len(set(few.tolist())) == len(few)
    assert sampled_codes(found, 2000).tolist() == list(range(len(found.codes)))


@pytest.mark.parametrize("count", [1, 2, 3, 9, 10, 60])
def test_places_are_in_the_square_and_the_same_each_time(count):
    codes = np.unique(np.random.default_rng(count).integers(0, 256, (count, 3)), axis=0)
    codes = codes.astype(np.uint8)
    places = place_codes(codes)
    assert places.shape == (len(codes), 2)
    assert (places >= 0).all() and (places <= 1).all()
    with threadpool_limits(2):
        np.testing.assert_array_equal(place_codes(codes), places)


def test_codes_of_clusters_lie_together():
    """Five centers of 64 bits, of which at most three are flipped: the nearest on the map is of the same."""
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(5), 20)
    bits = rng.integers(0, 2, (5, 64))[cluster]
    for row in bits:
        row[rng.integers(0, 64, 3)] ^= 1
    places = place_codes(np.packbits(bits, axis=1))
    distances = ((places[:, None] - places) ** 2).sum(axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (cluster[distances.argmin(axis=1)] == cluster).mean() > 0.95
