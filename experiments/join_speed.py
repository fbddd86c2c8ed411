"""Times the join of a million codes within a radius, and measures its memory.

    python experiments/join_speed.py

Codes are random; clustered, near 10,000 random centers (each bit flipped with probability 1/8); or as learned
codes are: near 100 centers, where most bits hardly ever flip and some often do, so that many codes are equal
or near. Each kind has 20,000 copies of other codes, and is measured in a process of its own: CPU seconds
of the join of the distinct codes with themselves, the pairs, and by how much the peak of the resident
memory grows beyond that of making the codes. Beside it, at radius 3 of 64 bits: faiss's `IndexBinaryMultiHash` of 4 tables, and a scan of all
pairs, extrapolated from 2,000 codes. The results are written to experiments/results/join_speed.json; on
2 CPU cores that takes five minutes.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import faiss
import numpy as np
import tyro

from jaxhash.retrieval.near_duplicates.join import (
    TooManyPairs,
    distinct_codes,
    join_within,
)
from jaxhash.retrieval.near_duplicates.tables import choose_tables
from jaxhash.retrieval.search import range_search_codes
from jaxhash.training.devices import hardware
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import peak_process_bytes, versions

PATH = Path(__file__).parent / "results" / "join_speed.json"
ITEMS, COPIES = 10**6, 20_000
KINDS = ("random", "clustered", "learned")
RADII = (0, 1, 2, 3, 4, 6, 8)


def make_codes(kind: str, bits: int) -> np.ndarray:
    """Returns packed codes of one kind."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 256, (ITEMS, bits // 8), np.uint8)
    if kind != "random":
        codes = codes[rng.integers(10_000 if kind == "clustered" else 100, size=ITEMS)]
        flips = np.full(bits, 1 / 8) if kind == "clustered" else rng.beta(0.3, 1.5, bits) / 2
        for start in range(0, ITEMS, 10**5):
            flipped = rng.random((min(10**5, ITEMS - start), bits), np.float32) < flips
            codes[start : start + 10**5] ^= np.packbits(flipped, axis=1)
    copied = rng.integers(ITEMS // 2, size=COPIES)
    codes[ITEMS // 2 : ITEMS // 2 + COPIES] = codes[copied]
    return codes


def time_joins(kind: str, bits: int) -> dict:
    """Measures the joins of codes of one kind; at the first radius with too many pairs it ends."""
    codes = make_codes(kind, bits)
    start = time.process_time()
    distinct = distinct_codes(codes).codes
    seconds, memory, joins = time.process_time() - start, peak_process_bytes(), []
    for radius in RADII:
        start, pairs, refused = time.process_time(), 0, None
        try:
            for each in join_within(distinct, radius):
                pairs += len(each.first)
        except TooManyPairs as error:
            refused = str(error)
        elapsed = time.process_time() - start
        tables = choose_tables(distinct, None, radius)
        joins.append(
            {
                "radius": radius,
                "pairs": refused or pairs,
                "cpu_seconds": round(elapsed, 2),
                "tables": None if tables is None else len(tables.choices),
            }
        )
        if refused:
            break
    return {
        "kind": kind,
        "bits": bits,
        "distinct": len(distinct),
        "cpu_seconds of distinct_codes": round(seconds, 2),
        "mebibytes": {
            "distinct codes": distinct.nbytes // 2**20,
            "growth of the peak": (peak_process_bytes() - memory) // 2**20,
        },
        "joins": joins,
    }


def time_others(kind: str) -> dict:
    """Measures MultiHash and the scan at radius 3 of 64 bits."""
    codes = distinct_codes(make_codes(kind, 64)).codes
    faiss.omp_set_num_threads(1)
    start = time.process_time()
    index = faiss.IndexBinaryMultiHash(64, 4, 16)
    index.add(codes)
    limits, *_ = index.range_search(codes, 4)
    multi_hash = time.process_time() - start
    start = time.process_time()
    range_search_codes(codes[:2000], codes, 3)
    scan = (time.process_time() - start) * len(codes) / 2000 / 2
    return {
        "kind": kind,
        "pairs": (int(limits[-1]) - len(codes)) // 2,
        "cpu_seconds": {
            "faiss MultiHash": round(multi_hash, 2),
            "scan, extrapolated": round(scan),
        },
    }


def main(only: str = "") -> None:
    """Measures every point in a process of its own and writes the results.

    Args:
        only: the one point to measure and print, as JSON (internal).
    """
    if only:
        point = json.loads(only)
        print(json.dumps(time_joins(*point) if len(point) == 2 else time_others(*point)))
        return

    def measure(*point) -> dict:
        command = [sys.executable, __file__, "--only", json.dumps(point)]
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        print(run.stdout.splitlines()[-1], flush=True)
        return json.loads(run.stdout.splitlines()[-1])

    others = [measure("random")]
    points = [measure(kind, bits) for bits in (64, 256) for kind in KINDS]
    write_json(
        PATH,
        {
            "command": "python experiments/join_speed.py",
            "hardware": hardware(),
            "versions": versions(["faiss-cpu", "numpy"]),
            "items": ITEMS,
            "joins": points,
            "other ways, 64 bits, radius 3": others,
        },
    )


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
