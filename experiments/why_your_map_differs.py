"""Measures how each choice of an evaluation changes mAP, on synthetic codes.

    python experiments/why_your_map_differs.py

Items are class prototypes with noise, codes the signs of random directions in the span of the
prototypes. `tables.py` draws the page's tables from experiments/results/why_your_map_differs.json.
It needs no data and takes a minute on 2 CPU cores. Another processor may order ties differently in
np.argsort, and so change that column.
"""

from pathlib import Path

import numpy as np

from jaxhash import metrics
from jaxhash.data.protocols import cifar10_i, cifar10_i_prime, cifar10_ii
from jaxhash.metrics import distance_counts, mean_average_precision
from jaxhash.training.devices import hardware
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import versions

COMMAND = "python experiments/why_your_map_differs.py"
PATH = Path(__file__).parent / "results" / "why_your_map_differs.json"
QUERIES, DIMENSIONS = 1_000, 32
TIES = "expected", "worst", "best"
#: Items in the database of each number of classes, and their noise.
SETS = {10: (59_000, 1.4), 100: (128_503, 0.7), 1_000: (50_000, 0.5)}


def embed(labels, noise, bits):
    """Returns real-valued codes of items with these labels; ``noise`` may differ by item."""
    rng = np.random.default_rng(0)
    labels = np.eye(labels.max() + 1)[labels] if labels.ndim == 1 else labels
    prototypes = rng.standard_normal((labels.shape[1], DIMENSIONS))
    scatter = rng.standard_normal((len(labels), DIMENSIONS))
    directions = prototypes.T @ rng.standard_normal((labels.shape[1], 64))
    return (labels @ prototypes + np.reshape(noise, (-1, 1)) * scatter) @ directions[:, :bits]


def make_codes(classes, bits, items=None):
    """Returns codes and labels of queries and database; stored class by class, as usual."""
    usual, noise = SETS[classes]
    labels = [np.sort(np.arange(count) % classes) for count in (QUERIES, items or usual)]
    values = embed(np.concatenate(labels), noise, bits)
    return values[:QUERIES], labels[0], values[QUERIES:], labels[1]


def conventions():
    """Scores one ranking by each convention."""
    by_definition = {}
    for name, each in metrics.CONVENTIONS.items():
        by_definition.setdefault((each.divide_by, each.empty), []).append(f"`{name}`")
    rows = []
    for classes, bits in ((10, 32), (100, 64), (1_000, 16)):
        counts = distance_counts(*make_codes(classes, bits))
        for k in (None, 5_000, 1_000, 100):
            hit = metrics.nonempty_probability(counts, k=k, divide_by="retrieved").mean()
            values = [
                mean_average_precision(counts, k=k, divide_by=d, empty=e) for d, e in by_definition
            ]
            rows.append([f"{classes} classes, {bits} bits", k or "all", *values, f"{1 - hit:.1%}"])
    columns = " | ".join(", ".join(names) for names in by_definition.values())
    return f"set | K | {columns} | queries without a hit".split(" | "), rows


def ties(queries=200):
    """Compares orders of the items at one distance, for few queries, since the sort is slow."""
    codes = make_codes(10, 64)
    chosen = np.linspace(0, QUERIES - 1, queries).astype(int)
    orders = [slice(None), slice(None, None, -1)]
    orders += [np.random.default_rng(seed).permutation(len(codes[3])) for seed in range(3)]
    rows = []
    for bits in (8, 12, 16, 32, 64):
        cut = codes[0][chosen, :bits], codes[1][chosen], codes[2][:, :bits], codes[3]
        counts = distance_counts(*cut)
        sides = [(*cut[:2], *(side[order] for side in cut[2:])) for order in orders]
        by_order = [sorted_map(*cut, kind=None), *(sorted_map(*each) for each in sides)]
        for k, (*stored, a, b, c) in zip((None, 1_000), zip(*by_order, strict=True), strict=True):
            form = {"k": k, "divide_by": "retrieved"}
            bounds = [mean_average_precision(counts, ties=tie, **form) for tie in TIES]
            spread = metrics.mean_over_seeds([a, b, c])._asdict()
            rows.append([k or "all", bits, *bounds, *stored, spread])
    columns = "K | bits | expected | worst order | best order | class by class, `np.argsort` | "
    columns += "class by class, stable | reversed, stable | shuffled, 3 seeds"
    return columns.split(" | "), sorted(rows, key=lambda row: row[0] != "all")


def sorted_map(query, query_labels, database, labels, kind="stable"):
    """Computes mAP over the relevant retrieved, of the whole ranking and at 1,000, by a sort."""
    query, database = (np.where(side >= 0, np.float32(1), -1) for side in (query, database))
    values = []
    for code, label in zip(query, query_labels, strict=True):
        distance = (database.shape[1] - database @ code) / 2
        order = np.argsort(distance if kind is None else distance.astype(np.uint8), kind=kind)
        ranks = np.flatnonzero(labels[order] == label) + 1
        precision = np.arange(1, len(ranks) + 1) / ranks
        first = precision[ranks <= 1_000]
        values.append((precision.mean(), first.mean() if len(first) else 0.0))
    return np.mean(values, axis=0).tolist()


def query_in_database():
    """Replaces an item of the query's class by the query itself, so that it finds itself."""
    rows = []
    for classes, items in ((10, 59_000), (10, 5_000), (1_000, 50_000), (1_000, 5_000)):
        query, label, database, labels = make_codes(classes, 64, items)
        leaky = database.copy()
        within = np.arange(QUERIES) - np.searchsorted(label, label)
        leaky[np.searchsorted(labels, label) + within] = query
        counts = [distance_counts(query, label, side, labels) for side in (database, leaky)]
        values = [mean_average_precision(each) for each in counts]
        values += [float(metrics.precision_at_k(each, 10).mean()) for each in counts]
        rows.append([f"{classes} classes", items, *values])
    columns = "set | database | mAP, queries apart | mAP, queries inside"
    return f"{columns} | precision@10, apart | precision@10, inside".split(" | "), rows


def protocol():
    """Compares the CIFAR-10 protocols if training items have less noise than others."""
    labels, test = np.repeat(np.arange(10), 6_000), np.tile(np.arange(6_000) >= 5_000, 10)
    rows = []
    for make_split in (cifar10_i, cifar10_i_prime, cifar10_ii):
        split = make_split(labels, test.astype(int))
        values, seen = [], split.overlaps()["train"]["database"]
        for less in (1.0, 0.75, 0.5):
            noise = SETS[10][1] * np.where(np.isin(np.arange(len(labels)), split.train), less, 1.0)
            codes = embed(labels, noise, 32)
            sides = [of[part] for part in (split.query, split.database) for of in (codes, labels)]
            values.append(mean_average_precision(distance_counts(*sides)))
        sizes = len(split.train), len(split.query), len(split.database)
        rows.append([f"`{split.name.split('@')[0]}`", *sizes, seen, *values])
    columns = "protocol | training | queries | database | training items in it | mAP, noise alike"
    return f"{columns} | noise × 0.75 | noise × 0.5".split(" | "), rows


def zero():
    """Compares exact zeros that are read as +1, as -1, and kept as 0."""
    query, label, database, labels = make_codes(10, 32)
    values, cases, rows = np.concatenate([query, database]), {}, []
    for share in (0, 0.01, 0.05, 0.2):  # the smallest values, as where a dead zone is cut out
        edge = np.quantile(np.abs(values), share)
        cases[f"{share:.0%}"] = np.where(np.abs(values) < edge, 0, values)
    cases["all negative values, by a ReLU"] = np.maximum(values, 0)
    for name, values in cases.items():
        query, database = values[:QUERIES], values[QUERIES:]
        readings = [query >= 0, query > 0, with_zeros(query, (0, 0, 1, 1))]
        others = [database >= 0, database > 0, with_zeros(database, (0, 1, 0, 1))]
        counts = [distance_counts(readings[i], label, others[i], labels) for i in range(3)]
        rows.append([name, *map(mean_average_precision, counts)])
    return ["exact zeros", "read as +1", "read as -1", "kept as 0"], rows


def with_zeros(values, zero):
    """Encodes a sign by four bits: signs s and t differ in 2 (1 - s t); two zeros need other bits."""
    bits = np.array([(0, 0, 0, 0), zero, (1, 1, 1, 1)], bool)
    return bits[np.sign(values).astype(int) + 1].reshape(len(values), -1)


def relevance():
    """Compares relevance by a common label with relevance by the same set of labels."""
    labels = np.random.default_rng(1).random((60_000, 20)) < np.linspace(0.2, 0.02, 20)
    labels = labels[labels.any(axis=1)].astype(np.int8)
    codes, rows = embed(labels, SETS[10][1], 64), []
    sides = codes[:QUERIES], labels[:QUERIES], codes[QUERIES:], labels[QUERIES:]
    for name, title in (("shared", "a label in common"), ("equal", "the same set of labels")):
        counts = distance_counts(*sides, relevance=name)
        forms = {}, {"k": 5_000, "divide_by": "min"}, {"k": 5_000, "divide_by": "retrieved"}
        values = [mean_average_precision(counts, **form) for form in forms]
        relevant = counts.relevant.sum(axis=1)
        rows.append([title, round(relevant.mean()), int((relevant == 0).sum()), *values])
    columns = "relevant is | relevant items of a query | queries without any | mAP"
    return f"{columns} | mAP@5000, `jaxhash` | mAP@5000, `deephash-pytorch`".split(" | "), rows


def statistics():
    """Computes intervals over queries, and paired tests of 32 bits against other bits."""
    query, label, database, labels = make_codes(10, 64)
    values, rows = [], []
    for bits in (slice(32), slice(32, 64), slice(34)):
        counts = distance_counts(query[:, bits], label, database[:, bits], labels)
        values.append(metrics.average_precision(counts))
    for queries in (100, 300, QUERIES):
        chosen = np.linspace(0, QUERIES - 1, queries).astype(int)
        first, *others = (value[chosen] for value in values)
        row = [queries, float(first.mean()), metrics.bootstrap_interval(first)._asdict()]
        for test in (metrics.paired_test(other, first) for other in others):
            row += [test.difference, test.interval._asdict(), test.p_value]
        rows.append(row)
    columns = "queries | mAP, 32 bits | 95 % interval | 32 other bits: difference | 95 % interval"
    return f"{columns} | p | 2 bits more: difference | 95 % interval | p".split(" | "), rows


def main() -> None:
    """Measures everything and writes the tables."""
    effects = conventions, ties, query_in_database, protocol, zero, relevance, statistics
    made_on = {"hardware": hardware(), "versions": versions(["jax", "jaxlib", "numpy", "jaxhash"])}
    tables = {f.__name__: dict(zip(("columns", "rows"), f(), strict=True)) for f in effects}
    write_json(PATH, {"command": COMMAND, **made_on, "tables": tables})


if __name__ == "__main__":
    main()
