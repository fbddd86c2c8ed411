"""Codes that come in pieces are packed and measured as the whole is."""

import numpy as np
import pytest

from jaxhash.metrics import _quantization_error, quantization_error
from jaxhash.ops.codes import binarize
from jaxhash.retrieval import packed_codes
from jaxhash.retrieval.packed_codes import CodePacker, as_packed_codes

ITEMS, BITS = 300, 11
CODES = np.random.default_rng(0).normal(0.2, size=(ITEMS, BITS)).astype(np.float32)
CODES[5, :3] = 0.0


def pack(codes, borders, **options):
    packer = CodePacker(len(codes), **options)
    for first, last in zip(borders, borders[1:], strict=False):
        packer.add(codes[first:last])
    return packer.finish()


@pytest.mark.parametrize("borders", [[0, 300], [0, 1, 2, 290, 300], [*range(0, 301, 20)]])
@pytest.mark.parametrize("block", [7, 299, 10**6])
def test_pieces_are_the_whole(monkeypatch, borders, block):
    """Also the rounding of the error, whose blocks are those of the whole."""
    monkeypatch.setattr(_quantization_error, "_VALUES", block * BITS + 3)
    monkeypatch.setattr(packed_codes, "MAX_SAMPLED_ITEMS", 70)
    found, whole = pack(CODES, borders, values_bytes=CODES.nbytes), as_packed_codes(CODES)
    np.testing.assert_array_equal(found.packed, np.packbits(CODES >= 0, axis=1))
    np.testing.assert_array_equal(whole.packed, found.packed)
    assert found.quantization_error == whole.quantization_error == quantization_error(CODES)
    np.testing.assert_array_equal(found.values, CODES)
    for each in (found, whole):
        np.testing.assert_array_equal(each.sample, CODES[::5])
        np.testing.assert_array_equal(each[np.array([5, 0])], binarize(CODES[[5, 0]]))
    some, other = found.statistics, whole.statistics
    assert some.values.absolute == pytest.approx(other.values.absolute, rel=1e-12)
    assert some._replace(values=None) == other._replace(values=None)
    assert some.values[:4] + some.values[5:] == other.values[:4] + other.values[5:]


def test_values_are_kept_within_their_bytes():
    assert pack(CODES, [0, 150, 300], values_bytes=CODES.nbytes - 1).values is None


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_values_that_are_not_finite_are_no_error_yet(wrong):
    broken = CODES.copy()
    broken[7, 2] = wrong
    for found in (pack(broken, [0, 100, 300]), as_packed_codes(broken)):
        assert not found.is_finite and np.isnan(found.quantization_error)
    assert as_packed_codes(CODES).is_finite
