"""The health of a set of codes, by hand, by loops and at the extremes."""

import numpy as np
import pytest

from jaxhash.metrics import bit_balance, quantization_error


def test_bit_balance_by_hand():
    """Means of the bits: 1, 0 and -1/2."""
    codes = np.array([[1, 1, 1], [1, -1, -1], [1, 1, -1], [1, -1, -1]], np.int8)
    assert bit_balance(codes) == (0 + 1 + 1 / 2) / 3


def test_quantization_error_by_hand():
    codes = np.array([[0.5, -1.0], [0.0, -3.0]])
    assert quantization_error(codes) == (0.5**2 + 0 + 1 + 2**2) / 4


def test_both_are_their_loops():
    codes = np.random.default_rng(0).normal(0.3, size=(7, 5))
    signs = np.where(codes >= 0, 1, -1).astype(np.int8)
    balance = sum(1 - abs(sum(map(int, bit))) / 7 for bit in signs.T) / 5
    error = sum((u - s) ** 2 for u, s in zip(codes.flat, signs.flat, strict=True)) / 35
    assert bit_balance(signs) == pytest.approx(balance)
    assert quantization_error(codes) == pytest.approx(error)


@pytest.mark.parametrize("sign", [-1, 1])
def test_extremes(sign):
    """Constant bits have no balance; a bit and its complement together do not make up for it."""
    constant = np.full((6, 2), sign, np.int8)
    opposite = constant * np.array([1, -1], np.int8)
    split = constant * np.array([1, -1] * 3, np.int8)[:, None]
    assert bit_balance(constant) == bit_balance(opposite) == 0.0
    assert bit_balance(split) == 1.0
    assert quantization_error(split.astype(np.float32)) == 0.0
    assert quantization_error(np.zeros((3, 2), np.float32)) == 1.0


def test_low_precision_loses_no_digits():
    """In int8 the sum of 200 codes would wrap around; in float16 a square has three digits."""
    assert bit_balance(np.ones((200, 1), np.int8)) == 0.0
    codes = np.full((200, 1), 0.1, np.float16)
    assert quantization_error(codes) == pytest.approx((float(codes[0, 0]) - 1) ** 2, rel=1e-12)
