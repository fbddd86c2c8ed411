"""Binary codes of inputs by which near duplicates are looked for, without a model.

An image has a perceptual hash: the signs of the lowest frequencies of its luminance, which hardly change
where an image is scaled, compressed, or made lighter. A vector has the signs of its products with random
hyperplanes, of which two vectors have as many different ones as their angle is wide.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8
from scipy.fft import dct

from jaxhash.data.rows import Rows, row_blocks

#: Frequencies of an image along each side.
_FREQUENCIES = 16

#: Random hyperplanes.
_HYPERPLANES = 256

#: Weights of red, green and blue in the luminance (ITU-R BT.601).
_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


class InputCoder(NamedTuple):
    """Makes codes of the inputs of a data set, and the vectors by which two are compared closely.

    Attributes:
        code_name: what the codes are, for a message.
        similarity_name: what `similarity` is, likewise.
        bits: bits of a code.
        encode: from inputs [n, ...] to packed codes [n, bytes].
        to_vectors: from inputs to vectors [n, d]; of images, of length 1, or 0 where they have one shade.
    """

    code_name: str
    similarity_name: str
    bits: int
    encode: Callable[[np.ndarray], np.ndarray]
    to_vectors: Callable[[np.ndarray], np.ndarray]

    def similarity(self, inputs: np.ndarray, others: np.ndarray) -> Float[np.ndarray, " n"]:
        """Returns 2ab / (aa + bb) of the vectors a and b of each two inputs.

        That is 1 for equal ones, the cosine for vectors of one length, and less where lengths differ.
        """
        first, second = self.to_vectors(inputs), self.to_vectors(others)
        products, sizes = (first * second).sum(axis=1), (first**2 + second**2).sum(axis=1)
        return np.divide(2 * products, sizes, out=np.zeros(len(sizes)), where=sizes > 0)


def make_input_coder(inputs: Rows, train: Int[np.ndarray, " train"]) -> InputCoder:
    """Returns the coder of images or of vectors.

    Args:
        inputs: images [n, height, width, channels], or vectors [n, dimensions].
        train: training items; vectors are centered at the mean of theirs.
    """
    shape = inputs[:1].shape[1:]
    if len(shape) == 3:
        sides = [min(side, _FREQUENCIES) for side in shape[:2]]
        return InputCoder(
            "perceptual hashes",
            "correlation of their luminance",
            sides[0] * sides[1],
            perceptual_hash,
            lambda images: _unit_length(_centered(luminance(images))),
        )
    mean = _mean(inputs, train)
    hyperplanes = np.random.default_rng(0).standard_normal((*shape, _HYPERPLANES), np.float32)
    return InputCoder(
        "signs on random hyperplanes",
        "similarity 2ab / (aa + bb) of their vectors, from the mean of train,",
        _HYPERPLANES,
        lambda vectors: np.packbits((vectors - mean) @ hyperplanes >= 0, axis=1),
        lambda vectors: vectors - mean,
    )


def perceptual_hash(
    images: UInt8[np.ndarray, "n height width channels"],
) -> UInt8[np.ndarray, "n bytes"]:
    """Returns the perceptual hash of images: which of their lowest frequencies are above the median.

    The frequencies are the first 16 of each side in the discrete cosine transform (DCT-II) of the
    luminance; of a smaller image, all (C. Zauner, "Implementation and benchmarking of perceptual image
    hash functions", 2010, with more frequencies, and at the resolution of the image).

    Args:
        images: pixels; any number of channels.

    Example:
        >>> image = np.random.default_rng(0).integers(0, 100, (1, 32, 32, 3), np.uint8)
        >>> lighter = 2 * image + 50
        >>> np.bitwise_count(perceptual_hash(image) ^ perceptual_hash(lighter)).sum() < 3
        np.True_
    """
    values = luminance(images)
    rows, columns = (dct(np.eye(side, dtype=np.float32), axis=0) for side in values.shape[1:])
    frequencies = rows[:_FREQUENCIES] @ values @ columns[:_FREQUENCIES].T
    frequencies = frequencies.reshape(len(values), -1)
    return np.packbits(frequencies > np.median(frequencies, axis=1, keepdims=True), axis=1)


def luminance(
    images: UInt8[np.ndarray, "n height width channels"],
) -> Float32[np.ndarray, "n height width"]:
    """Returns the luminance of images of three channels, and the mean of any other number."""
    channels = images.shape[-1]
    weights = _LUMINANCE if channels == 3 else np.full(channels, 1 / channels, np.float32)
    return images @ weights


def _centered(values: Float32[np.ndarray, "n height width"]) -> Float32[np.ndarray, "n pixels"]:
    pixels = values.reshape(len(values), -1)
    return pixels - pixels.mean(axis=1, keepdims=True)


def _unit_length(vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "n d"]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-6)


def _mean(inputs: Rows, items: Int[np.ndarray, " items"]) -> Float32[np.ndarray, " d"]:
    """Returns the mean of some vectors, read a block at a time."""
    total = np.zeros(inputs[:1].shape[1])
    for block in row_blocks(len(items), total.nbytes):
        total += inputs[items[block]].sum(axis=0, dtype=np.float64)
    return (total / max(len(items), 1)).astype(np.float32)
