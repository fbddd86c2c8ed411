"""The table of the public losses: each row gets all tests of test_conformance*.py.

A row holds a loss and a small batch with everything that the loss takes. Which axis of an array is
rows, columns or bits is read from the loss's annotations.
"""

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash import losses

ROWS, COLUMNS, BITS, CLASSES = 8, 6, 5, 3

#: Arguments that are differentiated.
TRAINED = ("codes", "logits", "others", "proxies", "anchors", "kernel")

#: Arguments that are scaled where codes are.
SCALED = ("codes", "logits", "others")


class Row(NamedTuple):
    """A loss and the arguments for one call."""

    loss: Callable[..., jax.Array]
    data: dict[str, np.ndarray]
    """Its arrays beside the first: float32, or bool where 0 and 1 are meant."""
    options: dict[str, Any] = {}
    power: float = 0.0
    """The value grows with this power of the codes, and so may overflow."""
    scale_free: bool = False
    """True if the value depends on the directions of the codes alone."""
    constants: bool = False
    """True if something that depends on the codes is a constant for the gradient."""
    axes: dict[str, tuple[str, ...]] = {}
    """Axes of arrays that may have several forms; "all" are the rows of all devices."""

    @property
    def first(self) -> str:
        """The name of the codes, or of the scores that stand for them."""
        return next(iter(self.signature))

    @property
    def signature(self):
        return inspect.signature(self.loss).parameters

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return {self.first: _CODES if self.first == "codes" else _CODES[:, :CLASSES]} | self.data

    def axes_of(self, name: str) -> tuple[str, ...]:
        return self.axes.get(name) or tuple(annotation(self.loss, name)[1].split())

    def value(self, arrays) -> jax.Array:
        return jnp.sum(self.loss(**arrays, **self.options))


@functools.cache
def annotation(loss: Callable, name: str) -> tuple[str, str]:
    """The kind and the axes of an argument, such as ("Float", "n bits")."""
    text = str(inspect.signature(loss).parameters[name].annotation)
    return re.search(r"(\w+)\[\S*Array, ' *([^']*)'\]", text).groups()


_RNG = np.random.default_rng(0)


def _normal(*shape):
    return (0.5 * _RNG.normal(size=shape)).astype(np.float32)


_CODES = _normal(ROWS, BITS)
_BATCH = {"where": np.arange(ROWS) != 2}
_CENTERS = _BATCH | {"centers": np.sign(_normal(ROWS, BITS))}
_TARGETS = _BATCH | {"targets": np.sign(_normal(ROWS, BITS))}
_VIEWS = _BATCH | {"others": _normal(ROWS, BITS)}
_CLASS = np.arange(ROWS, dtype=np.int32) % CLASSES
_TABLE = _BATCH | {"distances": 1 - np.eye(CLASSES, dtype=np.float32), "labels": _CLASS}

_LABELS = _BATCH | {"labels": np.eye(CLASSES, dtype=bool)[_CLASS]}
_LABELS["labels"][3] = [True, True, False]
_LABELS["labels"][5] = False
_WEIGHTS = np.linspace(0.0, 2.0, ROWS, dtype=np.float32)
_PROXIES = _LABELS | {"proxies": _normal(CLASSES, BITS)}
_OF_CLASSES = _LABELS | {
    "centers": np.sign(_normal(CLASSES, BITS)),
    "where_classes": np.ones(CLASSES, bool),
}

_BANK = {"others": _normal(COLUMNS, BITS), "where": _RNG.random((ROWS, COLUMNS)) < 0.9}
_PAIRS = _BANK | {"similar": _RNG.random((ROWS, COLUMNS)) < 0.4}
_SHARES = _RNG.choice(np.array([0.0, 0.25, 0.5, 1.0], np.float32), (ROWS, COLUMNS))
_SIGNS = _BANK | {"similarity": np.sign(_SHARES - 0.25)}

_POINTS = _RNG.random((ROWS, 2)).astype(np.float32)
_DISTANCES = np.abs(_POINTS[:, None] - _POINTS).mean(axis=2)

_ANCHORS = _BATCH | {"anchors": _VIEWS["others"]}
_SHARED = _BANK | {"similar": np.add.outer(np.arange(ROWS), np.arange(COLUMNS)) % 4}
_SHARED["similar"] = _SHARED["similar"].astype(np.int32)

_KEY = {"key": jax.random.key(0)}

_CLASSIFIER = _BATCH | {"kernel": _normal(BITS, CLASSES), "labels": _CLASS.copy()}
_CLASSIFIER["labels"][5] = -1

_CHOSEN = _VIEWS | {"negatives": _normal(ROWS, 3, BITS)}


CONFORMANCE = {
    "anchor_attraction": Row(
        losses.anchor_attraction, _LABELS | {"anchors": _PROXIES["proxies"]}, power=2
    ),
    "anchor_norm_shortfall": Row(losses.anchor_norm_shortfall, _ANCHORS),
    "anchor_repulsion": Row(losses.anchor_repulsion, _ANCHORS),
    "anchor_repulsion-mean": Row(
        losses.anchor_repulsion, _ANCHORS, {"reduction": "mean", "margin": 0.5}
    ),
    "asymmetric_dsh": Row(losses.asymmetric_dsh, _PAIRS, power=4),
    "bernoulli_kl": Row(losses.bernoulli_kl, _BATCH),
    "bernoulli_kl-mass": Row(losses.bernoulli_kl, _BATCH, {"mass": 0.2}),
    "bernoulli_kl_per_code": Row(losses.bernoulli_kl_per_code, _BATCH),
    "binary_cross_entropy": Row(losses.binary_cross_entropy, _LABELS, power=1),
    "bit_balance_penalty": Row(losses.bit_balance_penalty, _BATCH, power=2),
    "bit_decorrelation": Row(losses.bit_decorrelation, _BATCH, power=4),
    "bit_decorrelation-centered": Row(
        losses.bit_decorrelation, _BATCH, {"centered": True}, power=4
    ),
    "cauchy_quantization": Row(losses.cauchy_quantization, _BATCH, scale_free=True),
    "cosine_distillation": Row(
        losses.cosine_distillation,
        _BATCH | {"teacher": _normal(ROWS, BITS)},
        scale_free=True,
    ),
    "cosine_quantization": Row(losses.cosine_quantization, _BATCH, scale_free=True),
    "cosine_regression": Row(
        losses.cosine_regression, _BANK | {"similarity": _SHARES}, scale_free=True
    ),
    "cross_entropy": Row(losses.cross_entropy, _LABELS, power=1),
    "bpr": Row(losses.bpr, _CHOSEN, {"temperature": 2.0}, power=2),
    "cross_entropy-weights": Row(losses.cross_entropy, _LABELS | {"weights": _WEIGHTS}, power=1),
    "csq": Row(losses.csq, _CENTERS, power=1),
    "cubic_quantization": Row(losses.cubic_quantization, _BATCH, power=3),
    "dch": Row(losses.dch, _PAIRS, scale_free=True),
    "decorrelated_hswd": Row(losses.decorrelated_hswd, _BATCH, _KEY, power=2),
    "distance_to_codes": Row(losses.distance_to_codes, _TARGETS, power=2),
    "dpn": Row(losses.dpn, _TARGETS, power=1),
    "dsh": Row(losses.dsh, _PAIRS, power=2),
    "dtsh": Row(losses.dtsh, _PAIRS, power=2),
    "gaussian_bce_quantization": Row(losses.gaussian_bce_quantization, _BATCH, power=2),
    "hash_proxy": Row(losses.hash_proxy, _PROXIES, scale_free=True),
    "hashnet": Row(losses.hashnet, _PAIRS, {"scale": 0.5}, power=2),
    "hswd": Row(losses.hswd, _BATCH, _KEY, power=2),
    "hswd-balanced": Row(losses.hswd, _BATCH, {"target": "balanced"}, power=2),
    "hswd-expected": Row(losses.hswd, _BATCH, {"target": "expected"}, power=2),
    "hswd-sort": Row(losses.hswd, _BATCH, _KEY | {"method": "sort"}, power=2),
    "hswd-levels": Row(losses.hswd, _BATCH, _KEY | {"order": 1, "levels": (-2.0, 3.0)}, power=1),
    "hyp2_pairs": Row(losses.hyp2_pairs, _PAIRS, {"threshold": 0.1}, scale_free=True),
    "hyp2_proxies": Row(losses.hyp2_proxies, _PROXIES, {"threshold": 0.1}, scale_free=True),
    "hyp2_proxies-ids": Row(
        losses.hyp2_proxies,
        _PROXIES | {"labels": _CLASSIFIER["labels"]},
        {"threshold": 0.1},
        scale_free=True,
    ),
    "icnn": Row(losses.icnn, _PAIRS, {"neighbors": 2}, power=2),
    "icnn-drop": Row(
        losses.icnn, _PAIRS, {"neighbors": 2, "candidates": 4, "drop_nearest": True}, power=2
    ),
    "idhn": Row(losses.idhn, _BANK | {"similar": _SHARES}, power=4),
    "interaction_cross_entropy": Row(losses.interaction_cross_entropy, _CHOSEN, power=2),
    "koleo": Row(losses.koleo, _BATCH, scale_free=True),
    "l1_quantization": Row(losses.l1_quantization, _BATCH, power=1),
    "l2_quantization": Row(losses.l2_quantization, _BATCH, power=2),
    "lcdsh_locality": Row(losses.lcdsh_locality, _BANK),
    "linear_cross_entropy": Row(losses.linear_cross_entropy, _CLASSIFIER, power=1),
    "linear_cross_entropy-samples": Row(
        losses.linear_cross_entropy, _CLASSIFIER, _KEY | {"samples": 2}, power=1
    ),
    "log_cosh_quantization": Row(losses.log_cosh_quantization, _BATCH, power=1),
    "mean_likelihood": Row(losses.mean_likelihood, _PAIRS, power=2),
    "mean_likelihood-margin": Row(losses.mean_likelihood, _PAIRS, {"margin": 2.0}, power=2),
    "mihash": Row(losses.mihash, _PAIRS),
    "nearest_neighbor_kl": Row(losses.nearest_neighbor_kl, _BATCH, _KEY),
    "nearest_neighbor_kl-sample": Row(
        losses.nearest_neighbor_kl,
        _BATCH | {"target": _normal(COLUMNS, BITS)},
        {"norm": 2},
        power=2,
        axes={"target": ("m", "bits")},
    ),
    "nt_xent": Row(losses.nt_xent, _VIEWS, scale_free=True),
    "optimal_transport": Row(losses.optimal_transport, _BATCH, _KEY, power=2),
    "multilevel_means": Row(
        losses.multilevel_means, _BANK | {"similarity": _SHARES}, {"radius": 2.0}, power=2
    ),
    "multilevel_triplet": Row(
        losses.multilevel_triplet, _BANK | {"similarity": _SHARES}, {"radius": 2.0}, power=2
    ),
    "orthohash": Row(losses.orthohash, _OF_CLASSES, scale_free=True),
    "orthohash-arc": Row(
        losses.orthohash, _OF_CLASSES, {"margin_type": "arc", "scale": 5.0}, scale_free=True
    ),
    "pair_scatter": Row(losses.pair_scatter, _PAIRS, power=2),
    "pairwise_likelihood": Row(losses.pairwise_likelihood, _PAIRS, power=2),
    "parity_hswd": Row(losses.parity_hswd, _BATCH, _KEY, power=2),
    "proto_triplet": Row(losses.proto_triplet, _LABELS, power=2),
    "psh_pairs": Row(losses.psh_pairs, _LABELS, power=2),
    "propagated_cross_entropy": Row(
        losses.propagated_cross_entropy,
        _LABELS | {"logits": _normal(ROWS, CLASSES)},
        {"temperature": 0.5},
        power=1,
    ),
    "qsmi": Row(losses.qsmi, _PAIRS, scale_free=True),
    "rank_consistency": Row(
        losses.rank_consistency, _SHARED, {"levels": 3, "margin": 0.1}, power=2
    ),
    "semantic_consistency": Row(
        losses.semantic_consistency,
        _BANK | {"similarity": np.where(_SHARES > 0.3, 1, -1), "confidence": _SHARES},
        power=4,
    ),
    "semantic_similarity": Row(losses.semantic_similarity, _TABLE, scale_free=True),
    "semantic_similarity-weights": Row(
        losses.semantic_similarity,
        _BATCH | {"distances": _DISTANCES},
        {"normalizer": "weights"},
        scale_free=True,
        axes={"distances": ("n", "all")},
    ),
    "semantic_structure": Row(losses.semantic_structure, _SIGNS, power=4),
    "sinkhorn": Row(losses.sinkhorn, _BATCH, _KEY | {"iterations": 5}, power=2, constants=True),
    "sliced_wasserstein": Row(
        losses.sliced_wasserstein, _BATCH, _KEY | {"projections": 4, "block": 2}, power=2
    ),
    "sliced_wasserstein-axes": Row(
        losses.sliced_wasserstein, _BATCH, _KEY | {"directions": "axes"}, power=2
    ),
    "tie_aware_ap": Row(losses.tie_aware_ap, _PAIRS),
    "variance_shortfall": Row(losses.variance_shortfall, _BATCH, power=2),
    "view_divergence": Row(losses.view_divergence, _VIEWS, power=1, constants=True),
    "wglhh": Row(losses.wglhh, _PAIRS, scale_free=True),
    "word_nll": Row(losses.word_nll, _BATCH | {"counts": np.abs(_normal(ROWS, CLASSES))}, power=1),
}

#: Public functions that find codes or a classifier instead, and their arrays.
STEPS = {
    losses.asymmetric_dsh_codes: _BATCH
    | {"codes": _TARGETS["targets"], "relaxed": _CODES, "wanted": _VIEWS["others"]},
    losses.dsah_codes: _LABELS
    | {
        "codes": _TARGETS["targets"],
        "relaxed": _CODES,
        "classifier": _normal(BITS, CLASSES),
        "dual_classifier": _normal(BITS, CLASSES),
    },
    losses.dsdh_classifier: _LABELS | {"codes": _TARGETS["targets"]},
    losses.dsdh_codes: _LABELS
    | {
        "codes": _TARGETS["targets"],
        "relaxed": _CODES,
        "classifier": _normal(BITS, CLASSES),
    },
}


def parts(name, dtype=np.float32):
    """The arrays that are differentiated, and the rest."""
    row = CONFORMANCE[name]
    arrays = {
        n: jnp.asarray(a, dtype if a.dtype == np.float32 else None) for n, a in row.arrays.items()
    }
    trained = {n: a for n, a in arrays.items() if n in TRAINED}
    return trained, {n: a for n, a in arrays.items() if n not in TRAINED}


def value_and_slope(name, trained, rest):
    return jax.value_and_grad(lambda trained: CONFORMANCE[name].value(trained | rest))(trained)


@functools.cache
def program(name):
    return jax.jit(functools.partial(value_and_slope, name))


def all_finite(tree):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))


def public_losses():
    """The public functions that take a mask."""
    return {
        name
        for name, value in vars(losses).items()
        if inspect.isfunction(value) and "where" in inspect.signature(value).parameters
    }


#: A loss of each module, and HSWD with its options: the others are slow tests.
QUICK = {row.loss.__module__: name for name, row in reversed(CONFORMANCE.items())}.values()
QUICK = {*QUICK, *(name for name in CONFORMANCE if name.startswith("hswd"))}


def each_of(names):
    """A test for each row that is named, most of them slow."""
    slow = pytest.mark.slow
    return pytest.mark.parametrize(
        "name", [name if name in QUICK else pytest.param(name, marks=slow) for name in names]
    )


#: A test for each row of the table.
each = each_of(CONFORMANCE)

#: A test for each loss, without the variants of its options.
each_loss = each_of([name for name in CONFORMANCE if "-" not in name])
