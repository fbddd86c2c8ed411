"""Sources of arrays in memory."""

import numpy as np
import pytest

from jaxhash.data import from_arrays
from jaxhash.utils.errors import UserError

VECTORS, CLASSES = np.arange(8.0).reshape(4, 2), np.array([0, 1, 1, -1])
IMAGES = np.zeros((4, 3, 3, 1), np.uint8)


@pytest.mark.parametrize("inputs", [VECTORS, VECTORS.astype(np.int8), IMAGES])
def test_inputs_are_float32_vectors_or_the_images(inputs):
    source = from_arrays(inputs, CLASSES.tolist(), name="mine")
    assert source.inputs.dtype == (np.uint8 if inputs.ndim == 4 else np.float32)
    np.testing.assert_array_equal(source.inputs, inputs)
    np.testing.assert_array_equal(source.labels, CLASSES)
    assert (source.name, source.class_names, source.parts) == ("mine", ("0", "1"), None)


def test_labels_may_be_rows_and_items_may_have_parts():
    rows = np.eye(4, 2, dtype=bool)
    source = from_arrays(
        VECTORS, rows, class_names=["a", "b"], parts=["train", "test", "train", "test"]
    )
    np.testing.assert_array_equal(source.labels, rows)
    assert source.class_names == ("a", "b")
    assert {k: v.tolist() for k, v in source.items_by_part.items()} == {
        "train": [0, 2], "test": [1, 3],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"inputs": IMAGES.astype(float)}, "`inputs`.*float64"),
        ({"inputs": IMAGES[..., 0]}, "`inputs`.*(4, 3, 3)"),
        ({"inputs": VECTORS.astype(str)}, "`inputs`"),
        ({"inputs": VECTORS[:0], "labels": CLASSES[:0]}, "`inputs`"),
        ({"inputs": VECTORS * np.nan}, "`inputs`.*finite"),
        ({"labels": CLASSES[1:]}, "`labels`.* 3 .*`inputs`.* 4"),
        ({"labels": CLASSES - 1}, "`labels`"),
        ({"labels": CLASSES + 0.5}, "`labels`"),
        ({"labels": np.full((4, 2), 2)}, "`labels`"),
        ({"class_names": ["a"]}, "`class_names`"),
        ({"parts": ["train"] * 3}, "`parts`.*train.* 4 items"),
        ({"parts": ["training"] * 4}, "`parts`.*train"),
    ],
)
def test_what_does_not_fit_is_refused(changed, said):
    said = said.replace("(", "\\(").replace(")", "\\)")
    with pytest.raises(UserError, match=said):
        from_arrays(**{"inputs": VECTORS, "labels": CLASSES} | changed)
