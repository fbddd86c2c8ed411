"""Sources by name: the digits, and names that open nothing."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from jaxhash.data.load import load_source


def test_digits_are_those_of_scikit_learn():
    source, digits = load_source("digits"), load_digits()
    images = source.inputs
    assert (images.shape, images.dtype) == ((1797, 8, 8, 1), np.uint8)
    assert (images.min(), images.max()) == (0, 255)
    np.testing.assert_array_equal(np.rint(images[..., 0] / 255 * 16), digits.images)
    np.testing.assert_array_equal(source.labels, digits.target)
    assert source.class_names == tuple("0123456789")


@pytest.mark.parametrize("name", ["digit", "digits:8", "tfds:", "features:", "folder:", "tfds", ""])
def test_unknown_name(name, error_line):
    assert error_line(name).startswith(f"`dataset={name!r}`: expected 'digits', 'folder:DIR'")


@pytest.mark.parametrize("name", ["digits", "tfds:mnist", "features:a.npz"])
def test_missing_data_dir(name, tmp_path, error_line):
    line = error_line(name, tmp_path / "nowhere")
    assert line == f"`data_dir={tmp_path / 'nowhere'}`: there is no such folder"
