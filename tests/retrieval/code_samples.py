"""Codes and labels of four classes, and the files that hold them in every layout."""

import json
from pathlib import Path

import numpy as np

QUERIES, ITEMS, BITS = 12, 40, 10


def make(seed=0, noise=1.0):
    """Real-valued codes and ids of queries and items, of four classes."""
    rng = np.random.default_rng(seed)
    centers = np.random.default_rng(9).normal(size=(4, BITS))
    labels = [np.arange(n) % 4 for n in (QUERIES, ITEMS)]
    codes = [centers[some] + noise * rng.normal(size=(len(some), BITS)) for some in labels]
    return {
        "query_codes": codes[0],
        "query_labels": labels[0],
        "database_codes": codes[1],
        "database_labels": labels[1],
    }


ARRAYS = make()


def save(name="codes.npz", **arrays):
    np.savez(name, **{**ARRAYS, **arrays})
    return name


def read_strict_json(path):
    """The content of a JSON file, which has no word for NaN or infinity."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(Path(path).read_text(), parse_constant=refuse)


def save_separately(suffix):
    """The same codes and labels in files of their own; returns the arguments that name them."""
    for side in ("query", "database"):
        codes, labels = ARRAYS[f"{side}_codes"], ARRAYS[f"{side}_labels"]
        np.save(f"{side}.npy", codes)
        np.save(f"{side}_labels.npy", labels)
        np.savez(f"{side}.npz", codes=codes, labels=labels)
        np.savez(f"{side}_wrong_labels.npz", codes=codes, labels=labels[::-1])
        lines = [f"{side}/{i}.jpg {label}\n" for i, label in enumerate(labels)]
        Path(f"{side}.txt").write_text("".join(lines))
    ends = {".npz": "{}.npz", ".npy": "{}.npy", ".txt": "{}.npy", "override": "{}_wrong_labels.npz"}
    query, database = (ends[suffix].format(side) for side in ("query", "database"))
    arguments = [query, "--database", database]
    if suffix != ".npz":
        label_file = "{}.txt" if suffix == ".txt" else "{}_labels.npy"
        arguments += ["--labels", label_file.format("query")]
        arguments += ["--database-labels", label_file.format("database")]
    return arguments
