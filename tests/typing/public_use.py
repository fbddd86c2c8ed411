"""What users call, for a type checker alone: it finds no error here, and nothing is run."""

from typing import Any, assert_type

import flax.linen as nn
import jax
import numpy as np

import jaxhash
from jaxhash import losses, metrics, models, ops, similarity
from jaxhash.objectives import Objective, combine, from_loss, hashnet, hswd, weighted
from jaxhash.retrieval import Index, fit


def losses_in_any_loop(codes: jax.Array, labels: jax.Array, key: jax.Array) -> None:
    assert_type(similarity.multi_hot(np.arange(4), 10), jax.Array)
    assert_type(losses.hswd(codes, key=key), jax.Array)
    assert_type(losses.hswd(codes, target="balanced", reduce_fn=None), jax.Array)
    assert_type(losses.pairwise_likelihood(codes, codes, labels @ labels.T > 0), jax.Array)
    assert_type(losses.csq(codes, ops.codebook(10, 16).codes[labels]), jax.Array)
    losses.hswd(codes, target="balance")  # pyright: ignore[reportArgumentType]
    losses.hswd(codes, where=True, axis="data")  # pyright: ignore[reportCallIssue]


def operations_keep_the_kind_of_array(codes: jax.Array, rows: np.ndarray) -> None:
    assert_type(ops.binarize(codes), jax.Array)
    assert_type(ops.binarize(rows), np.ndarray)
    packed = ops.pack(rows)
    assert_type(packed, jax.Array)
    assert_type(ops.hamming_distance(packed, np.asarray(packed)), jax.Array)
    assert_type(ops.unpack(packed, 16), jax.Array)


def objectives_add_up() -> Objective:
    own = from_loss("l2", losses.l2_quantization)
    assert_type(weighted(0.1, hswd(target="balanced")), Objective)
    return combine(hashnet(), weighted(0.1, hswd()), own)


def trainings(vectors: np.ndarray, labels: np.ndarray, model: nn.Module) -> None:
    config = jaxhash.presets.digits_hashnet_hswd().replace(bits=16, epochs=5)
    assert_type(config, jaxhash.Config)
    source = jaxhash.data.from_arrays(vectors, labels)
    results = jaxhash.train(config, source=source, model=model, objective=objectives_add_up())
    assert_type(results, dict[str, Any])
    assert_type(jaxhash.runs.Experiment.open(config), jaxhash.Experiment)
    assert_type(models.Encoder(models.backbone_factory("mlp"), bits=16), models.Encoder)


def codes_and_search(vectors: np.ndarray) -> None:
    for hasher in (jaxhash.load("runs/digits"), fit(vectors, method="itq", bits=16)):
        assert_type(hasher, jaxhash.Hasher)
        assert_type(hasher.encode(hasher.preprocess(vectors)), np.ndarray)
        assert_type(hasher.bits, int)
    index = Index.open("index", read_only=True)
    assert_type(index, Index)
    assert_type(len(index), int)


def evaluations(codes: np.ndarray, labels: np.ndarray) -> float:
    result = metrics.evaluate_retrieval(codes, labels, codes, labels, k=100)
    assert_type(result, metrics.RetrievalResult)
    return result.scores["map"].expected
