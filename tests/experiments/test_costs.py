"""The formulas of experiments/costs.md against the collectives that XLA compiles for 8 devices."""

import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxhash import objectives
from jaxhash.models import CNN, MLP
from jaxhash.objectives import combine, weighted

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
DEVICES, AXIS = 8, "devices"
SIZES = [(64, 16), (256, 64), (1000, 24)]


@pytest.fixture(scope="module")
def traffic():
    sys.path.insert(0, str(EXPERIMENTS))
    try:
        import costs_traffic
    finally:
        sys.path.remove(str(EXPERIMENTS))
    return costs_traffic


@pytest.fixture(scope="module")
def hlo(traffic):
    return sys.modules["hlo_traffic"]


def counted(hlo, found):
    """Bytes of each kind in one run, as the formulas have them."""
    return tuple(hlo.total_bytes(found, kind) for kind in hlo.RING_FACTORS)


# HLO


@pytest.mark.parametrize(
    "collective, expected",
    [
        (partial(lax.psum, axis_name=AXIS), ("all-reduce", 4 * 3 * 5)),
        (partial(lax.all_gather, axis_name=AXIS), ("all-gather", 4 * 3 * 5 * DEVICES)),
        (partial(lax.psum_scatter, axis_name=AXIS, tiled=True), ("reduce-scatter", 4 * 16 * 5)),
    ],
)
def test_bytes_by_hand(traffic, collective, expected):
    rows = 16 if expected[0] == "reduce-scatter" else 3
    (found,) = traffic.compiled(collective, jax.ShapeDtypeStruct((DEVICES, rows, 5), jnp.float32))
    assert found == (*expected, (), 1)


GROUPS = {
    "{{0,1,2,3},{4,5,6,7}}": 4,
    "[2,4]<=[8]": 4,
    "mesh['rows'=2,'columns'=4] {'columns'}": 4,
    "mesh['rows'=2,'columns'=4] {'rows','columns'}": 8,
}


@pytest.mark.parametrize(("groups", "devices"), GROUPS.items())
def test_every_way_to_write_who_takes_part(hlo, groups, devices):
    line = f"%out = f32[2,5]{{1,0}} reduce-scatter(%in), replica_groups={groups}, dimensions={{0}}"
    (found,) = hlo.find_collectives(f"ENTRY %main (in: f32[]) -> f32[] {{\n  {line}\n}}")
    assert found == ("reduce-scatter", devices * 4 * 2 * 5, (), 1)


def test_an_unknown_way_is_refused(hlo):
    text = "ENTRY %main (in: f32[]) -> f32[] {\n  %out = f32[2] reduce-scatter(%in), of=all\n}"
    with pytest.raises(ValueError, match="unknown way"):
        hlo.find_collectives(text)


def test_loops_and_branches(traffic, hlo):
    """Known rounds are multiplied, unknown ones and branches named."""

    def program(x):
        total = lambda x: lax.psum(x, AXIS)  # noqa: E731
        x = lax.fori_loop(0, 5, lambda _, x: jnp.sin(total(x)), x)
        x = lax.while_loop(lambda x: total(x)[0] > 0, lambda x: x - 1, x)
        return lax.cond(total(x)[1] > 0, lambda x: total(jnp.cos(x)), lambda x: x, x)

    found = traffic.compiled(program, jax.ShapeDtypeStruct((DEVICES, 7), jnp.float32))
    by_scope = {
        scope: hlo.total_bytes(found, "all-reduce", scope) for scope in {f.scope for f in found}
    }
    assert by_scope == {(): 28 * 6, (hlo.ROUND,): 28, (hlo.BRANCH,): 28}


def test_other_collectives_are_refused(traffic):
    around = [(i, (i + 1) % DEVICES) for i in range(DEVICES)]
    with pytest.raises(ValueError, match="collective-permute"):
        traffic.compiled(
            lambda x: lax.ppermute(x, AXIS, around), jax.ShapeDtypeStruct((DEVICES, 7), jnp.float32)
        )


def test_ring(traffic, hlo):
    assert [hlo.sent_bytes(kind, 800, 8) for kind in hlo.RING_FACTORS] == [1400, 700, 700]
    assert traffic.Traffic(8, 8, 8, rounds=3).sent(8) == 28
    assert all(hlo.sent_bytes(kind, 800, 1) == 0 for kind in hlo.RING_FACTORS)


# Losses


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("batch, bits", SIZES)
def test_hswd_by_selection(traffic, hlo, batch, bits, masked):
    found = traffic.compiled_hswd(batch, bits, "select", masked=masked, devices=DEVICES)
    formula = partial(traffic.hswd_by_selection, bits, masked=masked)
    assert counted(hlo, found) == formula(0)[:3]
    per_round = formula(1).all_reduce - formula(0).all_reduce
    assert hlo.total_bytes(found, "all-reduce", (hlo.ROUND,)) == per_round
    ties = [
        hlo.total_bytes(found, "all-reduce", (hlo.BRANCH, *inner)) for inner in [(), (hlo.ROUND,)]
    ]
    assert ties[0] == formula(0, ties=0).all_reduce - formula(0).all_reduce
    assert ties[1] == 2 * per_round  # a search among keys, then one among rows
    assert all(each.kind == "all-reduce" for each in found)
    assert sum(each.scope == () for each in found) == formula(0).rounds


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("batch, bits", SIZES)
def test_hswd_by_gather(traffic, hlo, batch, bits, masked):
    found = traffic.compiled_hswd(batch, bits, "sort", masked=masked, devices=DEVICES)
    assert counted(hlo, found) == traffic.hswd_by_gather(batch, bits, masked=masked)[:3]
    assert {each.scope for each in found} == {()}


@pytest.mark.parametrize("batch, bits", SIZES)
def test_pairs(traffic, hlo, batch, bits):
    for pairs, formula in (("batch", traffic.pairs_in_batch), ("bank", traffic.bank)):
        found = traffic.compiled_pairs(batch, bits, pairs, devices=DEVICES)
        assert counted(hlo, found) == formula(batch, bits)[:3], pairs
    found = traffic.compiled_pairs(batch, bits, "bank", devices=DEVICES, is_sharded=True)
    assert counted(hlo, found) == traffic.sharded_bank(batch, bits)[:3]


# A whole step


@pytest.mark.parametrize(
    "backbone, layers, channels, pairs, batch, bits",
    [
        (partial(MLP, widths=()), 0, 0, "batch", 64, 16),
        (MLP, 1, 256, "batch", 256, 24),
        (partial(CNN, widths=(4, 8)), 2, 12, "batch", 64, 24),
        (partial(CNN, widths=(4, 8)), 2, 12, "bank", 256, 16),
    ],
)
def test_training_step(traffic, hlo, backbone, layers, channels, pairs, batch, bits):
    objective = combine(objectives.hashnet(pairs=pairs), weighted(0.1, objectives.hswd()))
    step = traffic.compiled_step(
        backbone, objective, size=8, batch=batch, bits=bits, devices=DEVICES
    )
    assert step[2:] == (channels, layers)
    of_pairs = {"batch": traffic.pairs_in_batch, "bank": traffic.bank}[pairs]
    formula = traffic.step(
        of_pairs(batch, bits), traffic.hswd_by_selection(bits, 0), *step[1:], bits=bits
    )
    assert counted(hlo, step.found) == formula[:3]


@pytest.mark.parametrize("seed", range(2))
def test_rounds_of_the_search(traffic, seed):
    """Few on continuous codes; the rounds do not grow with the devices."""
    eight, one = (
        traffic.search_rounds(512, 8, devices, tight=True, dtype="float32", seed=seed)
        for devices in (DEVICES, 1)
    )
    assert 2 <= eight <= 12 and abs(eight - one) <= 3
