"""Times the search of an index, beside bare faiss on the same codes, and measures its memory.

    python experiments/search_speed.py

Bare faiss is an `IndexBinaryFlat` in memory, searched by as many Python threads with one OpenMP thread each
as the index takes; and again by faiss's own threads. The codes lie near 10,000 random centers (each bit
flipped with probability 1/8), in shards of a million; of the last size there are 300 distinct ones.
Runs alternate, and medians count. Each size runs in a process of its own, and each measurement of memory
in another: how much the resident memory of a process that has opened the index grows at most, mapped
pages included, while it searches; and while it first writes faiss.index. The results are written to
experiments/results/search_speed.json; on 2 CPU cores that takes five minutes.
"""

import json
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import faiss
import numpy as np
import tyro

from jaxhash.retrieval.index import Index
from jaxhash.training.devices import hardware
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import cores_used, versions

PATH = Path(__file__).parent / "results" / "search_speed.json"
K, SHARD, CENTERS = 100, 10**6, 10_000


class Size(NamedTuple):
    """The size of a database; ``distinct`` of 0: as the centers make them."""

    name: str
    items: int
    bits: int
    queries: int
    distinct: int = 0


SIZES = (
    Size("1M x 64", 10**6, 64, 1000),
    Size("1M x 256", 10**6, 256, 1000),
    Size("10M x 64", 10**7, 64, 1000),
    Size("60,000 x 64, 300 distinct", 60_000, 64, 1000, 300),
)


class Item(NamedTuple):
    """An item of an index."""

    path: str
    size: None = None
    mtime_ns: None = None
    label: None = None


class MadeHasher(NamedTuple):
    """What an index needs of a hash function."""

    bits: int
    digest: str = "0" * 64
    check_code: str = ""

    def save(self, folder: Path) -> None:
        """Makes the folder."""
        folder.mkdir()


def make_codes(size: Size) -> Iterator[np.ndarray]:
    """Yields the codes of the queries, then those of each shard."""
    rng = np.random.default_rng(0)
    centers = rng.integers(0, 256, (size.distinct or CENTERS, size.bits // 8), np.uint8)
    for count in (size.queries, *[min(SHARD, size.items)] * -(-size.items // SHARD)):
        codes = centers[rng.integers(len(centers), size=count)]
        if not size.distinct:
            for start in range(0, count, 10**5):
                flips = rng.random((min(10**5, count - start), size.bits), np.float32) < 1 / 8
                codes[start : start + 10**5] ^= np.packbits(flips, axis=1)
        yield codes


def make_index(folder: Path, size: Size) -> None:
    """Writes the index and queries.npy, in a process of its own so that its memory is given back."""
    queries, *shards = make_codes(size)
    index = Index.create(folder / "index", MadeHasher(size.bits), root=None)
    for codes in shards:
        index.add(codes, [Item("made.png")] * len(codes), ["0"] * len(codes))
    np.save(folder / "queries.npy", queries)


def time_searches(folder: Path, rounds: int) -> dict:
    """Measures the seconds of one search of all queries, in turns."""
    index, queries = Index.open(folder / "index"), np.load(folder / "queries.npy")
    flat = faiss.IndexBinaryFlat(index.bits)
    for _, codes in index.blocks():
        flat.add(codes)

    def by_python_threads():
        threads = cores_used() or 1
        with ThreadPoolExecutor(threads, faiss.omp_set_num_threads, initargs=(1,)) as pool:
            found = pool.map(lambda some: flat.search(some, K), np.array_split(queries, threads))
            return [np.concatenate(each) for each in zip(*found, strict=True)]

    searches = {
        "jaxhash": lambda: index.search(queries, K)[:2],
        "faiss, Python threads": by_python_threads,
        "faiss, its own threads": lambda: flat.search(queries, K),
    }
    start = time.perf_counter()
    expected = index.search(queries[:1], K)
    seconds = {"first search, which writes faiss.index": time.perf_counter() - start}
    every: dict[str, list[tuple[float, float]]] = {name: [] for name in searches}
    first, second, last = searches
    # Its own threads last: they wait in busy loops for a while after a search.
    turns = [(first, second), (second, first)] * -(-rounds // 2)
    for turn in (*turns[:rounds], *[(last,)] * rounds):
        for name in turn:
            search = searches[name]
            wall, cpu = time.perf_counter(), time.process_time()
            found = search()
            every[name].append((time.perf_counter() - wall, time.process_time() - cpu))
            expected = expected if len(expected[0]) == len(queries) else found
            assert all(map(np.array_equal, found, expected)), name
    medians = {name: np.median(times, axis=0).tolist() for name, times in every.items()}
    best = medians["faiss, Python threads"]
    return {
        "seconds": seconds | {name: wall for name, (wall, _) in medians.items()},
        "cpu_seconds": {name: cpu for name, (_, cpu) in medians.items()},
        "ratios": {
            "to faiss, Python threads": medians["jaxhash"][0] / best[0],
            "to faiss, Python threads, CPU time": medians["jaxhash"][1] / best[1],
            "to faiss, its own threads": medians["jaxhash"][0]
            / medians["faiss, its own threads"][0],
        },
    }


def memory_growth(folder: Path) -> int:
    """Returns the bytes by which the resident memory grows at most during a search of all queries."""
    index, queries = Index.open(folder / "index"), np.load(folder / "queries.npy")
    faiss.knn_hamming(queries, queries, 1)  # loads what faiss needs for any search
    return peak_growth(lambda: index.search(queries, K))


def peak_growth(action: Callable[[], object]) -> int:
    """Returns how much ``VmRSS`` exceeds its value before at most, by a look every millisecond."""

    def resident() -> int:
        fields = Path("/proc/self/statm").read_text().split()
        return int(fields[1]) * 4096

    done, before = threading.Event(), resident()
    peak = before

    def watch():
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, resident())

    watcher = threading.Thread(target=watch)
    watcher.start()
    action()
    done.set()
    watcher.join()
    return max(peak, resident()) - before


def main(rounds: int = 7, only: str = "", part: str = "", folder: Path = Path()) -> None:
    """Measures every size in processes of their own and writes the results.

    Args:
        rounds: number of rounds; the median counts.
        only: name of the one size to measure and print (internal).
        part: what to measure (internal).
        folder: where the index lies (internal).
    """
    if only:
        [size] = (size for size in SIZES if size.name == only)
        parts = {
            "make": lambda: make_index(folder, size),
            "memory": lambda: memory_growth(folder),
            "time": lambda: time_searches(folder, rounds),
        }
        print(json.dumps(parts[part]()))
        return

    def measure(size: Size, part: str, folder: str):
        options = ["--only", size.name, "--part", part, "--folder", folder]
        command = [sys.executable, __file__, "--rounds", str(rounds), *options]
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return json.loads(run.stdout.splitlines()[-1])

    points = []
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            measure(size, "make", folder)
            memory = {
                "codes": size.items * size.bits // 8,
                "growth, faiss.index is written": measure(size, "memory", folder),
                "growth, faiss.index is there": measure(size, "memory", folder),
            }
            (Path(folder) / "index" / "faiss.index").unlink()
            points.append(size._asdict() | measure(size, "time", folder) | {"bytes": memory})
        ratios = points[-1]["ratios"]
        growth = [memory[name] / memory["codes"] for name in memory if name != "codes"]
        print(
            f"{size.name}: {points[-1]['seconds']['jaxhash']:.2f} s, "
            + ", ".join(f"{ratio:.2f} {name}" for name, ratio in ratios.items())
            + f"; memory {growth[0]:.2f} and {growth[1]:.2f} times the codes"
        )
    write_json(
        PATH,
        {
            "command": shlex.join(["python", "experiments/search_speed.py"]),
            "hardware": hardware(),
            "versions": versions(["faiss-cpu", "numpy", "jaxhash"]),
            "k": K,
            "rounds": rounds,
            "threads": cores_used(),
            "sizes": points,
        },
    )


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
