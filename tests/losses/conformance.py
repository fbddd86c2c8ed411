"""The table of the public losses: how each is called on a small batch with all that it asks for."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxhash import losses

ROWS, COLUMNS, BITS, CLASSES = 8, 6, 5, 3

#: What of the arguments is codes, which are differentiated and scaled.
MOVED = ("codes", "others")


class Row(NamedTuple):
    """A loss, and how it is called."""

    loss: Callable[..., jax.Array]
    data: dict[str, np.ndarray]
    """Its arrays beside the codes: float32, or bool where 0 and 1 are meant."""
    options: dict[str, Any] = {}
    power: float = 0.0
    """The value grows with this power of the codes, and so may overflow."""
    scale_free: bool = False
    """Whether the value depends on the directions of the codes alone."""
    constants: bool = False
    """Whether something that depends on the codes is a constant for the gradient."""

    @property
    def arrays(self):
        return {"codes": _CODES} | self.data

    def value(self, arrays):
        return jnp.sum(self.loss(**arrays, **self.options))


_RNG = np.random.default_rng(0)


def _normal(*shape):
    return (0.5 * _RNG.normal(size=shape)).astype(np.float32)


_CODES = _normal(ROWS, BITS)
_OF_ROWS = {"where": np.arange(ROWS) != 2}
_CENTERS = _OF_ROWS | {"centers": np.sign(_normal(ROWS, BITS))}
_TARGETS = _OF_ROWS | {"targets": np.sign(_normal(ROWS, BITS))}
_VIEWS = _OF_ROWS | {"others": _normal(ROWS, BITS)}
_CLASS = np.arange(ROWS, dtype=np.int32) % CLASSES
_TABLE = _OF_ROWS | {"distances": 1 - np.eye(CLASSES, dtype=np.float32), "labels": _CLASS}

_LABELS = _OF_ROWS | {"labels": np.eye(CLASSES, dtype=bool)[_CLASS]}
_LABELS["labels"][3] = [True, True, False]
_LABELS["labels"][5] = False
_PROXIES = _LABELS | {"proxies": _normal(CLASSES, BITS)}
_OF_CLASSES = _LABELS | {
    "centers": np.sign(_normal(CLASSES, BITS)),
    "where_classes": np.ones(CLASSES, bool),
}

_COLUMNS = {"others": _normal(COLUMNS, BITS), "where": _RNG.random((ROWS, COLUMNS)) < 0.9}
_PAIRS = _COLUMNS | {"similar": _RNG.random((ROWS, COLUMNS)) < 0.4}
_SHARES = _RNG.choice(np.array([0.0, 0.25, 0.5, 1.0], np.float32), (ROWS, COLUMNS))
_SIGNS = _COLUMNS | {"similarity": np.sign(_SHARES - 0.25)}

_KEY = {"key": jax.random.key(0)}


def _of_scores(loss):
    """A loss of scores of classes, for which codes stand in."""

    def of_codes(codes, **arrays):
        return loss(codes[:, :CLASSES], **arrays)

    return Row(of_codes, _LABELS, power=1)


CONFORMANCE = {
    "asymmetric_dsh": Row(losses.asymmetric_dsh, _PAIRS, power=4),
    "bernoulli_kl": Row(losses.bernoulli_kl, _OF_ROWS),
    "bernoulli_kl_per_code": Row(losses.bernoulli_kl_per_code, _OF_ROWS),
    "binary_cross_entropy": _of_scores(losses.binary_cross_entropy),
    "bit_balance_penalty": Row(losses.bit_balance_penalty, _OF_ROWS, power=2),
    "bit_decorrelation": Row(losses.bit_decorrelation, _OF_ROWS, power=4),
    "cauchy_quantization": Row(losses.cauchy_quantization, _OF_ROWS, scale_free=True),
    "cosine_distillation": Row(
        losses.cosine_distillation,
        _OF_ROWS | {"teacher": _normal(ROWS, BITS)},
        scale_free=True,
    ),
    "cosine_quantization": Row(losses.cosine_quantization, _OF_ROWS, scale_free=True),
    "cosine_regression": Row(
        losses.cosine_regression, _COLUMNS | {"similarity": _SHARES}, scale_free=True
    ),
    "cross_entropy": _of_scores(losses.cross_entropy),
    "csq": Row(losses.csq, _CENTERS, power=1),
    "cubic_quantization": Row(losses.cubic_quantization, _OF_ROWS, power=3),
    "dch": Row(losses.dch, _PAIRS, scale_free=True),
    "decorrelated_hswd": Row(losses.decorrelated_hswd, _OF_ROWS, _KEY, power=2),
    "distance_to_codes": Row(losses.distance_to_codes, _TARGETS, power=2),
    "dpn": Row(losses.dpn, _TARGETS, power=1),
    "dsh": Row(losses.dsh, _PAIRS, power=2),
    "dtsh": Row(losses.dtsh, _PAIRS, power=2),
    "gaussian_bce_quantization": Row(losses.gaussian_bce_quantization, _OF_ROWS, power=2),
    "hash_proxy": Row(losses.hash_proxy, _PROXIES, scale_free=True),
    "hashnet": Row(losses.hashnet, _PAIRS, {"scale": 0.5}, power=2),
    "hswd": Row(losses.hswd, _OF_ROWS, _KEY, power=2),
    "hyp2_pairs": Row(losses.hyp2_pairs, _PAIRS, {"threshold": 0.1}, scale_free=True),
    "hyp2_proxies": Row(losses.hyp2_proxies, _PROXIES, {"threshold": 0.1}, scale_free=True),
    "idhn": Row(losses.idhn, _COLUMNS | {"similar": _SHARES}, power=4),
    "koleo": Row(losses.koleo, _OF_ROWS, scale_free=True),
    "l1_quantization": Row(losses.l1_quantization, _OF_ROWS, power=1),
    "l2_quantization": Row(losses.l2_quantization, _OF_ROWS, power=2),
    "lcdsh_locality": Row(losses.lcdsh_locality, _COLUMNS),
    "log_cosh_quantization": Row(losses.log_cosh_quantization, _OF_ROWS, power=1),
    "mean_likelihood": Row(losses.mean_likelihood, _PAIRS, power=2),
    "mihash": Row(losses.mihash, _PAIRS),
    "nearest_neighbor_kl": Row(losses.nearest_neighbor_kl, _OF_ROWS, _KEY),
    "nt_xent": Row(losses.nt_xent, _VIEWS, scale_free=True),
    "optimal_transport": Row(losses.optimal_transport, _OF_ROWS, _KEY, power=2),
    "orthohash": Row(losses.orthohash, _OF_CLASSES, scale_free=True),
    "pair_scatter": Row(losses.pair_scatter, _PAIRS, power=2),
    "pairwise_likelihood": Row(losses.pairwise_likelihood, _PAIRS, power=2),
    "parity_hswd": Row(losses.parity_hswd, _OF_ROWS, _KEY, power=2),
    "qsmi": Row(losses.qsmi, _PAIRS, scale_free=True),
    "semantic_similarity": Row(losses.semantic_similarity, _TABLE, scale_free=True),
    "semantic_structure": Row(losses.semantic_structure, _SIGNS, power=4),
    "sinkhorn": Row(losses.sinkhorn, _OF_ROWS, _KEY | {"iterations": 5}, power=2, constants=True),
    "sliced_wasserstein": Row(
        losses.sliced_wasserstein, _OF_ROWS, _KEY | {"projections": 4, "block": 2}, power=2
    ),
    "tie_aware_ap": Row(losses.tie_aware_ap, _PAIRS),
    "variance_shortfall": Row(losses.variance_shortfall, _OF_ROWS, power=2),
    "view_divergence": Row(losses.view_divergence, _VIEWS, power=1, constants=True),
    "wglhh": Row(losses.wglhh, _PAIRS, scale_free=True),
}

#: Public functions that find codes or a classifier instead, and their arrays.
STEPS = {
    losses.asymmetric_dsh_codes: _OF_ROWS
    | {"codes": _TARGETS["targets"], "relaxed": _CODES, "wanted": _VIEWS["others"]},
    losses.dsdh_classifier: _LABELS | {"codes": _TARGETS["targets"]},
    losses.dsdh_codes: _LABELS
    | {
        "codes": _TARGETS["targets"],
        "relaxed": _CODES,
        "classifier": _normal(BITS, CLASSES),
    },
}
