"""Processes that count and rank a part each have the numbers of one process, to the last bit."""

import json
import os
import subprocess
import sys

#: Every kind of score, of which each process prints all digits. The items of the highest gain, and all
#: items that some queries should find, are in the share of one process.
CODE = """
import json, sys
import jax, numpy as np
from jaxhash.training.distributed import initialize_distributed
if int(sys.argv[1]) > 1:
    initialize_distributed(None, None, None)
from jaxhash import metrics
from jaxhash.retrieval.counting import count_by_distance
from jaxhash.retrieval.packed_codes import as_packed_codes
from jaxhash.retrieval.score import score_codes, score_floats
from jaxhash.retrieval.score_hierarchy import (
    embedding_similarity, score_hierarchy, score_hierarchy_of_vectors)

counted = []
count = metrics.distance_counts
metrics.distance_counts = lambda *sides, **options: counted.append(len(sides[2])) or count(*sides, **options)
rng = np.random.default_rng(0)
sizes = {"query": 71, "database": 403}
values = {name: rng.normal(size=(n, 12)).astype(np.float32) for name, n in sizes.items()}
ids = {name: rng.integers(-1, 5, n) for name, n in sizes.items()}
known = {name: rng.integers(0, 5, n) for name, n in sizes.items()}
rows = {name: (rng.random((n, 6)) < 0.4).astype(np.int8) for name, n in sizes.items()}
rows["database"][:300] = [1, 0, 0, 0, 0, 0]
draw = rng.random((71, 403))
draw[:9, :250] = 0.5
relevant, excluded = (
    metrics.ItemLists.from_pairs(np.argwhere(marks), queries=71) for marks in (draw > 0.97, draw < 0.3))
lists = {"relevance": relevant, "excluded": excluded}
sides = lambda labels: [part for name in sizes for part in (values[name], labels[name])]
tree = np.array([[1.0, 0.5, 0, 0, 0], [0.5, 1, 0, 0, 0], [0, 0, 1, 0.2, 0], [0, 0, 0.2, 1, 0], [0, 0, 0, 0, 1]])
packed = {name: as_packed_codes(part) for name, part in values.items()}
graded = count_by_distance(
    packed["query"], rows["query"], packed["database"], rows["database"], relevance="graded")
few = [side[:1] for side in sides(ids)]  # fewer items, and fewer queries, than processes
found = {
    "ids": score_codes(*sides(ids)),
    "lists": score_codes(*sides(ids), **lists),
    "graded": [metrics.ndcg(graded, 20).tolist(), [each.tolist() for each in graded]],
    "floats": score_floats(*sides(rows)),
    "floats by lists": score_floats(*sides(ids), **lists),
    "tree": score_hierarchy(*sides(known), tree),
    "embeddings": score_hierarchy_of_vectors(*sides(values), embedding_similarity),
    "one": [score_codes(*few), score_floats(*few)],
}
if jax.process_index() == 0:
    print(json.dumps(found))
print("counted", counted[:3], file=sys.stderr)
"""


def run(processes, port):
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2"}
    if processes > 1:
        environment["JAX_COORDINATOR_ADDRESS"] = f"localhost:{port}"
        environment["JAX_NUM_PROCESSES"] = str(processes)
    running = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, str(processes)],
            env=environment | {"JAX_PROCESS_ID": str(index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(processes)
    ]
    outputs = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0] * processes, outputs
    return outputs


def test_processes_have_the_numbers_of_one(reserve_port):
    [(expected, _)] = run(1, None)
    (found, first), (_, second) = run(2, reserve_port())
    assert json.loads(found.splitlines()[-1]) == json.loads(expected)  # Gloo prints a line too
    for text, share in ((first, 201), (second, 202)):  # of the database of 403
        assert f"counted {[share] * 3}" in text
