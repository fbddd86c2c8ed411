"""Random crop and flip, for a whole batch of images at once."""

import dataclasses

import numpy as np
from jaxtyping import Shaped


@dataclasses.dataclass(frozen=True)
class Augment:
    """Shift by a random crop of the image padded with zeros, and flip left to right at random.

    Attributes:
        crop: padding on each side, in pixels; 0 leaves images where they are.
        flip: whether half of the images are flipped.
    """

    crop: int = 0
    flip: bool = False

    def draw(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Random numbers for n images: shift down, shift right, flip."""
        shifts = rng.integers(0, 2 * self.crop + 1, (n, 2))
        return np.concatenate([shifts, rng.integers(0, 2, (n, 1)) * self.flip], axis=1)

    def apply(
        self, images: Shaped[np.ndarray, " n *shape"], draws: Shaped[np.ndarray, "n 3"]
    ) -> Shaped[np.ndarray, " n *shape"]:
        """The images, each moved as drawn."""
        if self.crop:
            padding = [(0, 0), (self.crop, self.crop), (self.crop, self.crop), (0, 0)]
            height, width = images.shape[1:3]
            windows = zip(np.pad(images, padding), draws, strict=True)
            images = np.stack([x[i : i + height, j : j + width] for x, (i, j, _) in windows])
        if self.flip:
            flipped = draws[:, 2].astype(bool)[:, None, None, None]
            images = np.where(flipped, images[:, :, ::-1], images)
        return images
