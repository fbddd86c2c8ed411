"""Random crop and flip of a whole batch of images at once, and random zeros in vectors.

Images are moved by NumPy, or by JAX on the device that trains: the same numbers drawn, the same bits.
"""

import dataclasses
from types import ModuleType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Shaped, UInt64


class Drawn(NamedTuple):
    """Images that are still to be moved, with the numbers that say how.

    All views of an image share its pixels, so they are brought to a device once.
    """

    images: Shaped[Any, "n height width channels"]
    """The images as they are in the source."""
    draws: tuple[Int[Any, "n 3"], ...]
    """Of each view what `Augment.draw` drew."""


@dataclasses.dataclass(frozen=True)
class Augment:
    """Shift by a random crop of the image padded with zeros, and flip left to right at random.

    Of feature vectors random entries are set to 0 instead.

    Attributes:
        crop: padding on each side, in pixels; 0 leaves images where they are.
        flip: whether half of the images are flipped.
        drop: probability of an entry of a vector to be set to 0, in [0, 1). The others are divided
            by 1 - drop, so that the mean of each stays what it is.

    Raises:
        ValueError: if ``drop`` is not in [0, 1).
    """

    crop: int = 0
    flip: bool = False
    drop: float = 0.0

    def __post_init__(self):
        """Check the share."""
        if not 0.0 <= self.drop < 1.0:
            raise ValueError(f"drop must be at least 0 and below 1, got {self.drop}")

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Random numbers for n inputs: shift down, shift right, flip, and with drop a seed."""
        shifts = rng.integers(0, 2 * self.crop + 1, (n, 2))
        draws = [shifts, rng.integers(0, 2, (n, 1)) * self.flip]
        if self.drop:
            draws.append(rng.integers(0, 2**63, (n, 1)))
        return np.concatenate(draws, axis=1)

    def apply(
        self, images: Shaped[np.ndarray, " n *shape"], draws: Shaped[np.ndarray, "n numbers"]
    ) -> Shaped[np.ndarray, " n *shape"]:
        """The images, each moved as drawn; or the vectors, with the zeros drawn.

        Raises:
            ValueError: if entries are to be dropped of inputs that are not vectors.
        """
        vectors = images.ndim == 2 and np.issubdtype(images.dtype, np.floating)
        if self.drop and not vectors:
            raise ValueError(
                "drop is for floating vectors [n, entries], got inputs of shape "
                f"{images.shape} and dtype {images.dtype}"
            )
        if self.crop or self.flip:
            images = _moved(images, draws, self.crop, np)
        if self.drop:
            kept = _kept(draws[:, 3].astype(np.uint64), images.shape[1], self.drop)
            images = np.where(kept, images / images.dtype.type(1 - self.drop), images.dtype.type(0))
        return images

    def on_device(
        self, drawn: Drawn
    ) -> Shaped[Array, "n height width channels"] | tuple[Shaped[Array, "..."], ...]:
        """What `apply` makes of the images, to the last bit, computed by JAX.

        A pure function of its argument, whose rows are apart: it may stand under ``jax.jit``,
        ``jax.vmap``, ``jax.pmap`` and ``jax.shard_map``.

        Args:
            drawn: images and numbers, as `jaxhash.data.pipeline.training_batches` hands them over.

        Returns:
            The images; of several views a tuple.

        Raises:
            ValueError: if entries are to be dropped, which is done on the host only.

        Example:
            >>> augment = Augment(crop=1, flip=True)
            >>> images = np.arange(32, dtype=np.uint8).reshape(2, 4, 4, 1)
            >>> draws = augment.draw(2, np.random.default_rng(0))
            >>> moved = augment.on_device(Drawn(images, (draws,)))
            >>> bool((moved == augment.apply(images, draws)).all())
            True
        """
        self.check_device()
        images = jnp.asarray(drawn.images)
        views = tuple(images for _ in drawn.draws)
        if self.crop or self.flip:
            views = tuple(_moved(images, jnp.asarray(d), self.crop, jnp) for d in drawn.draws)
        return views if len(views) > 1 else views[0]

    def check_device(self) -> None:
        """Raise a ValueError if this is nothing that a device does."""
        if self.drop:
            raise ValueError("entries of vectors are dropped on the host, not on a device")


def _moved(
    images: Shaped[Any, "n height width channels"],
    draws: Int[Any, "n 3"],
    crop: int,
    xp: ModuleType,
) -> Shaped[Any, "n height width channels"]:
    """Crop and flip as one gather of pixels from the padded images, by NumPy or `jax.numpy`."""
    n, height, width, channels = images.shape
    padded = xp.pad(images, [(0, 0), (crop, crop), (crop, crop), (0, 0)])
    down, right, flip = draws[:, 0, None], draws[:, 1, None], draws[:, 2, None]
    rows, columns = xp.arange(height)[None], xp.arange(width)[None]
    rows = xp.arange(n)[:, None] * (height + 2 * crop) + down + rows
    columns = right + xp.where(flip != 0, width - 1 - columns, columns)
    places = rows[:, :, None] * (width + 2 * crop) + columns[:, None, :]
    return xp.take(padded.reshape(-1, channels), places, axis=0, mode="clip")


def _kept(seeds: UInt64[np.ndarray, " n"], entries: int, drop: float) -> Bool[np.ndarray, "n _"]:
    """Whether each entry of each row is kept: numbers of SplitMix64 from the seed of the row.

    So a row's zeros depend on its own seed alone, and a process draws those of its own rows only.
    """
    steps = np.arange(1, entries + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = seeds[:, None] + steps[None, :]
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    # The upper half of the last number is uniform on 0 to 2^32 - 1.
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(32)) >= np.uint64(drop * 2**32)
