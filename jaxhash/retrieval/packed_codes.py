"""Codes as packed bits, with what is measured of their real values while these are made."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int8, Shaped, UInt8

from jaxhash import metrics

#: Largest number of items whose real values are kept as a sample.
MAX_SAMPLED_ITEMS = 2**16

#: Rows that are packed or unpacked at a time.
_ROWS = 2**13


@dataclasses.dataclass(frozen=True)
class PackedCodes:
    """The codes of a set of items, by their signs, in an eighth of a byte a bit.

    Attributes:
        bits: length of a code.
        packed: the signs, eight bits a byte, the first the most significant; zero counts as +1.
        statistics: statistics of the real values, for `jaxhash.metrics.code_warnings`.
        quantization_error: mean of (|u| - 1)^2 of the real values; NaN if they are not finite.
        sample: the real values of evenly spaced items; see `sample_step`.
        values: all real values, or None where they were not kept.
    """

    bits: int
    packed: UInt8[np.ndarray, "items bytes"]
    statistics: metrics.CodeStatistics
    quantization_error: float
    sample: Float[np.ndarray, "some bits"]
    values: Float[np.ndarray, "items bits"] | None = None

    def __len__(self) -> int:
        return len(self.packed)

    @property
    def is_finite(self) -> bool:
        """Whether all real values are finite."""
        return bool(np.isfinite(self.statistics.values.absolute))

    def __getitem__(self, rows: slice | Shaped[np.ndarray, " n"]) -> Int8[np.ndarray, "n bits"]:
        """Returns codes of -1 and +1 of some items, as `Rows` do."""
        bits = np.unpackbits(self.packed[rows], axis=1, count=self.bits)
        return bits.astype(np.int8) * np.int8(2) - np.int8(1)


class CodePacker:
    """Packs the codes of a set of items, which come in pieces.

    Args:
        items: number of items.
        values_bytes: the real values are kept where they take no more than that.

    Example:
        >>> packer = CodePacker(3)
        >>> packer.add(np.array([[0.5, -1.0], [-1.0, -1.0]])), packer.add(np.array([[1.0, 0.0]]))
        (None, None)
        >>> codes = packer.finish()
        >>> codes.packed.tolist(), codes[1:].tolist(), codes.values
        ([[128], [0], [192]], [[-1, -1], [1, 1]], None)
    """

    def __init__(self, items: int, *, values_bytes: int = 0):
        self._items, self._values_bytes, self._added = items, values_bytes, 0
        self._statistics, self._error = metrics.CodeStatistics(), metrics.QuantizationError()
        self._packed: UInt8[np.ndarray, "items bytes"] | None = None
        self._values: Float[np.ndarray, "items bits"] | None = None
        self._sample: list[Float[np.ndarray, "some bits"]] = []

    def add(self, codes: Float[np.ndarray, "n bits"]) -> None:
        """Adds the real values of the next items."""
        bits = codes.shape[1]
        if self._packed is None:
            self._packed = np.empty((self._items, -(-bits // 8)), np.uint8)
            if self._items * codes[:1].nbytes <= self._values_bytes:
                self._values = np.empty((self._items, bits), codes.dtype)
        rows = slice(self._added, self._added + len(codes))
        self._packed[rows] = pack_signs(codes)
        self._statistics += metrics.CodeStatistics.of(codes, _form(bits))
        if np.isfinite(self._statistics.values.absolute):
            self._error.update(codes)
        self._sample.append(
            codes[-rows.start % sample_step(self._items) :: sample_step(self._items)].copy()
        )
        if self._values is not None:
            self._values[rows] = codes
        self._added = rows.stop

    def finish(self) -> PackedCodes:
        """Returns the codes of all items, once all are added."""
        is_finite = np.isfinite(self._statistics.values.absolute)
        sample = np.concatenate(self._sample)
        return PackedCodes(
            sample.shape[1],
            self._packed,
            self._statistics,
            self._error.compute() if is_finite else np.nan,
            sample,
            self._values,
        )


def as_packed_codes(codes: PackedCodes | Float[np.ndarray, "items bits"]) -> PackedCodes:
    """Packs an array of real values, which is kept; returns `PackedCodes` unchanged."""
    if isinstance(codes, PackedCodes):
        return codes
    statistics = metrics.CodeStatistics.of(codes, _form(codes.shape[1]))
    return PackedCodes(
        codes.shape[1],
        pack_signs(codes),
        statistics,
        metrics.quantization_error(codes) if np.isfinite(statistics.values.absolute) else np.nan,
        codes[:: sample_step(len(codes))],
        codes,
    )


def sample_step(items: int) -> int:
    """Returns the distance of the items of a sample of at most `MAX_SAMPLED_ITEMS`."""
    return -(-items // MAX_SAMPLED_ITEMS)


def pack_signs(codes: Float[np.ndarray, "n bits"]) -> UInt8[np.ndarray, "n bytes"]:
    """Packs the signs of codes, eight bits a byte, without a copy of all codes on the way."""
    blocks = (codes[at : at + _ROWS] >= 0 for at in range(0, len(codes), _ROWS))
    return np.concatenate([np.packbits(block, axis=1) for block in blocks])


def _form(bits: int) -> metrics.CodeFormat:
    return metrics.CodeFormat("real-valued", bits)
