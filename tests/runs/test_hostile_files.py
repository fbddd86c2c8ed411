"""Files that were changed at random end in success or in one line, and take little memory.

Each of the readers is given thousands of changed files, from fixed seeds: as bytes, as JSON, and as
arrays of other kinds. What is found this way gets a test of its own beside its reader.
"""

import copy
import io
import json
import random
import resource
import signal
import warnings

import numpy as np
import pytest
from rich.console import Console

from jaxhash.data.readers.class_similarity import read_class_similarity
from jaxhash.data.readers.features import read_features
from jaxhash.data.sources import Source
from jaxhash.retrieval.evaluate_codes import evaluate_codes
from jaxhash.runs.config import Config
from jaxhash.runs.folder import print_results, read_config, read_results
from jaxhash.runs.metrics_file import read_metrics
from jaxhash.runs.presets import PRESETS
from jaxhash.training.collapse import CollapseAlarm
from jaxhash.training.loop import SkipCounter
from jaxhash.training.members import Member, MemberMonitor
from jaxhash.training.speed import Speed
from jaxhash.utils.errors import UserError

INPUTS = 5000

#: Memory that all inputs of a test may add to what the process has held.
MOST_BYTES = 2**30

#: What stands in place of a value of JSON, and of bytes.
VALUES = (
    None,
    True,
    0,
    -1,
    1.5,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "\ud800",
    [],
    {},
)
VALUES += (
    [[]],
    [None],
    ["a"],
    {"a": 1},
    "1",
    "[/x]",
    "\n",
    "\0",
    [1, "2"],
    2**63,
    -(10**18),
    "9" * 5000,
)
TOKENS = (
    b"NaN",
    b"null",
    b"[" * 3000,
    b"{}",
    b"1e999",
    b"-",
    b"\xff",
    b'"',
    b"\0" * 9,
    b"\n",
    b",",
)
TOKENS += (b"9" * 30, b"\xef\xbb\xbf", b" ", b"PK\x03\x04", b"(-1,)", b"|O", b"\xe2\x80\xa8")


def changed_bytes(rng, content):
    """The bytes with one to three places flipped, cut, doubled, left out or written over."""
    content = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(content) + 1)
        end = min(len(content), start + rng.randint(1, 40))
        match rng.randrange(6):
            case 0 if start < len(content):
                content[start] ^= 1 << rng.randrange(8)
            case 1:
                del content[start:]
            case 2:
                content[start:start] = content[start:end]
            case 3:
                del content[start:end]
            case 4:
                content[start:end] = rng.choice(TOKENS)
            case _:
                content[start:start] = rng.randbytes(rng.randint(1, 8))
    return bytes(content)


def changed_json(rng, value):
    """The value with one place replaced, left out or added to."""
    places = []

    def walk(node):
        keys = list(node) if isinstance(node, dict) else range(len(node))
        for key in keys:
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    value = copy.deepcopy(value)
    walk(value)
    for _ in range(rng.randint(1, 2)):
        node, key = rng.choice(places)
        if isinstance(node, dict) and rng.random() < 0.2:
            node.pop(key, None)
        elif isinstance(node, dict) and rng.random() < 0.1:
            node[rng.choice(["", "x", "\ud800", "sweep", "head_multiplier"])] = rng.choice(VALUES)
        elif isinstance(node, list) and rng.random() < 0.2:
            node.append(rng.choice(VALUES))
        elif isinstance(node, dict) or key < len(node):
            node[key] = rng.choice(VALUES)
    return value


def changed_arrays(rng, arrays):
    """The arrays with one of another dtype, shape or content, left out, or of an old name."""
    arrays = dict(arrays)
    for _ in range(rng.randint(1, 2)):
        name = rng.choice(list(arrays))
        array = np.asarray(arrays[name])
        match rng.randrange(8):
            case 0:
                kinds = [
                    "b1",
                    "i1",
                    "u1",
                    "i2",
                    ">i4",
                    "u8",
                    "f2",
                    "f4",
                    ">f8",
                    "c8",
                    "U3",
                    "S3",
                    "V4",
                    "M8[s]",
                    "O",
                ]
                with warnings.catch_warnings(action="ignore"):
                    try:
                        array = array.astype(rng.choice(kinds))
                    except (ValueError, TypeError):
                        continue
            case 1:
                shapes = [(-1,), (1, -1), (-1, 1), (*array.shape, 1), (1, *array.shape)]
                array = array.reshape(rng.choice(shapes))
            case 2 if array.dtype.kind in "iuf" and array.size:
                values = [-1, -2, 127, 10**6, 2**31, 2**62, np.nan, np.inf, -0.0, 1e300, 0.5]
                array = array.astype(float if rng.random() < 0.5 else array.dtype)
                with np.errstate(all="ignore"):
                    array.flat[rng.randrange(array.size)] = np.array(rng.choice(values)).astype(
                        array.dtype
                    )
            case 3:
                array = array[: rng.randrange(3)] if array.ndim else np.zeros(0)
            case 4:
                array = rng.choice(
                    [np.array(3), np.array("x"), np.zeros((0, 0)), np.zeros((2,) * 9)]
                )
            case 5:
                del arrays[name]
                if not arrays:
                    return {"x": array}
                continue
            case 6:
                array = arrays[rng.choice(list(arrays))]
            case _:
                array = np.concatenate([array, array]) if array.ndim else array
        arrays[name] = array
    return arrays


def npz(rng, arrays):
    file = io.BytesIO()
    rng.choice([np.savez, np.savez_compressed])(file, allow_pickle=True, **arrays)
    return file.getvalue()


def check(seed, make, read, inputs=INPUTS):
    """Read what ``make`` returns for each of the random generators; all ends well or in a line."""

    def stop(*_):
        raise TimeoutError("a file holds the reader up")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    earlier = signal.signal(signal.SIGALRM, stop)
    refused = 0
    try:
        for number in range(inputs):
            rng = random.Random(f"{seed}/{number}")
            write = make(rng)
            signal.alarm(60)
            try:
                read(write)
            except UserError as error:
                refused += 1
                assert "\n" not in str(error) and len(str(error)) < 2000, number
            except Exception as error:
                raise AssertionError(f"input {number} of {seed}") from error
            finally:
                signal.alarm(0)
    finally:
        signal.signal(signal.SIGALRM, earlier)
    assert refused > inputs / 10
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert 1024 * (after - before) < MOST_BYTES


QUIET = Console(file=io.StringIO(), width=120)


def changed_text(rng, value):
    if rng.random() < 0.6:
        return json.dumps(changed_json(rng, value)).encode()
    return changed_bytes(rng, json.dumps(value, indent=rng.choice([None, 2])).encode())


@pytest.mark.slow
def test_configurations(tmp_path, unchecked):
    run = Config().replace(objective_options=("pairs=batch",), weights=tmp_path / "w.npz").to_json()
    every = [make().to_json() for make in PRESETS.values()] + [run]
    every.append(run | {"sweep": {"seeds": 2, "axes": {"clip_norm": [1.0, 2.0]}}})
    path = tmp_path / "config.json"

    def read(content):
        path.write_bytes(content)
        config, _ = read_config(tmp_path)
        config.to_json()

    check("config", lambda rng: changed_text(rng, rng.choice(every)), read)


SCORES = {
    "map": 0.5,
    "map_worst_ties": 0.4,
    "map_best_ties": 0.6,
    "precision_at_radius_2": 0.5,
    "bit_balance": 0.9,
    "quantization_error": 0.1,
}
RESULTS = SCORES | {
    "bits": 16,
    "dataset": "digits",
    "objective": "hashnet",
    "items": {"train": 800, "validation": 80, "query": 200, "database": 797},
    "baselines": {"random hyperplanes": SCORES},
    "float_rankings": {"learned floats": {"map": 0.6}, "input features": {"map": 0.6}},
    "model_choice": {"epoch": 2, "step": 16, "says": "the last epoch", "candidates": []},
    "leaks": ["one"],
    "collapsed_at_step": 12,
}
MEAN = {"mean": 0.5, "deviation": 0.1, "count": 2}
SWEEP = {
    "bits": 16,
    "dataset": "digits",
    "objective": "hashnet",
    "items": RESULTS["items"],
    "axes": {"clip_norm": [1.0, 2.0]},
    "seeds": [0, 1],
    "settings": [
        {"values": {"clip_norm": 1.0}, "scores": dict.fromkeys(SCORES, MEAN), "diverged": []},
        {"values": {"clip_norm": 2.0}, "scores": None, "diverged": [1]},
    ],
    "best": 0,
    "members": [
        {"seed": 0, "values": {"clip_norm": 1.0}, "diverged_at_step": None, "collapsed_at_step": 3}
    ],
    "leaks": [],
}


@pytest.mark.slow
def test_results(tmp_path, unchecked):
    path = tmp_path / "results.json"

    def read(content):
        path.write_bytes(content)
        print_results(tmp_path, read_results(tmp_path), QUIET)

    check("results", lambda rng: changed_text(rng, rng.choice([RESULTS, SWEEP])), read)


@pytest.mark.slow
@pytest.mark.parametrize("members", [0, 2])
def test_metrics(tmp_path, unchecked, members):
    def metric(value):
        return [value] * members if members else value

    times = {"step_seconds": 0.1, "wait_share": 0.2}
    records = [
        {"step": i, "seconds": 0.1 * i, "loss": metric(1.5), "dead_bits": metric(9), **times}
        for i in range(1, 25)
    ]
    records[0]["compile_seconds"] = 3.0
    records[3]["loss"] = [None, 1.0] if members else None
    path = tmp_path / "metrics.jsonl"

    def make(rng):
        kept = changed_json(rng, records) if rng.random() < 0.7 else records
        content = "".join(json.dumps(record) + "\n" for record in kept).encode()
        return content if kept is not records else changed_bytes(rng, content)

    def read(content):
        path.write_bytes(content)
        found = read_metrics(path, members)
        Speed.from_records(found, rows=100)
        if members:
            MemberMonitor([Member(0, {}), Member(1, {})], bits=16, rows=100, records=found)
        else:
            CollapseAlarm(bits=16, rows=100, records=found)
            SkipCounter(found)

    check(f"metrics {members}", make, read)


@pytest.mark.slow
def test_feature_files(tmp_path, unchecked):
    rng = np.random.default_rng(0)
    full = {
        "features": rng.normal(size=(12, 4)).astype(np.float32),
        "labels": np.arange(12) % 3,
        "class_names": np.array(["a", "b", "c"]),
        "split": np.arange(12) % 2,
        "split_names": np.array(["train", "test"]),
        "coarse_labels": np.arange(12) % 3 // 2,
        "item_names": np.array([f"{i}.png" for i in range(12)]),
        "scale": np.ones(4),
    }
    several = {"features": full["features"].astype(np.int8), "labels": np.eye(12, 4, dtype=np.int8)}
    path = tmp_path / "features.npz"

    def make(rng):
        arrays = rng.choice([full, full, several])
        if rng.random() < 0.7:
            return npz(rng, changed_arrays(rng, arrays))
        return changed_bytes(rng, npz(rng, arrays))

    def read(content):
        path.write_bytes(content)
        source = read_features("features:x", path)
        assert source.inputs[:2].dtype == np.float32
        assert all(isinstance(name, str) for name in source.class_names)
        source.name_of(0)

    check("features", make, read)


@pytest.mark.slow
def test_hierarchies(tmp_path, unchecked):
    nodes = [{"id": i, "label": f"n{i}"} for i in range(7)]
    links = [{"source": (i - 1) // 2, "target": i} for i in range(1, 7)]
    lines = "".join(f"n{(i - 1) // 2} n{i}\n" for i in range(1, 7)).encode()
    names = ("n3", "n4", "n5", "n2")
    source = Source("some", np.zeros((8, 2), np.float32), np.arange(8) % 4, names)
    vectors = {"embeddings": np.random.default_rng(0).normal(size=(4, 3)), "features": np.eye(8)}

    def make(rng):
        match rng.randrange(3):
            case 0:
                return "tree.json", changed_text(rng, {"nodes": nodes, "links": links})
            case 1:
                return "tree.txt", changed_bytes(rng, lines)
            case _:
                if rng.random() < 0.5:
                    return "tree.npz", npz(rng, changed_arrays(rng, vectors))
                return "tree.npz", changed_bytes(rng, npz(rng, vectors))

    def read(named):
        name, content = named
        (tmp_path / name).write_bytes(content)
        read_class_similarity(name, source, tmp_path)

    check("hierarchies", make, read)


@pytest.mark.slow
def test_code_files(tmp_path, unchecked):
    rng = np.random.default_rng(0)
    packed, ids = rng.integers(0, 256, (9, 2), np.uint8), np.arange(9) % 3
    real = {
        "query_codes": rng.normal(size=(3, 8)).astype(np.float32),
        "query_labels": np.eye(3, 4, dtype=np.int8),
        "database_codes": rng.normal(size=(9, 8)).astype(np.float32),
        "database_labels": np.eye(9, 4, dtype=np.int8),
    }
    bits = {
        "query_codes": packed[:3],
        "query_labels": ids[:3],
        "database_codes": packed,
        "database_labels": ids,
    }
    path = tmp_path / "codes.npz"

    def make(rng):
        arrays = rng.choice([real, bits])
        if rng.random() < 0.7:
            return npz(rng, changed_arrays(rng, arrays))
        return changed_bytes(rng, npz(rng, arrays))

    def read(content):
        path.write_bytes(content)
        evaluate_codes(path, QUIET)

    check("codes", make, read)
