"""Reads the handwritten digits of scikit-learn, which need no download."""

import numpy as np

from jaxhash.data.sources import Source


def read_digits() -> Source:
    """Reads 1,797 handwritten digits of 8x8 pixels, which scikit-learn ships."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    return Source("digits", images, digits.target.astype(np.int32), tuple("0123456789"))
