"""Codes and items as an index gives them, from arrays, for the tests of the exports."""

import dataclasses

import numpy as np
import pyarrow as pa

PATHS = [
    "plain.jpg",
    "with space/and 'quotes' \"too\".jpg",
    "new\nline\tand tab.png",
    "日本/猫.png",
    "Ünï\\code,;|.npy#7",
    "",
    "<img onerror=1>\r.jpg",
]
LABELS = [None, "cat", "new\nline", "猫", "", "a\tb\\N", None]


@dataclasses.dataclass
class Store:
    """An index of blocks of four codes."""

    bits: int
    ids: np.ndarray
    all_codes: np.ndarray
    paths: list
    labels: list
    digest: str = "d" * 64
    check_code: str = "ab" * 2
    error: BaseException | None = None

    def __len__(self):
        return len(self.ids)

    def blocks(self):
        for start in range(0, len(self.ids), 4):
            yield self.ids[start : start + 4], self.all_codes[start : start + 4]

    def tables(self, columns):
        for start in range(0, len(self.ids), 4):
            rows = slice(start, start + 4)
            table = pa.table(
                {
                    "id": self.ids[rows],
                    "path": pa.array(self.paths[rows], pa.string()),
                    "label": pa.array(self.labels[rows], pa.string()).dictionary_encode(),
                }
            )
            yield table.select(columns)


def make_store(bits, kind=Store, seed=0):
    """Codes of some bits with ids that have gaps, names of all sorts, and labels that are missing."""
    rng = np.random.default_rng(seed)
    codes = np.packbits(rng.random((len(PATHS), bits)) < 0.5, axis=1)
    return kind(bits, np.array([0, 3, 4, 70, 2**33, 2**40, 2**62]), codes, PATHS, LABELS)
