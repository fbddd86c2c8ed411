"""Lists the near duplicates that ``jaxhash data check`` finds in real data, and how many of them are true.

    python experiments/near_duplicates.py --data-dir DIR [--pictures PICTURES]

DIR holds ``tfds/cifar10_subset`` (the first 500 training images of each class of CIFAR-10, and all test
images), ``tfds/fashion_mnist`` and ``features/cifar10_mobilenetv2.npz``. With --pictures, the pairs of each
set of images are drawn side by side, to be looked at; the judgments in `FALSE_PAIRS` were made so. Written to
experiments/results/near_duplicates.json: the counts, the pairs of query and training items with the bits in
which they differ, the share that is true, and the CPU time.
"""

import sys
import time
from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from jaxhash.data.checks.near_duplicates import find_near_duplicates
from jaxhash.data.load import load_source
from jaxhash.data.sources import Source
from jaxhash.data.splits import Split
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import versions

PATH = Path(__file__).parent / "results" / "near_duplicates.json"

SETS = {
    "cifar10_subset": ("tfds:cifar10_subset", "tfds"),
    "fashion_mnist": ("tfds:fashion_mnist", "tfds"),
    "cifar10 features": ("features:cifar10_mobilenetv2.npz", "features"),
}

#: Pairs that do not show the same object, by their places in the list; judged by eye on the pictures.
FALSE_PAIRS = {"cifar10_subset": [20], "fashion_mnist": [20, 22, 27, 40, 88]}

#: Pairs that were looked at, from the nearest on.
LOOKED_AT = {"cifar10_subset": 23, "fashion_mnist": 117}

SIDE, GAP, COLUMNS = 64, 8, 10


def measure(source: Source) -> dict:
    """Returns the near duplicates of the test part of a set in its training part."""
    parts = source.items_by_part
    split = Split("parts", parts["train"], parts["test"], np.empty(0, np.int64))
    start = time.process_time()
    near = find_near_duplicates(split, source.inputs, max_examples=10**6)
    return {
        "items": {"train": len(parts["train"]), "query": len(parts["test"])},
        "cpu_seconds": round(time.process_time() - start, 2),
        "measure": near.measure,
        "counts": near.counts,
        "pairs": [
            {"query": source.name_of(item), "train": source.name_of(other), "bits": bits}
            for _, item, _, other, bits in near.examples
        ],
        "items_of_pairs": [(item, other) for _, item, _, other, _ in near.examples],
    }


def draw(source: Source, pairs: list[tuple[int, int]], path: Path) -> None:
    """Draws pairs of images side by side, in rows."""
    width, rows = 2 * SIDE + GAP, -(-len(pairs) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * width, rows * (SIDE + GAP)), "white")
    for place, pair in enumerate(pairs):
        row, column = divmod(place, COLUMNS)
        for side, item in enumerate(pair):
            pixels = np.asarray(source.inputs[item])
            pixels = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
            image = Image.fromarray(pixels).resize((SIDE, SIDE), Image.NEAREST)
            sheet.paste(image, (column * width + side * SIDE, row * (SIDE + GAP)))
    sheet.save(path)


def main(data_dir: Path, pictures: Path | None = None) -> None:
    """Measures every set and writes the results.

    Args:
        data_dir: folder of the data.
        pictures: folder that the pairs are drawn into.
    """
    results = {}
    for name, (dataset, folder) in SETS.items():
        source = load_source(dataset, data_dir / folder)
        found = measure(source)
        pairs = found.pop("items_of_pairs")
        if pictures is not None and source.inputs[:1].ndim == 4:
            draw(source, pairs, pictures / f"{name}.png")
        if name in LOOKED_AT:
            looked_at, wrong = LOOKED_AT[name], FALSE_PAIRS[name]
            found["judged"] = {"pairs_looked_at": looked_at, "false": wrong}
            found["judged"]["share_true"] = round(1 - len(wrong) / looked_at, 3)
        found["pairs"] = found["pairs"][:150]
        results[name] = found
        print(f"{name}: {len(pairs)} pairs, {found['counts']}, {found['cpu_seconds']} CPU seconds")
    command = "python experiments/near_duplicates.py --data-dir DIR"
    write_json(
        PATH, {"command": command, "versions": versions(["numpy", "faiss-cpu"]), "sets": results}
    )


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
