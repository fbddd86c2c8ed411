"""The core of Iterative Affinity Learning on pixels, with and without mined confident regions.

    python experiments/iterative_affinity.py

Wang, Liu, Ma, Yang, "Weakly-Supervised Semantic Segmentation by Iterative Affinity Learning" (IJCV
2020), segments images of which only the classes are known. The affinities of pixels, which propagate
the output of a network, are learned anew from what was propagated, and confident regions alone teach
them. Published on VOC12 (train mIoU at iterations 1 to 5): with mining 55.2, 59.5, 61.4, 62.7, 63.1; an
earlier method iterated without it 55.6, 54.9, 52.1, 49.8, 48.1.

Known from a review are J, G = I - L, alpha_p = G alpha_u, the losses, the 80 % of a superpixel and a
region classifier that confirms it. What is small here, and a reading: images of 32 x 32 pixels that
`make_images` draws; nets of a few convolutions; weights of the four neighbors of a pixel for the spatial
propagation network, so that G is applied many times; k-means for superpixels; and logistic regression of
mean features, on other folds, for the region classifier. A seed takes about two minutes on a CPU core.
"""

import functools
import statistics
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from jaxtyping import Array, Float, Int, PyTree
from rich.console import Console
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from jaxhash.training.devices import hardware
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import versions

PATH = Path(__file__).parent / "results" / "iterative_affinity.json"

SIZE, CLASSES, SUPERPIXELS = 32, 4, 64  # the first class is the background
STEPS, BATCH = 20, 10  # propagations by G, images of a training step

#: Share of a superpixel's pixels that must have one class, as published.
AGREEMENT = 0.8

Maps = Float[Array, "h w classes"]


class Images(NamedTuple):
    """Images, the classes that each shows, the class of each pixel, and its superpixel."""

    pixels: Float[np.ndarray, "n h w 3"]
    shown: Float[np.ndarray, "n classes"]
    truth: Int[np.ndarray, "n h w"]
    superpixels: Int[np.ndarray, "n h w"]


# The energy of a grid of pixels


def gaps(maps: Maps) -> tuple[Maps, Maps]:
    """Returns the differences of each pixel from its right and from its lower neighbor."""
    return maps[:, 1:] - maps[:, :-1], maps[1:] - maps[:-1]


def energy(maps: Maps, right: Float[Array, "h v"], down: Float[Array, "u w"]) -> Float[Array, ""]:
    r"""Computes :math:`J = \alpha^\top L \alpha`, a sum of w (a_i - a_j)^2 over the pairs of neighbors.

    Example:
        >>> chain, none = jnp.array([1.0, 0.8, 0.1, 0.0]), jnp.zeros((0, 4))
        >>> energy(chain[None, :, None], jnp.array([[1.0, 0.5, 1.0]]), none).round(3)
        Array(0.295, dtype=float32)
    """
    across, along = gaps(maps)
    return jnp.sum(right[..., None] * across**2) + jnp.sum(down[..., None] * along**2)


def propagate(maps: Maps, right: Float[Array, "h v"], down: Float[Array, "u w"]) -> Maps:
    r"""Computes :math:`G \alpha = (I - L) \alpha`: a step along the gradient of J / 2.

    Example:
        >>> chain, none = jnp.array([1.0, 0.8, 0.1, 0.0]), jnp.zeros((0, 4))
        >>> after = propagate(chain[None, :, None], jnp.array([[1.0, 0.5, 1.0]]), none)
        >>> after[0, :, 0].round(2)
        Array([0.8 , 0.65, 0.35, 0.1 ], dtype=float32)
    """
    across, along = gaps(maps)
    across, along = right[..., None] * across, down[..., None] * along
    before, after = (1, 0), (0, 1)

    def pad(flow, rows=(0, 0), columns=(0, 0)):
        return jnp.pad(flow, (rows, columns, (0, 0)))

    maps = maps + pad(across, columns=after) - pad(across, columns=before)
    return maps + pad(along, rows=after) - pad(along, rows=before)


def propagate_often(maps: Maps, right: Float[Array, "h v"], down: Float[Array, "u w"]) -> Maps:
    """Applies G `STEPS` times: a pixel hears of its neighbors only, once each."""
    return jax.lax.fori_loop(0, STEPS, lambda _, each: propagate(each, right, down), maps)


# Data


def make_images(number: int, seed: int) -> Images:
    """Draws images of one or two objects.

    All objects have bodies of like colors, and a small core by whose color their class is known. So a
    classifier of images finds the cores, and only affinities lead from them to the bodies.
    """
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    pixels = np.empty((number, SIZE, SIZE, 3), np.float32)
    truth = np.zeros((number, SIZE, SIZE), np.int32)
    for image, classes in zip(pixels, truth, strict=True):
        image[:] = rng.uniform(0.35, 0.55) + rng.normal(scale=0.03, size=3)
        kinds = [0] * 2 + list(rng.choice(np.arange(1, CLASSES), rng.integers(1, 3), replace=False))
        for kind in kinds:  # two patches of the background, then the objects
            center, radii = rng.uniform(7, SIZE - 7, 2), rng.uniform(4.5, 8, 2)
            inside = ((y - center[0]) / radii[0]) ** 2 + ((x - center[1]) / radii[1]) ** 2 < 1
            body = np.array([0.75, 0.65, 0.3]) if kind else np.array([0.45, 0.55, 0.6])
            image[inside] = body + rng.normal(scale=0.06, size=3)
            classes[inside] = kind
            if kind:
                offset = center + rng.uniform(-0.4, 0.4, 2) * radii
                core = (y - offset[0]) ** 2 + (x - offset[1]) ** 2 < rng.uniform(1.8, 2.8) ** 2
                image[core & inside] = 0.2 + 0.6 * np.eye(3)[kind - 1]
        image += rng.normal(scale=0.06, size=image.shape)
    shown = (truth[:, None] == np.arange(CLASSES)[:, None, None]).any((2, 3)).astype(np.float32)
    shown[:, 0] = 1.0
    return Images(pixels, shown, truth, np.asarray(jax.vmap(superpixels)(pixels)))


def superpixels(image: Float[Array, "h w 3"]) -> Int[Array, "h w"]:
    """Clusters pixels by color and place: ten steps of k-means from a grid of centers."""
    side, per_side = SIZE / SUPERPIXELS**0.5, int(SUPERPIXELS**0.5)
    place = jnp.stack(jnp.mgrid[:SIZE, :SIZE], axis=-1) / side
    points = jnp.concatenate([6.0 * image, place], axis=-1).reshape(-1, 5)
    grid = (jnp.arange(per_side) * side + side / 2).astype(int)
    rows = (grid[:, None] * SIZE + grid[None, :]).reshape(-1)

    def nearest(centers):
        return jnp.argmin(jnp.sum((points[:, None] - centers[None]) ** 2, axis=-1), axis=1)

    def step(_, centers):
        member = jax.nn.one_hot(nearest(centers), SUPERPIXELS)
        return member.T @ points / jnp.maximum(member.sum(axis=0), 1e-6)[:, None]

    return nearest(jax.lax.fori_loop(0, 10, step, points[rows])).reshape(SIZE, SIZE)


# Networks


class Net(nn.Module):
    """Three convolutions and a linear layer: from images to maps."""

    outputs: int
    width: int = 16

    @nn.compact
    def __call__(self, x: Float[Array, "n h w 3"]) -> Float[Array, "n h w outputs"]:
        """Returns the maps."""
        x = 4.0 * (x - 0.5)
        for _ in range(3):
            x = nn.relu(nn.Conv(self.width, (3, 3))(x))
        return nn.Dense(self.outputs)(x)


UNARY, PAIRWISE = Net(CLASSES), Net(8)
OPTIMIZER = optax.adam(3e-3)


@jax.jit
def unary(params: PyTree, pixels: Array, shown: Array) -> Float[Array, "n h w classes"]:
    """Returns class probabilities of the pixels, among the classes that an image shows."""
    logits = UNARY.apply(params, pixels)
    return nn.softmax(jnp.where(shown[:, None, None] > 0, logits, -1e9))


def affinities(params: PyTree, pixels: Array) -> tuple[Array, Array]:
    """Returns the weights of right and lower neighbors: at most 1/4 each, so that G is averaging."""
    features = PAIRWISE.apply(params, pixels)
    return tuple(
        0.25 * jnp.exp(-jnp.mean(jnp.abs(gap), axis=-1)) for gap in jax.vmap(gaps)(features)
    )


@jax.jit
def expectation(params: tuple[PyTree, PyTree], pixels: Array, shown: Array) -> tuple[Array, Array]:
    """Returns alpha_u and alpha_p of images."""
    maps = unary(params[0], pixels, shown)
    return maps, jax.vmap(propagate_often)(maps, *affinities(params[1], pixels))


def image_loss(params: PyTree, pixels: Array, shown: Array) -> Float[Array, ""]:
    """The classes of an image from a smooth maximum of its maps, for class activation maps."""
    maps = UNARY.apply(params, pixels)
    scores = nn.logsumexp(maps, axis=(1, 2)) - jnp.log(SIZE**2)
    return jnp.mean(optax.sigmoid_binary_cross_entropy(scores, shown)[:, 1:])


def balanced_cross_entropy(maps: Array, target: Array) -> Float[Array, ""]:
    """Averages over the pixels of each class, then over classes; pixels without a target do not count.

    So that the background, most of each image, is not all that is learned.
    """
    totals = jnp.sum(target, axis=(0, 1, 2))
    costs = -jnp.sum(target * jnp.log(maps + 1e-6), axis=(0, 1, 2)) / jnp.maximum(totals, 1.0)
    return jnp.sum(costs) / jnp.maximum(jnp.sum(totals > 0), 1)


def unary_loss(params: PyTree, pixels: Array, shown: Array, target: Array) -> Float[Array, ""]:
    """Cross-entropy of the pixels with a target."""
    return balanced_cross_entropy(unary(params, pixels, shown), target)


def pairwise_loss(
    params: PyTree, pixels: Array, maps: Array, target: Array, same: tuple[Array, Array]
) -> Float[Array, ""]:
    """Cross-entropy of alpha_p at the confident pixels, and the smoothness of superpixels."""
    weights = affinities(params, pixels)
    propagated = jax.vmap(propagate_often)(maps, *weights)
    smooth = sum(jnp.mean((4 * w - s) ** 2) for w, s in zip(weights, same, strict=True))
    return balanced_cross_entropy(propagated, target) + smooth


def train(loss: Callable, params: PyTree, seed: int, data: PyTree, epochs: int) -> PyTree:
    """Trains by Adam from zero moments."""
    rng, number = np.random.default_rng(seed), len(jax.tree.leaves(data)[0])
    state = OPTIMIZER.init(params)
    for _ in range(epochs):
        for rows in rng.permutation(number).reshape(-1, BATCH):
            batch = jax.tree.map(lambda array, rows=rows: array[rows], data)
            params, state = step(loss, params, state, batch)
    return params


@functools.partial(jax.jit, static_argnums=0)
def step(loss: Callable, params: PyTree, state: PyTree, batch: PyTree) -> tuple[PyTree, PyTree]:
    """Updates the parameters by the gradient of a batch."""
    updates, state = OPTIMIZER.update(jax.grad(loss)(params, *batch), state)
    return optax.apply_updates(params, updates), state


# The iteration


def seeds_of(params: PyTree, images: Images) -> Float[np.ndarray, "n h w classes"]:
    """Returns the seeds Y_0: pixels with a large activation of a shown class, and the image's border."""
    maps = np.asarray(UNARY.apply(params, images.pixels))[..., 1:]
    maps = np.maximum(maps, 0) * images.shown[:, None, None, 1:]
    maps = maps / np.maximum(maps.max((1, 2), keepdims=True), 1e-6)
    largest = maps.max(-1, keepdims=True)
    seeds = np.zeros((*maps.shape[:3], CLASSES), np.float32)
    seeds[..., 1:] = (maps == largest) & (largest > 0.5)
    border = np.ones((SIZE, SIZE), bool)
    border[2:-2, 2:-2] = False
    seeds[..., 0] = border & (largest[..., 0] < 0.2)
    return seeds


def mine(images: Images, maps: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Returns the labels of the pixels of confident regions, and zeros elsewhere.

    A superpixel is confident if enough of its pixels have one class, and if a classifier of mean
    features, fitted to the others, says so too.
    """
    number = len(images.pixels)
    region = (np.arange(number)[:, None, None] * SUPERPIXELS + images.superpixels).ravel()
    counts = np.bincount(region, minlength=number * SUPERPIXELS)
    votes = np.stack(
        [
            np.bincount(region, v.ravel(), len(counts))
            for v in np.eye(CLASSES)[maps.argmax(-1)].transpose(3, 0, 1, 2)
        ],
        1,
    )
    label, share = votes.argmax(1), votes.max(1) / np.maximum(counts, 1)
    chosen = np.flatnonzero((counts > 0) & (share >= AGREEMENT))
    pooled = np.stack(
        [np.bincount(region, f, len(counts)) for f in features.reshape(-1, features.shape[-1]).T], 1
    )
    pooled = pooled[chosen] / counts[chosen, None]
    folds = min(5, np.bincount(label[chosen])[np.unique(label[chosen])].min())
    if folds > 1:
        classifier = LogisticRegression(max_iter=200)
        predicted = cross_val_predict(classifier, pooled, label[chosen], cv=folds)
        chosen = chosen[predicted == label[chosen]]
    confident = np.zeros(len(counts), bool)
    confident[chosen] = True
    labels = np.eye(CLASSES, dtype=np.float32)[label[region]] * confident[region][:, None]
    return labels.reshape(*maps.shape)


def mean_iou(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Returns the mean over classes of intersection over union."""
    both = [
        ((predicted == c) & (truth == c)).sum() / ((predicted == c) | (truth == c)).sum()
        for c in range(CLASSES)
    ]
    return float(np.mean(both))


def iterate(
    images: Images, *, mining: bool, seed: int, iterations: int, epochs: int
) -> Iterator[dict[str, Any]]:
    """Alternates propagation and training; yields the mIoU of alpha_p after each iteration."""
    learn = functools.partial(train, seed=seed, epochs=epochs)
    keys = jax.random.split(jax.random.key(seed), 3)
    pixels, shown = jnp.asarray(images.pixels), jnp.asarray(images.shown)
    same = tuple(
        jnp.asarray(gap == 0, jnp.float32)
        for gap in (np.diff(images.superpixels, axis=2), np.diff(images.superpixels, axis=1))
    )
    cam, *params = (
        net.init(key, pixels[:1]) for net, key in zip((UNARY, UNARY, PAIRWISE), keys, strict=True)
    )
    cam = train(image_loss, cam, seed, (pixels, shown), 3 * epochs)
    target = jnp.asarray(seeds_of(cam, images))
    unary_target = target
    for iteration in range(iterations + 1):
        params[0] = learn(unary_loss, params[0], data=(pixels, shown, unary_target))
        maps = unary(params[0], pixels, shown)
        params[1] = learn(pairwise_loss, params[1], data=(pixels, maps, target, same))
        maps, propagated = expectation(tuple(params), pixels, shown)
        found = np.asarray(propagated).argmax(-1)
        used = np.asarray(target).sum(-1) > 0
        yield {
            "iteration": iteration,
            "miou": mean_iou(found, images.truth),
            "taught": float(used.mean()),
            "taught_accuracy": float((np.asarray(target).argmax(-1) == images.truth)[used].mean()),
        }
        unary_target = everything = jax.nn.one_hot(found, CLASSES)
        features = np.concatenate([images.pixels, np.asarray(maps)], axis=-1)
        target = jnp.asarray(mine(images, np.asarray(maps), features)) if mining else everything


def main(
    images: int = 60, seeds: int = 3, iterations: int = 5, epochs: int = 10, output: Path = PATH
) -> None:
    """Runs both variants with all seeds and collects the results.

    Args:
        images: number of images, a multiple of 10.
        seeds: number of seeds, from 0, of images and networks.
        iterations: iterations after the first training, which is by class activation maps.
        epochs: epochs of each training.
        output: path of the result file.
    """
    content: dict[str, Any] = {
        "command": " ".join(["python", "experiments/iterative_affinity.py", *sys.argv[1:]]),
        "images": images,
        "epochs": epochs,
        "published": {
            "mined": [55.2, 59.5, 61.4, 62.7, 63.1],
            "all": [55.6, 54.9, 52.1, 49.8, 48.1],
        },
        "hardware": hardware(),
        "versions": versions(("jax", "flax", "optax", "scikit-learn", "numpy")),
        "rows": [],
    }
    console = Console(width=120)
    for seed in range(seeds):
        data = make_images(images, seed)
        for variant in ("mined", "all"):
            rows = []
            for row in iterate(
                data, mining=variant == "mined", seed=seed, iterations=iterations, epochs=epochs
            ):
                rows.append(row)
                console.print(variant, seed, row)
            content["rows"].append({"variant": variant, "seed": seed, "iterations": rows})
            write_json(output, content)
    for variant in ("mined", "all"):
        of_seeds = [
            [each["miou"] for each in row["iterations"]]
            for row in content["rows"]
            if row["variant"] == variant
        ]
        console.print(
            variant, [round(statistics.median(values), 4) for values in zip(*of_seeds, strict=True)]
        )


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
