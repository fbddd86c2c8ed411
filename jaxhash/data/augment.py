"""Augments a batch: random crop and flip of images, or random zeros in feature vectors.

NumPy on the host and JAX on the device compute the same bits from the same random numbers.
"""

import dataclasses
from types import ModuleType
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Shaped, UInt64

from jaxhash.data.random_bits import random_bits
from jaxhash.data.rows import map_rows

#: Where training batches are augmented.
AugmentDevice = Literal["host", "device"]


class DeferredAugment(NamedTuple):
    """Images with the random numbers of their augmentation, which is left to the device.

    All views share the images, so they are copied to the device once.
    """

    images: Shaped[Any, "n height width channels"]
    """The images as the source holds them."""
    samples: tuple[Int[Any, "n 3"], ...]
    """Per view, the numbers of `Augment.sample`."""


@dataclasses.dataclass(frozen=True)
class Augment:
    """Crops images, padded with zeros, and flips them left to right; or drops entries of vectors.

    Attributes:
        crop: padding on each side in pixels; 0 for no shift.
        flip: whether to flip each image with probability 1/2.
        feature_dropout: probability that an entry of a feature vector is set to 0, in [0, 1). The others
            are divided by 1 - feature_dropout, which preserves the mean.

    Raises:
        ValueError: if ``feature_dropout`` is not in [0, 1).
    """

    crop: int = 0
    flip: bool = False
    feature_dropout: float = 0.0

    def __post_init__(self) -> None:
        """Checks the probability."""
        if not 0.0 <= self.feature_dropout < 1.0:
            raise ValueError(
                f"feature_dropout must be at least 0 and below 1, got {self.feature_dropout}"
            )

    def sample(self, n: int, rng: np.random.Generator) -> Int[np.ndarray, "n numbers"]:
        """Samples the random numbers of n inputs.

        Returns:
            Per input: shift down, shift right, flip, and with feature dropout a seed.
        """
        shifts = rng.integers(0, 2 * self.crop + 1, (n, 2))
        numbers = [shifts, rng.integers(0, 2, (n, 1)) * self.flip]
        if self.feature_dropout:
            numbers.append(rng.integers(0, 2**63, (n, 1)))
        return np.concatenate(numbers, axis=1)

    def apply(
        self, inputs: Shaped[np.ndarray, " n *shape"], sample: Int[np.ndarray, "n numbers"]
    ) -> Shaped[np.ndarray, " n *shape"]:
        """Augments images or vectors by the numbers of `sample`.

        Raises:
            ValueError: if there is feature dropout and inputs are no floating vectors.
        """
        is_vectors = inputs.ndim == 2 and np.issubdtype(inputs.dtype, np.floating)
        if self.feature_dropout and not is_vectors:
            raise ValueError(
                "feature_dropout is for floating vectors [n, entries], got inputs of shape "
                f"{inputs.shape} and dtype {inputs.dtype}"
            )
        if self.crop or self.flip:
            inputs = _crop_and_flip(inputs, sample, self.crop, np)
        if self.feature_dropout:
            dtype = inputs.dtype.type
            keep = _keep_mask(sample[:, 3].astype(np.uint64), inputs.shape[1], self.feature_dropout)
            inputs = np.where(keep, inputs / dtype(1 - self.feature_dropout), dtype(0))
        return inputs

    def fitting(self, inputs: Shaped[np.ndarray, "n ..."]) -> "Augment":
        """Returns what this augmentation does to one part of a tree of inputs.

        Images are cropped and flipped, floating vectors lose entries, and all else stays as it is.

        Example:
            >>> Augment(crop=2, feature_dropout=0.1).fitting(np.zeros((1, 5), np.float32))
            Augment(crop=0, flip=False, feature_dropout=0.1)
        """
        if inputs.ndim == 4 and inputs.dtype == np.uint8:
            return dataclasses.replace(self, feature_dropout=0.0)
        dropout = self.feature_dropout if np.issubdtype(inputs.dtype, np.floating) else 0.0
        return Augment(feature_dropout=dropout)

    def sample_and_apply(
        self,
        inputs: Any,
        rng: np.random.Generator,
        *,
        rows: int | None = None,
        of: slice = slice(None),
    ) -> Any:
        """Augments inputs, or each part of a tree of them by numbers of its own.

        Args:
            inputs: rows of a batch, or a dict of them; each part is augmented as `fitting` says.
            rng: source of the random numbers.
            rows: number of rows to sample for; that of the inputs by default.
            of: which of these rows the inputs are.
        """

        def augment(part, fitting):
            sample = self.sample(len(part) if rows is None else rows, rng)[of]
            return fitting.apply(part, sample)

        if isinstance(inputs, dict):
            return map_rows(lambda part: augment(part, self.fitting(part)), inputs)
        return augment(inputs, self)

    def on_device(
        self, deferred: DeferredAugment
    ) -> Shaped[Array, "n height width channels"] | tuple[Shaped[Array, "..."], ...]:
        """Does what `apply` does, to the last bit, by JAX.

        It is a pure function that treats rows independently, so it works under ``jax.jit``,
        ``jax.vmap``, ``jax.pmap`` and ``jax.shard_map``.

        Args:
            deferred: images and numbers from `jaxhash.data.pipeline.training_batches`.

        Returns:
            The augmented images; a tuple if there are several views.

        Raises:
            ValueError: if there is feature dropout, which only the host computes.

        Example:
            >>> augment = Augment(crop=1, flip=True)
            >>> images = np.arange(32, dtype=np.uint8).reshape(2, 4, 4, 1)
            >>> sample = augment.sample(2, np.random.default_rng(0))
            >>> augmented = augment.on_device(DeferredAugment(images, (sample,)))
            >>> bool((augmented == augment.apply(images, sample)).all())
            True
        """
        self.check_on_device()
        images = jnp.asarray(deferred.images)
        views = tuple(images for _ in deferred.samples)
        if self.crop or self.flip:
            views = tuple(
                _crop_and_flip(images, jnp.asarray(sample), self.crop, jnp)
                for sample in deferred.samples
            )
        return views if len(views) > 1 else views[0]

    def check_on_device(self) -> None:
        """Raises a ValueError if `on_device` does not support this augmentation."""
        if self.feature_dropout:
            raise ValueError("feature_dropout is computed on the host, not on a device")


def _crop_and_flip(
    images: Shaped[Any, "n height width channels"],
    sample: Int[Any, "n 3"],
    crop: int,
    xp: ModuleType,
) -> Shaped[Any, "n height width channels"]:
    """Crops and flips by one gather of pixels from the padded images, by NumPy or `jax.numpy`."""
    n, height, width, channels = images.shape
    padded = xp.pad(images, [(0, 0), (crop, crop), (crop, crop), (0, 0)])
    down, right, flip = sample[:, 0, None], sample[:, 1, None], sample[:, 2, None]
    rows, columns = xp.arange(height)[None], xp.arange(width)[None]
    rows = xp.arange(n)[:, None] * (height + 2 * crop) + down + rows
    columns = right + xp.where(flip != 0, width - 1 - columns, columns)
    pixels = rows[:, :, None] * (width + 2 * crop) + columns[:, None, :]
    return xp.take(padded.reshape(-1, channels), pixels, axis=0, mode="clip")


def _keep_mask(
    seeds: UInt64[np.ndarray, " n"], entries: int, dropout: float
) -> Bool[np.ndarray, "n _"]:
    """Returns whether each entry is kept, by the `random_bits` of the seed of its row."""
    # The upper half of a number is uniform on 0 to 2^32 - 1.
    return (random_bits(seeds, entries) >> np.uint64(32)) >= np.uint64(dropout * 2**32)
