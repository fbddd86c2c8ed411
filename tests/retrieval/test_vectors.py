"""Inner products block by block, and what is read for them."""

import numpy as np
import pytest

from jaxhash.retrieval.score import score_floats
from jaxhash.retrieval.vectors import LazyVectors, inner_products, normalize_rows

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (3000, 5, 5, 3)).astype(np.uint8)
FLAT = IMAGES.reshape(len(IMAGES), -1).astype(np.float32)
QUERY, ITEMS = np.arange(200), np.arange(100, 3000)


class Counted:
    """Inputs that count how often each is read, and the most of them at once."""

    def __init__(self, inputs):
        self._inputs, self.reads, self.most = inputs, np.zeros(len(inputs), int), 0

    def __len__(self):
        return len(self._inputs)

    def __getitem__(self, rows):
        rows = np.arange(len(self._inputs))[rows]
        self.reads[rows] += 1
        self.most = max(self.most, len(rows))
        return self._inputs[rows]


@pytest.mark.parametrize("memory_bytes", [1, 2**22, 2**30])
def test_products_are_those_of_the_whole(memory_bytes):
    query, database = LazyVectors(IMAGES, QUERY), LazyVectors(IMAGES, ITEMS)
    found = np.full((len(QUERY), len(ITEMS)), np.nan, np.float32)
    if memory_bytes == 1:  # a query and an item at a time
        query, found = LazyVectors(IMAGES, QUERY[:2]), found[:2]
    for rows, scores in inner_products(query, database, normalize_rows, memory_bytes=memory_bytes):
        assert np.isnan(found[rows]).all()
        found[rows] = scores
    expected = normalize_rows(FLAT[QUERY]) @ normalize_rows(FLAT[ITEMS]).T
    np.testing.assert_allclose(found, expected[: len(found)], rtol=1e-6)


def test_the_database_is_read_once_a_pass_and_a_block_at_a_time():
    inputs = Counted(IMAGES)
    query, database = LazyVectors(inputs, QUERY), LazyVectors(inputs, ITEMS)
    inputs.reads[:], inputs.most, steps = 0, 0, []

    def track(blocks, description, total):
        steps.append((description, total))
        return blocks

    list(
        inner_products(
            query, database, normalize_rows, memory_bytes=2**22, track=track, description="words"
        )
    )
    # 2^20 bytes hold the products of 90 queries, which is one group of at most 64: four passes, each
    # in blocks of 2^18 bytes of float32, 873 items.
    assert inputs.reads[2000] == 4 and inputs.most == 873
    assert steps == [("words", 4 * 4)]


def test_scores_of_floats_do_not_depend_on_the_memory():
    labels = RNG.integers(0, 5, len(IMAGES))
    multi_hot = (RNG.random((len(IMAGES), 6)) < 0.3).astype(np.int8)
    for known in (labels, multi_hot):
        sides = LazyVectors(IMAGES, QUERY), known[QUERY], LazyVectors(IMAGES, ITEMS), known[ITEMS]
        whole = score_floats(*sides)
        assert score_floats(*sides, memory_bytes=2**19) == pytest.approx(whole, rel=1e-5)
        assert score_floats(FLAT[QUERY], known[QUERY], FLAT[ITEMS], known[ITEMS]) == whole
