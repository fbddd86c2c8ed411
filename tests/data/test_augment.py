"""Crop and flip against a loop over images."""

import numpy as np
import pytest

from jaxhash.data.augment import Augment


def images(n=5, height=4, width=6, channels=3, dtype=np.uint8):
    shape = (n, height, width, channels)
    return np.random.default_rng(0).integers(1, 256, shape).astype(dtype)


def draw(augment, n, seed=0):
    return augment.draw(n, np.random.default_rng(seed))


def moved(image, crop, down, right, flip):
    """One image pixel by pixel: a window of the zero-padded image, then mirrored."""
    height, width, _ = image.shape
    result = np.zeros_like(image)
    for y, x in np.ndindex(height, width):
        source_y, source_x = y + down - crop, x + right - crop
        if 0 <= source_y < height and 0 <= source_x < width:
            result[y, width - 1 - x if flip else x] = image[source_y, source_x]
    return result


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("crop", [0, 1, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_images_are_moved_as_drawn(crop, flip, dtype):
    augment = Augment(crop, flip)
    before, draws = images(20, dtype=dtype), draw(augment, 20)
    after = augment.apply(before, draws)
    assert after.dtype == dtype
    expected = [moved(x, crop, *numbers) for x, numbers in zip(before, draws, strict=True)]
    np.testing.assert_array_equal(after, expected)


@pytest.mark.parametrize("shape", [(4, 6, 3), (7,)])
def test_without_crop_and_flip_nothing_moves(shape):
    inputs = np.random.default_rng(0).normal(size=(5, *shape))
    np.testing.assert_array_equal(Augment().apply(inputs, draw(Augment(), 5)), inputs)


def test_the_images_given_are_left_alone():
    before = images()
    Augment(2, True).apply(before, draw(Augment(2, True), 5))
    np.testing.assert_array_equal(before, images())


@pytest.mark.parametrize("crop", [0, 1, 2])
@pytest.mark.parametrize("flip", [False, True])
def test_all_shifts_and_flips_are_drawn_alike(crop, flip):
    draws = draw(Augment(crop, flip), 20_000)
    kinds, counts = np.unique(draws, axis=0, return_counts=True)
    shifts = range(2 * crop + 1)
    every = [[i, j, k] for i in shifts for j in shifts for k in range(1 + flip)]
    np.testing.assert_array_equal(kinds, every)
    mean = 20_000 / len(every)
    assert (abs(counts - mean) < 5 * np.sqrt(mean) + 1).all()


def test_draws_follow_the_generator():
    augment = Augment(2, True)
    np.testing.assert_array_equal(draw(augment, 50), draw(augment, 50))
    assert (draw(augment, 50) != draw(augment, 50, seed=1)).any()
