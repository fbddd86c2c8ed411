"""The objectives that every conformance test runs on: all methods and quantizers, by their rows.

A new method or quantizer is here by its row alone. The tables below hold what cannot be guessed:
variants whose options or data take another path, and where a rule has an exception.
"""

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxhash.objectives import METHODS, QUANTIZERS, Batch, ClassSimilarity, Objective, Setup

ROWS, ITEMS, CLASSES, BITS, WIDTH = 8, 16, 3, 8, 5


class Case(NamedTuple):
    """An objective with options, and the data it is tried on."""

    make: Callable[..., Objective]
    options: dict[str, Any] = {}
    multi_label: bool = False
    class_similarity: ClassSimilarity = ClassSimilarity()
    ignores_labels: bool = False


_DISTANCES = np.array([[0, 0.2, 1], [0.2, 0, 0.5], [1, 0.5, 0]], np.float32)
_EMBEDDINGS = np.random.default_rng(0).normal(size=(ITEMS, 3)).astype(np.float32)

#: Options that make an objective small.
SMALL = {
    "swd": {"projections": 20, "block": 10},
    "dfh": {"steps": 20},
    "dcw-autoencoder": {"narrow": 3, "wide": 6},
    "affinity-propagation": {"warmup": 1, "neighbors": 3},
}

METHOD_CASES = {
    name: Case(
        method.make, SMALL.get(name, {}), ignores_labels=method.multi_label == "sees no labels"
    )
    for name, method in METHODS.items()
}

QUANTIZER_CASES = {
    f"quantizer {name}": Case(make, SMALL.get(name, {}), ignores_labels=True)
    for name, make in QUANTIZERS.items()
}


#: A method of each kind, by what its loss looks at: a bank, the pairs of a batch, triplets, ranks, codes
#: of all items, centers, a classifier, a hierarchy, two views.
KINDS = (
    "hashnet",
    "dch",
    "dtsh",
    "tie-aware-ap",
    "dsdh",
    "csq",
    "cross-entropy",
    "shred",
    "cibhash",
)


def _variant(method, multi_label=False, class_similarity=None, **options):
    similarity = ClassSimilarity(**(class_similarity or {}))
    return Case(METHODS[method].make, options, multi_label, similarity)


#: Options and data that take another path than the defaults.
VARIANTS = {
    "dch of a bank": _variant("dch", pairs="bank"),
    "dbdh of a bank": _variant("dbdh", pairs="bank"),
    "idhn of a bank": _variant("idhn", pairs="bank"),
    "lcdsh of a bank": _variant("lcdsh", pairs="bank"),
    "hashnet, unseen dissimilar": _variant("hashnet", unseen="dissimilar"),
    "hashnet of the last rows": _variant("hashnet", bank_size=11),
    "dfh of a batch": _variant("dfh", pairs="batch", steps=20),
    "dfh, multi-hot": _variant("dfh", multi_label=True, pairs="batch", steps=20),
    "asymmetric-dsh, multi-hot": _variant("asymmetric-dsh", multi_label=True),
    "csq, multi-hot": _variant("csq", multi_label=True),
    "dpn, multi-hot": _variant("dpn", multi_label=True),
    "dpn, adaptive": _variant("dpn", targets="adaptive", margin=0.5),
    "dpn, adaptive, multi-hot": _variant("dpn", multi_label=True, targets="adaptive", margin=0.5),
    "orthohash, multi-hot": _variant("orthohash", multi_label=True),
    "icnn of prototypes": _variant("icnn", neighbors=2, targets="prototypes"),
    "icnn as released": _variant("icnn", neighbors=1, targets="prototypes", drop_nearest=True),
    "class-anchor-margin, multi-hot": _variant(
        "class-anchor-margin", multi_label=True, reduction="mean", start="base"
    ),
    "proto-triplet, multi-hot": _variant("proto-triplet", multi_label=True),
    "rcdh, multi-hot": _variant("rcdh", multi_label=True, margin=0.1),
    "dsah, multi-hot": _variant("dsah", multi_label=True),
    "hyp2, multi-hot": _variant("hyp2", multi_label=True, threshold=-0.5),
    "cross-entropy, sigmoid": _variant("cross-entropy", loss="sigmoid"),
    "robust-multilevel, multi-hot": _variant("robust-multilevel", multi_label=True, radius=3.0),
    "robust-multilevel, triplets": _variant("robust-multilevel", form="triplets", radius=3.0),
    "jmlh as released": _variant("jmlh", stochastic=False),
    "shrewd, class distances": _variant("shrewd", class_similarity={"distances": _DISTANCES}),
    "shrewd, embeddings": _variant("shrewd", class_similarity={"embeddings": _EMBEDDINGS}),
    "shred, class distances": _variant("shred", class_similarity={"distances": _DISTANCES}),
    "bernoulli-vae, relaxed": _variant("bernoulli-vae", gradient="relaxed"),
    "pairwise-supervised-hashing, multi-hot": _variant(
        "pairwise-supervised-hashing", multi_label=True, gradient="disarm"
    ),
    "affinity-propagation, all": _variant(
        "affinity-propagation", multi_label=True, warmup=1, neighbors=3, mining=False
    ),
    "hpdh, levels": _variant("hpdh", class_similarity={"levels": np.array([[0, 0, 1]])}),
}

CASES = METHOD_CASES | QUANTIZER_CASES | VARIANTS

#: The gradient in the codes is not the derivative of the value: signs have the gradient of the
#: identity, DHD's teacher and Sinkhorn's plan are constants. (So are codes in a bank.)
SURROGATE_GRADIENT = {"dbdh", "greedyhash", "jmlh", "dhd", "greedyhash-u", "bihalf", "cibhash"}
SURROGATE_GRADIENT |= {"hashgnn", "quantizer sinkhorn"}
#: The gradient in the codes is that of an expectation, the value one of a draw.
SURROGATE_GRADIENT |= {"pairwise-supervised-hashing", "bernoulli-vae"}

#: Methods that log terms of another, which they are made of.
SHARED_TERMS = {"shred": "shrewd"}


@functools.cache
def objective_of(name):
    return CASES[name].make(**CASES[name].options)


def inputs_of(objective, rows, seed=0):
    """Inputs of each view, or of the only one."""
    rng = np.random.default_rng(seed)
    views = tuple(rng.normal(size=(rows, WIDTH)).astype(np.float32) for _ in range(objective.views))
    return views if objective.views > 1 else views[0]


def setup_of(name, multi_label=None):
    case = CASES[name]
    multi_label = case.multi_label if multi_label is None else multi_label
    inputs = inputs_of(objective_of(name), 1)
    return Setup(BITS, ITEMS, CLASSES, multi_label, inputs, {}, case.class_similarity)


def labels_of(rows, multi_label, seed=0):
    """Class ids, or multi-hot rows of which some have two labels and one has none."""
    ids = np.random.default_rng(seed).permutation(rows).astype(np.int32) % CLASSES
    if not multi_label:
        return ids
    labels = np.eye(CLASSES, dtype=np.uint8)[ids]
    labels[::3, 1] = 1
    labels[rows // 2] = 0
    return labels


def batch_of(case, rows=ROWS, valid=None, seed=0, labels=None):
    """A batch of items in some order, of which the first rows are valid."""
    index = np.random.default_rng(seed).permutation(ITEMS)[:rows].astype(np.int32)
    mask = np.arange(rows) < (rows if valid is None else valid)
    labels = labels_of(rows, case.multi_label, seed) if labels is None else labels
    inputs = inputs_of(case.make(**case.options), rows, seed)
    return jax.tree.map(jnp.asarray, Batch(inputs, labels, index, mask))


def codes_of(name, rows=ROWS, seed=0):
    """Codes of each view, or of the only one; rounded to what bfloat16 holds."""
    rng, views = np.random.default_rng(seed + 100), objective_of(name).views
    made = [jnp.asarray(rng.normal(size=(rows, BITS)), jnp.bfloat16) for _ in range(views)]
    made = tuple(view.astype(jnp.float32) for view in made)
    return made if views > 1 else made[0]


#: Options for which every number is right by itself; so is every boolean.
FREE_OPTIONS = {"codebook_seed", "low", "high"}

#: Wrong values of options for which -1 is right, or no value at all.
WRONG_OPTIONS = {("hyp2", "threshold"): 1.5, ("dfh", "falls"): (0.9, 0.75)}


#: Options that must be above 0; -1 is wrong for these and for weights.
ABOVE_ZERO = {
    "hashnet": "scale stages",
    "idhn": "scale",
    "dfh": "steps",
    "dch": "gamma",
    "dsh": "margin",
    "qsmih": "needs",
    "wglhh": "alpha similar_weight",
    "mihash": "beta",
    "robust-multilevel": "radius levels",
    "tie-aware-ap": "beta",
    "dsdh": "mu nu sweeps",
    "dsah": "mu nu",
    "class-anchor-margin": "margin least_norm",
    "icnn": "neighbors",
    "dpn": "margin",
    "orthohash": "scale",
    "hpdh": "scale margin",
    "shrewd": "gamma",
    "shred": "gamma",
    "dhd": "temperature sigma",
    "cibhash": "temperature",
    "cimon": "threshold clusters temperature",
    "hashgnn": "negatives temperature",
    "dcw-autoencoder": "narrow wide",
    "affinity-propagation": "neighbors temperature warmup every",
    "swd": "projections block",
    "sinkhorn": "epsilon iterations",
    "cauchy": "gamma",
    "gaussian-bce": "sigma",
    "bernoulli-kl": "mass",
    "koleo": "epsilon",
    "empirical-kl": "target k norm",
    "parity-hswd": "pairs bound",
}


def wrong_options():
    """Yields functions of methods and quantizers, an option and a wrong value of it."""
    owners = {name: method.make for name, method in METHODS.items()} | QUANTIZERS
    for name, options in ABOVE_ZERO.items():
        for option in options.split():
            yield owners[name], option, 0
    for name, make in owners.items():
        for option, parameter in inspect.signature(make).parameters.items():
            kinds = [parameter.annotation, *typing.get_args(parameter.annotation)]
            if (name, option) in WRONG_OPTIONS:
                yield make, option, WRONG_OPTIONS[name, option]
            elif any(typing.get_origin(kind) is typing.Literal for kind in kinds):
                yield make, option, "unknown"
            elif parameter.annotation is not bool and option not in FREE_OPTIONS:
                yield make, option, -1
