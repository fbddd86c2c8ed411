"""Recommends by Hamming distance on Last.fm: HashGNN, and LightGCN's vectors with their codes.

    python experiments/graph_hashing.py --data-dir DIR

DIR holds lastfm.npz. HashGNN trains by the preset lastfm-hashgnn, alone, with a quantizer, and with the share
of signs that its released code reaches by default, 0.18. Beside it stand the vectors of LightGCN (He et al.,
"LightGCN: Simplifying and Powering Graph Convolution Network for Recommendation", SIGIR 2020): the mean of the
first three propagations of trained vectors over the whole normalized graph, without any other weight, trained by
BPR; their signs, their codes by ITQ, and the signs of such vectors trained with 0.1 HSWD. Each ranking leaves out
the user's training items. The rows are written to experiments/results/graph_hashing.json after each seed, and
replace those of the same names and lengths there. `tables.py` draws it. A training of HashGNN takes three minutes
on a CPU core.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
import tyro
from rich.console import Console

from jaxhash import losses
from jaxhash.data.load import load_source
from jaxhash.data.readers.interactions import InteractionRows
from jaxhash.data.sources import Source
from jaxhash.metrics import mean_over_seeds
from jaxhash.retrieval.baselines.linear_hashes import fit_linear_hashes
from jaxhash.retrieval.score import score_codes, score_floats
from jaxhash.retrieval.vectors import LazyVectors, inner_products
from jaxhash.runs.presets import PRESETS
from jaxhash.runs.train_run import train
from jaxhash.training.devices import hardware
from jaxhash.utils.files import read_json, write_json
from jaxhash.utils.hardware import versions

#: What makes the whole file; its parts may be made one after the other.
COMMAND = "python experiments/graph_hashing.py --data-dir DIR"

PATH = Path(__file__).parent / "results" / "graph_hashing.json"

#: Columns of the table, by the name of the score.
SCORES = {
    "recall_at_20": "Recall@20",
    "recall_at_50": "Recall@50",
    "ndcg_at_20": "nDCG@20",
    "ndcg_at_50": "nDCG@50",
}

#: Training of LightGCN: propagations, pairs of a step, rate of Adam, and weight of the squared norm.
LAYERS, BATCH, RATE, DECAY = 3, 2048, 1e-2, 1e-4

#: Variants of HashGNN: name of the row, and fields of its configuration.
HASHGNN: dict[str, dict[str, Any]] = {
    "HashGNN": {},
    "HashGNN + 0.1 L2": {"quantizer": "l2"},
    "HashGNN + 0.1 HSWD": {"quantizer": "hswd"},
    "HashGNN + 0.1 KL": {"quantizer": "empirical-kl"},
    "HashGNN, signs to 0.18": {"objective_options": ("beta_end=0.18",)},
}


def main(
    data_dir: Path,
    seeds: int = 3,
    bits: int = 64,
    epochs: int = 10,
    hashgnn_epochs: int = 40,
    variants: tuple[str, ...] = tuple(HASHGNN),
    parts: tuple[str, ...] = ("lightgcn", "hashgnn"),
    output: Path = PATH,
) -> None:
    """Trains all rows and collects their scores.

    Args:
        data_dir: folder of lastfm.npz.
        seeds: number of seeds, from 0.
        bits: length of a code, and of a vector.
        epochs: epochs of LightGCN.
        hashgnn_epochs: epochs of HashGNN.
        variants: names of variants of HashGNN.
        parts: what to train.
        output: file of the results.
    """
    console = Console(width=120)
    source = load_source("interactions:lastfm.npz", data_dir)
    trainings = {
        "lightgcn": lambda seed: lightgcn_rows(source, bits, epochs, seed),
        "hashgnn": lambda seed: hashgnn_rows(
            data_dir, bits, hashgnn_epochs, seed, variants, console
        ),
    }
    lengths = {"lightgcn": epochs, "hashgnn": hashgnn_epochs}
    for part in parts:
        found: dict[str, list[dict[str, float]]] = {}
        for seed in range(seeds):
            for name, scores in trainings[part](seed):
                found.setdefault(name, []).append(scores)
                console.print(name, seed, {key: round(scores[key], 4) for key in SCORES})
            add_rows(output, bits, lengths[part], found)


def add_rows(path: Path, bits: int, epochs: int, found: dict[str, list[dict[str, float]]]) -> None:
    """Adds rows to the table, or puts them in the place of those of the same names."""
    columns = ["ranking by", "bits", "epochs", "seeds", *SCORES.values()]
    content = read_json(path, "remove it") if path.is_file() else {"tables": {"lastfm": {}}}
    rows = {(row[1], row[0]): row for row in content["tables"]["lastfm"].get("rows", ())}
    for name, members in found.items():
        means = [mean_over_seeds([member[key] for member in members]) for key in SCORES]
        cells = [
            each.mean if len(members) == 1 else {"mean": each.mean, "deviation": each.deviation}
            for each in means
        ]
        rows[bits, name] = [name, bits, epochs, len(members), *cells]
    content["tables"]["lastfm"] = {
        "columns": columns,
        "rows": [rows[key] for key in sorted(rows, key=lambda key: key[0])],
    }
    content |= {"command": COMMAND, "hardware": hardware()}
    content |= {"versions": versions(("jaxhash", "jax", "numpy", "scipy"))}
    write_json(path, content)


def hashgnn_rows(
    data_dir: Path, bits: int, epochs: int, seed: int, variants: tuple[str, ...], console: Console
) -> Iterator[tuple[str, dict[str, float]]]:
    """Trains HashGNN, and yields scores by codes, and re-ranked by the floats that they are cut from."""
    for name in variants:
        config = PRESETS["lastfm-hashgnn"]().replace(
            **HASHGNN[name],
            data_dir=data_dir,
            bits=bits,
            epochs=epochs,
            seed=seed,
            on_collapse="warn",
            run_dir=Path("runs") / "graph_hashing" / f"{name.replace(' ', '-')}-{bits}-{seed}",
        )
        results = train(config, console)
        yield f"{name}, codes", results
        reranked = results["float_rankings"]["learned floats, re-ranked from the codes"]
        yield f"{name}, codes re-ranked by floats", reranked


def lightgcn_rows(
    source: Source, bits: int, epochs: int, seed: int
) -> Iterator[tuple[str, dict[str, float]]]:
    """Trains LightGCN without and with HSWD, and yields the scores of its vectors and of their codes."""
    sides = (np.flatnonzero(source.part_ids == part) for part in (2, 1))  # queries and items
    sides = [(rows, source.labels[rows]) for rows in sides]
    lists = {"relevance": source.relevant, "excluded": source.excluded}

    def score(score_sides: Any, vectors: np.ndarray, **options: Any) -> dict[str, float]:
        arguments = [each for rows, labels in sides for each in (vectors[rows], labels)]
        return score_sides(*arguments, **lists, **options)

    vectors = train_lightgcn(source.inputs, bits, epochs, seed, quantizer_weight=0.0)
    yield "LightGCN, floats", score(score_floats, vectors, compare=inner_products)
    yield "LightGCN, signs", score(score_codes, vectors)
    itq = fit_linear_hashes(LazyVectors(vectors), ("itq",), bits, seed=seed)["itq"]
    yield "LightGCN, ITQ", score(score_codes, itq(vectors))
    vectors = train_lightgcn(source.inputs, bits, epochs, seed, quantizer_weight=0.1)
    yield "LightGCN + 0.1 HSWD, floats", score(score_floats, vectors, compare=inner_products)
    yield "LightGCN + 0.1 HSWD, signs", score(score_codes, vectors)


def train_lightgcn(
    rows: InteractionRows, dimensions: int, epochs: int, seed: int, *, quantizer_weight: float
) -> np.ndarray:
    """Returns the vectors of users and items after training.

    The propagation is linear and its matrix symmetric, so SciPy's products with the sparse matrix are
    its forward and its backward pass; only the loss of a batch is JAX's. With a quantizer the scores are
    those of relaxed vectors, with the temperature of HashGNN.
    """
    pairs, rng = rows.pairs, np.random.default_rng(seed)
    nodes = rows.users + rows.items
    propagate = make_propagation(rows)
    slopes = jax.jit(jax.grad(make_loss(dimensions, quantizer_weight), argnums=0))
    vectors = (0.1 * rng.normal(size=(nodes, dimensions))).astype(np.float32)
    mean, square = np.zeros_like(vectors), np.zeros_like(vectors)
    steps = -(-len(pairs) // BATCH)
    for step in range(1, epochs * steps + 1):
        if (step - 1) % steps == 0:
            order = rng.permutation(steps * BATCH) % len(pairs)
        chosen = pairs[order[(step - 1) % steps * BATCH :][:BATCH]]
        others = rows.draw_free_items(chosen[:, 0], rng.random((BATCH, 1)))[:, 0]
        touched = np.concatenate(
            [chosen[:, 0], *(rows.users + each for each in (chosen[:, 1], others))]
        )
        batch = propagate(vectors)[touched].reshape(3, BATCH, dimensions)
        slope = np.asarray(slopes(jnp.asarray(batch), jax.random.key(step))).reshape(-1, dimensions)
        ones = np.ones(3 * BATCH, np.float32)
        gather = sp.csr_array((ones, (touched, np.arange(3 * BATCH))), shape=(nodes, 3 * BATCH))
        slope = propagate(gather @ slope) + DECAY / BATCH * (gather @ ones)[:, None] * vectors
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        rate = RATE * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        vectors -= (rate * mean / (np.sqrt(square) + 1e-8)).astype(np.float32)
    return propagate(vectors)


def make_propagation(rows: InteractionRows) -> Any:
    """Returns the function from vectors to the mean of them and their `LAYERS` propagations."""
    nodes, pairs = rows.users + rows.items, rows.pairs
    places = pairs[:, 0], rows.users + pairs[:, 1]
    edges = sp.csr_array((np.ones(len(pairs), np.float32), places), shape=(nodes, nodes))
    edges = edges + edges.T
    factor = sp.diags_array((1 / np.sqrt(np.maximum(edges.sum(axis=1), 1))).astype(np.float32))
    graph = sp.csr_array(factor @ edges @ factor)

    def propagate(vectors: np.ndarray) -> np.ndarray:
        total = layer = vectors
        for _ in range(LAYERS):
            layer = graph @ layer
            total = total + layer
        return total / (LAYERS + 1)

    return propagate


def make_loss(bits: int, quantizer_weight: float) -> Any:
    """Returns BPR of users, items and others [3, n, bits]; with HSWD, of relaxed vectors."""

    def loss(batch, key):
        user, item, other = batch
        if not quantizer_weight:
            return losses.bpr(user, item, other[:, None])
        quantized = sum(losses.hswd(each, key=key, reduce_fn=jnp.mean) for each in (user, item))
        user, item, other = jnp.tanh(batch)
        ranked = losses.bpr(user, item, other[:, None], temperature=bits / 8)
        return ranked + quantizer_weight * quantized

    return loss


if __name__ == "__main__":
    tyro.cli(main)
