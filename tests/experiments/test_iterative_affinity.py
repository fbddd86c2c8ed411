"""The core of iterative affinity learning on pixels: its energy, its propagation, and its mining."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="module")
def pixels():
    sys.path.insert(0, str(EXPERIMENTS))
    try:
        import iterative_affinity
    finally:
        sys.path.remove(str(EXPERIMENTS))
    return iterative_affinity


def test_a_chain_of_four_by_hand(pixels):
    chain, none = jnp.array([1.0, 0.8, 0.1, 0.0])[None, :, None], jnp.zeros((0, 4))
    weights = jnp.array([[1.0, 0.5, 1.0]])
    assert pixels.energy(chain, weights, none) == pytest.approx(0.295)
    after = pixels.propagate(chain, weights, none)
    np.testing.assert_allclose(after[0, :, 0], [0.8, 0.65, 0.35, 0.1], atol=1e-6)
    assert pixels.energy(after, weights, none) == pytest.approx(0.13)


def test_a_propagation_is_a_step_along_the_gradient_of_half_the_energy(pixels):
    """On a grid, with the matrix L = D - W of its pairs of neighbors."""
    rng = np.random.default_rng(0)
    maps = jnp.asarray(rng.normal(size=(3, 4, 2)), jnp.float32)
    right, down = (jnp.asarray(rng.random(shape), jnp.float32) for shape in ((3, 3), (2, 4)))
    found = pixels.propagate(maps, right, down)
    slope = jax.grad(pixels.energy)(maps, right, down)
    np.testing.assert_allclose(found, maps - slope / 2, rtol=1e-5, atol=1e-6)
    weights = np.zeros((12, 12))
    number = np.arange(12).reshape(3, 4)
    for one, other, weight in (
        (number[:, :-1], number[:, 1:], right),
        (number[:-1], number[1:], down),
    ):
        weights[one, other] = weights[other, one] = weight
    laplacian = np.diag(weights.sum(1)) - weights
    flat = np.asarray(maps).reshape(12, 2)
    expected = ((np.eye(12) - laplacian) @ flat).reshape(3, 4, 2)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert pixels.energy(maps, right, down) == pytest.approx(
        np.sum(flat * (laplacian @ flat)), rel=1e-5
    )


def test_a_region_teaches_if_most_pixels_agree_and_its_features_confirm_them(pixels):
    images = pixels.make_images(10, 0)
    maps = np.eye(pixels.CLASSES, dtype=np.float32)[images.truth]
    features = np.concatenate([images.pixels, maps], axis=-1)
    labels = pixels.mine(images, maps, features)
    taught = labels.sum(-1) > 0
    assert taught.mean() > 0.8
    region = np.arange(10)[:, None, None] * pixels.SUPERPIXELS + images.superpixels
    for number in np.unique(region[taught]):
        inside = region == number
        assert taught[inside].all()
        chosen = labels[inside][0].argmax()
        assert (images.truth[inside] == chosen).mean() >= pixels.AGREEMENT
    mixed = maps.copy()
    mixed[region == 5] = np.eye(pixels.CLASSES)[np.arange((region == 5).sum()) % 2]
    assert not pixels.mine(images, mixed, features)[region == 5].any()


def test_images_show_their_classes_and_superpixels_keep_to_colors(pixels):
    images = pixels.make_images(4, 1)
    for truth, shown in zip(images.truth, images.shown, strict=True):
        np.testing.assert_array_equal(np.unique(truth[truth > 0]), np.flatnonzero(shown[1:]) + 1)
    region = np.arange(4)[:, None, None] * pixels.SUPERPIXELS + images.superpixels
    counts = np.stack(
        [np.bincount(region.ravel(), (images.truth == c).ravel()) for c in range(pixels.CLASSES)]
    )
    assert counts.max(0).sum() / counts.sum() > 0.93  # one class for nearly all of a superpixel
