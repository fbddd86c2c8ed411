"""The type `Source`: its parts."""

import numpy as np
import pytest

from jaxhash.data.sources import Source

VECTORS = np.eye(3, dtype=np.float32)


@pytest.mark.parametrize(
    ("parts", "is_test"),
    [
        (("train", "test"), [0, 1]),
        (("train", "validation"), [0, 1]),  # as in ImageNet
        (("train", "validation", "test"), [0, 0, 1]),
        (("database", "query", "train"), [0, 1, 0]),
        (("train", "test", "query"), [0, 1, 1]),
        (("train",), None),
        (("test",), None),
        (("train", "database"), None),
        (None, None),
    ],
)
def test_which_items_are_of_the_test_part(parts, is_test):
    items = 1 if parts is None else len(parts)
    ids = None if parts is None else np.arange(items, dtype=np.int8)
    labels = np.zeros(items, np.int32)
    source = Source("pets", VECTORS[:items], labels, ("cat",), ids, parts=parts)
    assert source.is_test is is_test is None or source.is_test.tolist() == is_test
