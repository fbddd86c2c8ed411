"""Random crop and flip of a whole batch of images at once, and random zeros in vectors."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Shaped, UInt64


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
        if self.crop:
            padding = [(0, 0), (self.crop, self.crop), (self.crop, self.crop), (0, 0)]
            height, width = images.shape[1:3]
            windows = zip(np.pad(images, padding), draws, strict=True)
            images = np.stack([x[i : i + height, j : j + width] for x, (i, j, _) in windows])
        if self.flip:
            flipped = draws[:, 2].astype(bool)[:, None, None, None]
            images = np.where(flipped, images[:, :, ::-1], images)
        if self.drop:
            kept = _kept(draws[:, 3].astype(np.uint64), images.shape[1], self.drop)
            images = np.where(kept, images / images.dtype.type(1 - self.drop), images.dtype.type(0))
        return images


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
