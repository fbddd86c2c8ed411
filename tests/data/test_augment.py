"""Crop and flip against a loop over images, on host and device; dropped entries against their law."""

import jax
import numpy as np
import pytest

from jaxhash.data.augment import Augment, DeferredAugment


def images(n=5, height=4, width=6, channels=3, dtype=np.uint8):
    shape = (n, height, width, channels)
    return np.random.default_rng(0).integers(1, 256, shape).astype(dtype)


def draw(augment, n, seed=0):
    return augment.sample(n, np.random.default_rng(seed))


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


def test_the_numbers_drawn_stay_what_they_are():
    """Stored results depend on them."""
    numbers = draw(Augment(2, True), 4, seed=1).tolist()
    assert numbers == [[2, 2, 0], [3, 4, 0], [0, 0, 1], [4, 4, 0]]


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


# On the device


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("crop", "flip"), [(0, False), (3, False), (0, True), (2, True)])
def test_a_device_moves_images_to_the_same_bits(crop, flip, dtype, compiled):
    augment = Augment(crop, flip)
    before, draws = images(20, dtype=dtype), [draw(augment, 20, seed) for seed in (0, 1)]
    on_device = jax.jit(augment.on_device) if compiled else augment.on_device
    one = on_device(DeferredAugment(before, (draws[0],)))
    views = on_device(DeferredAugment(before, tuple(draws)))
    assert isinstance(views, tuple)
    for after, drawn in zip((one, *views), (draws[0], *draws), strict=True):
        assert after.dtype == dtype
        np.testing.assert_array_equal(after, augment.apply(before, drawn))


@pytest.mark.parametrize("transform", [jax.pmap, jax.vmap])
def test_rows_are_moved_apart_from_each_other(transform):
    """Four rows on each of five devices, or mapped."""
    augment = Augment(2, True)
    before, draws = images(20), draw(augment, 20)
    split = [array.reshape(5, 4, *array.shape[1:]) for array in (before, draws)]
    after = transform(augment.on_device)(DeferredAugment(split[0], (split[1],)))
    np.testing.assert_array_equal(np.concatenate(after), augment.apply(before, draws))


def test_a_device_drops_no_entries():
    with pytest.raises(ValueError, match="feature_dropout .* on the host"):
        Augment(feature_dropout=0.5).on_device(
            DeferredAugment(images(), (draw(Augment(feature_dropout=0.5), 5),))
        )


# Dropped entries


def vectors(n=400, entries=50, dtype=np.float32):
    return np.random.default_rng(0).normal(size=(n, entries)).astype(dtype)


def dropped(augment, before, seed=0):
    return augment.apply(before, draw(augment, len(before), seed))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_an_entry_is_zero_or_scaled(dtype):
    before = vectors(dtype=dtype)
    after = dropped(Augment(feature_dropout=0.75), before)
    assert after.dtype == dtype
    kept = after != 0
    np.testing.assert_array_equal(after[kept], 4 * before[kept])


@pytest.mark.parametrize("drop", [0.1, 0.5, 0.9])
def test_entries_are_dropped_alike_and_apart(drop):
    """Returns the counts of each row, each column, each pair of neighbors, and of neighboring rows."""
    n, entries = 400, 300
    zero = dropped(Augment(feature_dropout=drop), np.ones((n, entries), np.float32)) == 0

    def assert_probability(events, probability):
        trials = np.shape(events)[0]
        spread = np.sqrt(probability * (1 - probability) / trials)
        assert (abs(np.mean(events, axis=0) - probability) < 5 * spread).all()

    assert_probability(zero.ravel(), drop)
    assert_probability(zero, drop)
    assert_probability(zero.T, drop)
    assert_probability((zero[:, 1:] & zero[:, :-1]).ravel()[::2], drop**2)
    assert_probability((zero[1:] & zero[:-1]).ravel()[::2], drop**2)


def test_the_mean_of_an_entry_stays():
    before = np.full((20_000, 2), 3.0, np.float32)
    np.testing.assert_allclose(
        dropped(Augment(feature_dropout=0.5), before).mean(axis=0), 3.0, rtol=0.03
    )


def test_zeros_follow_the_generator_and_the_row():
    augment, before = Augment(feature_dropout=0.5), vectors()
    draws = draw(augment, len(before))
    after = augment.apply(before, draws)
    np.testing.assert_array_equal(dropped(augment, before), after)
    np.testing.assert_array_equal(augment.apply(before[7:9], draws[7:9]), after[7:9])
    assert (dropped(augment, before, seed=1) != after).any()


def test_what_is_dropped_may_be_anything():
    before = np.full((50, 4), np.nan, np.float32)
    after = dropped(Augment(feature_dropout=0.5), before)
    assert set(after[~np.isnan(after)]) == {0.0}


def test_the_vectors_given_are_left_alone():
    before = vectors()
    dropped(Augment(feature_dropout=0.5), before)
    np.testing.assert_array_equal(before, vectors())


@pytest.mark.parametrize("drop", [-0.1, 1.0, np.nan])
def test_a_share_that_is_none(drop):
    with pytest.raises(ValueError, match="feature_dropout must be at least 0 and below 1"):
        Augment(feature_dropout=drop)


@pytest.mark.parametrize("inputs", [images(), images(dtype=np.float32), np.ones((5, 2), np.uint8)])
def test_only_of_floating_vectors_entries_are_dropped(inputs):
    with pytest.raises(ValueError, match="feature_dropout is for floating vectors"):
        dropped(Augment(feature_dropout=0.5), inputs)


@pytest.mark.parametrize("augment", [Augment(2, True, 0.5), Augment(crop=2, feature_dropout=0.5)])
def test_of_images_nothing_is_dropped_even_if_they_are_moved(augment):
    with pytest.raises(ValueError, match="feature_dropout is for floating vectors"):
        dropped(augment, images(dtype=np.float32))
