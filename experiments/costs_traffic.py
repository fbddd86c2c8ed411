"""Bytes that a training step moves between devices: by formula, and in compiled programs.

The formulas come first, then the functions that compile what they describe. The tests and `costs.py`
compare the two.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple
from unittest.mock import patch

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from hlo_traffic import RING_FACTORS, Collective, find_collectives, sent_bytes

from jaxhash import losses
from jaxhash.models import Encoder
from jaxhash.objectives import Batch, Context, Objective, Setup, TableSharding, Variables, hashnet
from jaxhash.ops import selection
from jaxhash.training.parallel import AXIS
from jaxhash.training.state import create_state
from jaxhash.training.step import train_step

#: Bytes of a float32 or an int32, the dtypes of all collectives of the library except masks.
WORD_BYTES = 4


class Traffic(NamedTuple):
    """Bytes of the arrays of each kind of collective, and the number of sequential collectives."""

    all_reduce: int = 0
    all_gather: int = 0
    reduce_scatter: int = 0
    rounds: int = 0

    def plus(self, other: "Traffic") -> "Traffic":
        """Returns the sum of both."""
        return Traffic(*(a + b for a, b in zip(self, other, strict=True)))

    def sent(self, devices: int) -> float:
        """Returns the bytes that each device sends, by the ring algorithm."""
        kinds = zip(RING_FACTORS, self[:3], strict=True)
        return sum(sent_bytes(kind, size, devices) for kind, size in kinds)


# By formula


def hswd_by_selection(
    bits: int, rounds: int, *, masked: bool = True, ties: int | None = None
) -> Traffic:
    """Returns the traffic of HSWD by selection, which does not depend on the batch.

    Mean and deviation of the first guess and the sum of the shares take a word a bit each, and one
    word counts the rows of the sample. A round of the search takes four counts a bit. If entries are
    equal at the threshold, ``ties`` more rounds follow, after a minimum and a maximum of the keys.
    """
    once = WORD_BYTES * (3 * bits + 1) + WORD_BYTES * masked
    counts = WORD_BYTES * selection.LANES * bits
    for_ties = 0 if ties is None else WORD_BYTES * 2 * bits
    later = 0 if ties is None else 2 + ties
    return Traffic(
        all_reduce=once + counts * (rounds + (ties or 0)) + for_ties,
        rounds=3 + masked + rounds + later,
    )


def hswd_by_gather(batch: int, bits: int, *, masked: bool = True) -> Traffic:
    """Returns the traffic of HSWD by a sort: the codes to all devices, their gradient back."""
    codes = WORD_BYTES * batch * bits
    return Traffic(WORD_BYTES * masked, codes + batch * masked, codes, rounds=2 + masked)


def pairs_in_batch(batch: int, bits: int) -> Traffic:
    """Returns the traffic of HashNet in a batch: codes, ids and mask; gradient; three sums."""
    codes = WORD_BYTES * batch * bits
    return Traffic(3 * WORD_BYTES, codes + (WORD_BYTES + 1) * batch, codes, rounds=4)


def bank(batch: int, bits: int) -> Traffic:
    """Returns the traffic of HashNet against a replicated bank: the rows to be stored.

    The bank is constant, so it has no gradient.
    """
    return Traffic(3 * WORD_BYTES, WORD_BYTES * batch * (bits + 2), 0, rounds=3)


def sharded_bank(batch: int, bits: int) -> Traffic:
    """Returns the traffic of HashNet against a sharded bank: codes and mask, and the gradient."""
    codes = WORD_BYTES * batch * bits
    return Traffic(3 * WORD_BYTES, codes + (2 * WORD_BYTES + 1) * batch, codes, rounds=4)


def gradients(parameters: int) -> Traffic:
    """Returns the traffic of the sum of float32 gradients."""
    return Traffic(all_reduce=WORD_BYTES * parameters, rounds=1)


def batch_norms(channels: int, layers: int) -> Traffic:
    """Returns the traffic of batch normalization over the whole batch.

    Forward, a layer sums values and a count, then squares; backward, the gradient of each.

    Args:
        channels: number of channels of all layers.
        layers: number of layers.
    """
    return Traffic(all_reduce=WORD_BYTES * (4 * channels + layers), rounds=4 * layers)


def code_metrics(bits: int) -> Traffic:
    """Returns the traffic of the logged code health; HSWD already counts the rows."""
    return Traffic(all_reduce=WORD_BYTES * bits, rounds=1)


def shared_by_xla(twin_channels: int, layers: int, resolutions: int) -> Traffic:
    """Returns the (negative) traffic that XLA saves in a residual network by sharing collectives.

    A projection's normalization and the one it is added to have the same gradient of their biases,
    and normalizations of one resolution have the same count.
    """
    return Traffic(all_reduce=-WORD_BYTES * (twin_channels + layers - resolutions))


def step(
    pairs: Traffic, quantizer: Traffic, parameters: int, channels: int, layers: int, *, bits: int
) -> Traffic:
    """Returns the traffic of a training step: network, losses and log."""
    network = gradients(parameters).plus(batch_norms(channels, layers))
    return network.plus(pairs).plus(quantizer).plus(code_metrics(bits))


# In the programs


def compiled(
    function: Callable, *arguments: Any, replicated: int | None = None
) -> list[Collective]:
    """Compiles a function for all devices and returns its collectives.

    Args:
        function: function of one device's rows.
        arguments: shapes, with a leading device axis.
        replicated: position of the argument that is replicated on all devices, if any.
    """
    axes = tuple(None if i == replicated else 0 for i in range(len(arguments)))
    lowered = jax.pmap(function, axis_name=AXIS, in_axes=axes).lower(*arguments)
    return find_collectives(lowered.compile().as_text())


def compiled_hswd(
    batch: int, bits: int, method: str, *, masked: bool, devices: int
) -> list[Collective]:
    """Returns the collectives of the value and gradient of HSWD."""
    codes, _, mask = _rows(batch, bits, devices)

    def loss(codes, mask):
        where, key = mask if masked else None, jax.random.key(0)
        return losses.hswd(codes, key=key, where=where, method=method, axis_name=AXIS)

    return compiled(jax.value_and_grad(loss), codes, mask)


def compiled_pairs(
    batch: int, bits: int, pairs: str, *, devices: int, is_sharded: bool = False
) -> list[Collective]:
    """Returns the collectives of value, gradient and new state of HashNet."""
    codes, numbers, mask = _rows(batch, bits, devices)
    objective, items = hashnet(pairs=pairs), 8 * batch
    rows = items // devices if is_sharded else items
    spread = TableSharding(items) if is_sharded else TableSharding()
    state = jax.eval_shape(
        lambda: objective.init(jax.random.key(0), Setup(bits, rows, 10, False, None, {})).state
    )

    def loss(state, codes, labels, index, mask):
        def of_codes(codes):
            context = Context(
                jax.random.key(0), jnp.float32(0), jnp.bool_(False), {}, None, AXIS, spread
            )
            made = objective.loss(
                Variables((), state), codes, Batch((), labels, index, mask), context
            )
            return made.value, made.state

        return jax.value_and_grad(of_codes, has_aux=True)(codes)

    return compiled(loss, state, codes, numbers, numbers, mask, replicated=0)


class Step(NamedTuple):
    """The collectives of a training step, and the sizes that their bytes depend on."""

    found: list[Collective]
    parameters: int
    channels: int
    layers: int


def compiled_step(
    backbone: Callable[..., nn.Module],
    objective: Objective,
    *,
    size: int,
    batch: int,
    bits: int,
    devices: int,
) -> Step:
    """Returns the collectives of a step of `jaxhash train` on RGB images of that size."""
    parts = dict(model=Encoder(backbone, bits), objective=objective, optimizer=optax.adamw(1e-3))
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8)
    state = jax.eval_shape(
        lambda image: create_state(jax.random.key(0), image, items=8 * batch, classes=10, **parts),
        image,
    )
    _, numbers, mask = _rows(batch, bits, devices)
    images = jax.ShapeDtypeStruct((devices, batch // devices, size, size, 3), jnp.uint8)
    step = partial(train_step, steps_per_epoch=8, total_steps=80, axis_name=AXIS, **parts)
    found = compiled(step, state, Batch(images, numbers, numbers, mask), replicated=0)
    return Step(found, *_counts(state.params, state.batch_stats))


def sizes(model: nn.Module, size: int) -> tuple[int, int, int]:
    """Returns the numbers of parameters, of batch normalization channels, and of such layers."""
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    return _counts(variables["params"], variables.get("batch_stats", {}))


def search_rounds(
    batch: int, bits: int, devices: int, *, tight: bool, dtype: str, seed: int
) -> int:
    """Counts the rounds that the selection takes on random codes, including rounds for ties.

    Args:
        batch: number of rows over all devices.
        bits: length of a code.
        devices: number of devices that share the batch; emulated by `jax.vmap`.
        tight: whether codes are normal around -1 and +1 with deviation 0.1, as after training;
            otherwise around 0 with deviation 1.
        dtype: dtype of the codes; in bfloat16 many are equal.
        seed: seed of the codes and of the targets.
    """
    noise, signs, target = jax.random.split(jax.random.key(seed), 3)
    codes = jax.random.normal(noise, (devices, batch // devices, bits))
    if tight:
        codes = 0.1 * codes + jax.random.rademacher(signs, codes.shape, codes.dtype)
    counted, count = [], selection._count_above

    def counting(thresholds, keys, axis_name):
        jax.debug.callback(lambda _: counted.append(1), thresholds[0, 0])
        return count(thresholds, keys, axis_name)

    with patch.object(selection, "_count_above", counting):
        loss = partial(losses.hswd, key=target, axis_name=AXIS)
        jax.block_until_ready(jax.jit(jax.vmap(loss, axis_name=AXIS))(codes.astype(dtype)))
    jax.effects_barrier()
    return len(counted)


def _rows(batch: int, bits: int, devices: int) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Returns the shapes of codes, of class ids or positions, and of a mask."""
    rows = (devices, batch // devices)
    return (
        jax.ShapeDtypeStruct((*rows, bits), jnp.float32),
        jax.ShapeDtypeStruct(rows, jnp.int32),
        jax.ShapeDtypeStruct(rows, jnp.bool_),
    )


def _counts(params: Any, statistics: Any) -> tuple[int, int, int]:
    """Counts parameters, channels and layers; a batch normalization has a mean and a variance."""
    leaves = jax.tree.leaves(statistics)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    return parameters, sum(leaf.size for leaf in leaves) // 2, len(leaves) // 2
