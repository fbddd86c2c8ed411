"""Training steps that are compiled for devices that are not here, and what their programs hold.

No two sizes are equal, so a shape tells what an array is.
"""

import collections
import math
from functools import partial

import jax
import numpy as np
import optax

from jaxhash.bench.compile.collectives import find_collectives
from jaxhash.bench.compile.program import compile_lowered
from jaxhash.bench.compile.targets import target_devices
from jaxhash.models import MLP, Encoder
from jaxhash.objectives import (
    METHODS,
    QUANTIZERS,
    Batch,
    ClassSimilarity,
    TableSharding,
    combine,
    csq,
    weighted,
)
from jaxhash.training.parallel import DataParallel
from jaxhash.training.state import create_state
from jaxhash.training.step import train_step

ROWS, BITS, FEATURES, HIDDEN, ITEMS, CLASSES = 400, 64, 384, 256, 5000, 100

#: Semantic structure of the classes for the methods that learn from it.
_DISTANCES = np.abs(np.subtract.outer(np.arange(CLASSES), np.arange(CLASSES))) / np.float32(CLASSES)
SIMILARITY = {
    "shrewd": ClassSimilarity(distances=_DISTANCES),
    "shred": ClassSimilarity(distances=_DISTANCES),
    "hpdh": ClassSimilarity(levels=np.arange(CLASSES)[None] // 10),
}

_CODES, _VIEWS, _CODES_AND_INPUTS = {"codes": 1}, {"codes": 2}, {"codes": 1, "inputs": 1}

#: What a step gathers of the rows of the whole batch, to pair them. The others gather nothing: HSWD,
#: the penalties of single codes, the centers, the classifiers.
GATHERED = {
    **dict.fromkeys(["hashnet", "dpsh", "dhn", "dbdh", "lcdsh", "idhn", "dch", "dsh"], _CODES),
    **dict.fromkeys(["qsmih", "wglhh", "dtsh", "mihash", "tie-aware-ap", "dsdh"], _CODES),
    **dict.fromkeys(["dsdh-released", "asymmetric-dsh", "supervised-deep-hashing"], _CODES),
    **dict.fromkeys(["icnn", "rcdh", "dsah", "robust-multilevel"], _CODES),
    **dict.fromkeys(["greedyhash-u", "bihalf", "semantic-structure-hashing"], _CODES_AND_INPUTS),
    "cibhash": _VIEWS,
    "cimon": {"codes": 4, "inputs": 2},  # those of the contrastive loss are scaled before
    "shrewd": _VIEWS,  # for the semantic loss, and for the divergence
    "shred": _VIEWS,
    # For the bank, and for the cosines; the shares of the classes have the size of labels.
    "affinity-propagation": {"codes": 2, "labels": 1},
    "dfh": {"codes": 2, "labels": 1},  # for the bank, and for the codes of the classes
} | {f"quantizer {name}": _CODES for name in ("swd", "ot", "sinkhorn", "koleo", "empirical-kl")}

#: An objective of each kind, for the mappings that are not the default.
KINDS = ["hashnet", "dhn", "csq", "cibhash", "hpdh", "quantizer hswd"]


def objective_of(name):
    """A method, or ``quantizer NAME`` beside CSQ, which gathers nothing."""
    if name in METHODS:
        return METHODS[name].make()
    return combine(csq(), weighted(0.1, QUANTIZERS[name.removeprefix("quantizer ")]()))


def compile_step(name, target, *, mapping="pmap", sharded_tables=False):
    """Compiles the training step of an MLP on vectors for the devices of a target."""
    objective = objective_of(name)
    parts = dict(
        model=Encoder(partial(MLP, (HIDDEN,)), BITS), objective=objective, optimizer=optax.adam(0.1)
    )
    tables = TableSharding(ITEMS, CLASSES) if sharded_tables else TableSharding()
    inputs = jax.ShapeDtypeStruct((1, FEATURES), np.float32)
    create = partial(
        create_state,
        items=ITEMS,
        classes=CLASSES,
        class_similarity=SIMILARITY.get(name, ClassSimilarity()),
        table_sharding=tables,
        **parts,
    )
    state = jax.eval_shape(create, jax.random.key(0), _of_views(inputs, objective))
    step = DataParallel(
        partial(train_step, steps_per_epoch=20, total_steps=200, **parts),
        target_devices(target),
        mapping=mapping,
        table_sharding=tables,
    )
    ids = jax.ShapeDtypeStruct((ROWS,), np.int32)
    batch = Batch(
        _of_views(jax.ShapeDtypeStruct((ROWS, FEATURES), np.float32), objective),
        labels=ids,
        index=ids,
        mask=jax.ShapeDtypeStruct((ROWS,), bool),
    )
    return compile_lowered(lambda: step.lower(state, batch), target, name=name), state


def exchanged_rows(program):
    """Counts the arrays of rows of the batch that devices exchange, by what one row holds.

    Returns:
        Those that are gathered or passed on, and those whose sum over devices is returned, as the
        gradient of what was gathered. Labels, masks and other arrays of one number a row are left
        out.
    """
    names = {BITS: "codes", FEATURES: "inputs", HIDDEN: "activations", CLASSES: "labels"}
    gathered, summed = collections.Counter(), collections.Counter()
    for collective in find_collectives(program.text, program.target.devices):
        size = math.prod(collective.shape)
        rows = {ROWS, ROWS // program.target.devices}
        if not rows & set(collective.shape) or size <= ROWS:
            continue
        is_sum = collective.kind in ("all-reduce", "reduce-scatter")
        found = [names[size // each] for each in rows if size / each in names]
        name = found[0] if found else (collective.kind, collective.shape)
        (summed if is_sum else gathered)[name] += collective.times
    return gathered, summed


def state_bytes(state):
    """The bytes of the arrays of a state, or of a part of it, without random keys."""
    leaves = [
        leaf
        for leaf in jax.tree.leaves(state)
        if not jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    ]
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)


def _of_views(array, objective):
    return (array,) * objective.views if objective.views > 1 else array
