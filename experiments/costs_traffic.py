"""Bytes that a training step moves between devices: by formula, and in the programs themselves.

Each formula stands beside the function that compiles what it is about; the tests and `costs.py`
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
from hlo_traffic import RING, Collective, collectives, sent

from jaxhash import losses
from jaxhash.models import Encoder
from jaxhash.objectives import Batch, Context, Objective, Setup, TableSharding, Variables, hashnet
from jaxhash.ops import selection
from jaxhash.training.parallel import AXIS
from jaxhash.training.state import create_state
from jaxhash.training.step import train_step

#: Bytes of a float32, or of an int32: what all collectives of the library hold, but for masks.
WORD = 4


class Traffic(NamedTuple):
    """Bytes of the arrays of each kind of collective, and how many wait for one another."""

    all_reduce: int = 0
    all_gather: int = 0
    reduce_scatter: int = 0
    rounds: int = 0

    def plus(self, other: "Traffic") -> "Traffic":
        """This traffic and then the other."""
        return Traffic(*(a + b for a, b in zip(self, other, strict=True)))

    def sent(self, devices: int) -> float:
        """Bytes that each device sends, by the ring algorithm."""
        kinds = zip(RING, self[:3], strict=True)
        return sum(sent(kind, size, devices) for kind, size in kinds)


# By formula


def by_selection(
    bits: int, rounds: int, *, masked: bool = True, ties: int | None = None
) -> Traffic:
    """HSWD by selection: no term in the batch.

    Mean and deviation of the first guess and the sum of the shares are a word a bit each, with one
    word for the number of rows in the sample; a round of the search is four counts a bit. If entries
    are equal at the border, ``ties`` is the number of rounds more, after a least and a greatest key.
    """
    once = WORD * (3 * bits + 1) + WORD * masked
    counts = WORD * selection.LANES * bits
    drawn_in = 0 if ties is None else WORD * 2 * bits
    later = 0 if ties is None else 2 + ties
    return Traffic(
        all_reduce=once + counts * (rounds + (ties or 0)) + drawn_in,
        rounds=3 + masked + rounds + later,
    )


def by_gather(batch: int, bits: int, *, masked: bool = True) -> Traffic:
    """HSWD by a sort of the gathered batch: the codes to all devices, their gradient back."""
    codes = WORD * batch * bits
    return Traffic(WORD * masked, codes + batch * masked, codes, rounds=2 + masked)


def pairs_in_batch(batch: int, bits: int) -> Traffic:
    """HashNet's loss of all pairs of a batch: codes, class ids and mask; gradient; three sums."""
    codes = WORD * batch * bits
    return Traffic(3 * WORD, codes + (WORD + 1) * batch, codes, rounds=4)


def bank(batch: int, bits: int) -> Traffic:
    """HashNet's loss against a bank that each device holds whole: what is to be remembered.

    The bank is constant, so no gradient comes back.
    """
    return Traffic(3 * WORD, WORD * batch * (bits + 2), 0, rounds=3)


def spread_bank(batch: int, bits: int) -> Traffic:
    """The same with its rows spread over devices: all codes and the mask to all rows, gradient back."""
    codes = WORD * batch * bits
    return Traffic(3 * WORD, codes + (2 * WORD + 1) * batch, codes, rounds=4)


def gradients(parameters: int) -> Traffic:
    """The sum of float32 gradients."""
    return Traffic(all_reduce=WORD * parameters, rounds=1)


def batch_norms(channels: int, layers: int) -> Traffic:
    """Batch normalization over the whole batch, of so many layers with so many channels in all.

    Sum with a count, then sum of squares, forward; the gradient of each backward.
    """
    return Traffic(all_reduce=WORD * (4 * channels + layers), rounds=4 * layers)


def code_metrics(bits: int) -> Traffic:
    """Collapse of the codes in the log; the number of rows is the one that HSWD asks for too."""
    return Traffic(all_reduce=WORD * bits, rounds=1)


def sent_once(twin_channels: int, layers: int, resolutions: int) -> Traffic:
    """What XLA finds twice in a residual network and sends once, to be subtracted.

    A projection's normalization and the one it is added to have the same gradient of their biases,
    and normalizations of one resolution have the same count.
    """
    return Traffic(all_reduce=-WORD * (twin_channels + layers - resolutions))


def step(
    pairs: Traffic, quantizer: Traffic, parameters: int, channels: int, layers: int, *, bits: int
) -> Traffic:
    """A training step: the network's, the losses', the log's."""
    network = gradients(parameters).plus(batch_norms(channels, layers))
    return network.plus(pairs).plus(quantizer).plus(code_metrics(bits))


# In the programs


def compiled(
    function: Callable, *arguments: Any, replicated: int | None = None
) -> list[Collective]:
    """The collectives of the function, compiled for all devices.

    Args:
        function: is given one device's rows.
        arguments: shapes, with a leading device axis.
        replicated: the position of the argument that all devices hold whole, if there is one.
    """
    axes = tuple(None if i == replicated else 0 for i in range(len(arguments)))
    lowered = jax.pmap(function, axis_name=AXIS, in_axes=axes).lower(*arguments)
    return collectives(lowered.compile().as_text())


def compiled_hswd(
    batch: int, bits: int, method: str, *, masked: bool, devices: int
) -> list[Collective]:
    """Of the value and gradient of HSWD."""
    codes, _, mask = _rows(batch, bits, devices)

    def loss(codes, mask):
        where, key = mask if masked else None, jax.random.key(0)
        return losses.hswd(codes, key=key, where=where, method=method, axis_name=AXIS)

    return compiled(jax.value_and_grad(loss), codes, mask)


def compiled_pairs(
    batch: int, bits: int, pairs: str, *, devices: int, is_spread: bool = False
) -> list[Collective]:
    """Of the value, gradient and new state of HashNet; with a spread bank a device has its rows."""
    codes, numbers, mask = _rows(batch, bits, devices)
    objective, items = hashnet(pairs=pairs), 8 * batch
    rows = items // devices if is_spread else items
    spread = TableSharding(items) if is_spread else TableSharding()
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
    """A whole training step: its collectives, and what their bytes depend on."""

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
    """Of a step of `jaxhash train` on RGB images of that size."""
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
    """Parameters of the model, channels of its batch normalizations, and their number."""
    image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    return _counts(variables["params"], variables.get("batch_stats", {}))


def search_rounds(
    batch: int, bits: int, devices: int, *, tight: bool, dtype: str, seed: int
) -> int:
    """How many rounds the selection takes on random codes, ties included, over so many devices.

    Args:
        batch: rows of all devices.
        bits: length of a code.
        devices: that hold the batch, here one after the other.
        tight: normal codes about -1 and +1 of deviation 0.1, as after training; else about 0 of 1.
        dtype: of the codes; in bfloat16 many are equal.
        seed: of the codes and of the targets.
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
    """The shapes of codes, of class ids or positions, and of a mask."""
    rows = (devices, batch // devices)
    return (
        jax.ShapeDtypeStruct((*rows, bits), jnp.float32),
        jax.ShapeDtypeStruct(rows, jnp.int32),
        jax.ShapeDtypeStruct(rows, jnp.bool_),
    )


def _counts(params: Any, statistics: Any) -> tuple[int, int, int]:
    """Parameters, channels and layers; each batch normalization keeps a mean and a variance."""
    kept = jax.tree.leaves(statistics)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
    return parameters, sum(leaf.size for leaf in kept) // 2, len(kept) // 2
