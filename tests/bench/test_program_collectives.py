"""Collectives of compiled programs against hand-counted bytes, and every way compilers write them."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxhash.bench.compile.collectives import find_collectives

DEVICES, AXIS = 8, "devices"


def compiled(function, *shape):
    mapped = jax.pmap(function, axis_name=AXIS)
    return mapped.lower(jax.ShapeDtypeStruct((DEVICES, *shape), jnp.float32)).compile().as_text()


@pytest.mark.parametrize(
    ("function", "kind", "shape", "sent"),
    [
        (lax.psum, "all-reduce", (16, 5), 2 * 7 / 8 * 4 * 16 * 5),
        (lax.all_gather, "all-gather", (8, 16, 5), 7 / 8 * 4 * 8 * 16 * 5),
        (partial(lax.psum_scatter, tiled=True), "reduce-scatter", (16, 5), 7 / 8 * 4 * 16 * 5),
    ],
)
def test_bytes_by_hand(function, kind, shape, sent):
    (found,) = find_collectives(compiled(partial(function, axis_name=AXIS), 16, 5), DEVICES)
    assert (found.kind, found.dtype, found.group_size, found.times) == (kind, "f32", DEVICES, 1)
    assert found.bytes == jnp.prod(jnp.array(found.shape)) * 4
    assert found.sent_bytes == pytest.approx(sent)
    assert tuple(side for side in found.shape if side != 1) == shape
    assert found.origin and not found.loop and not found.is_branch


def test_a_permutation_sends_the_array_once():
    around = [(i, (i + 1) % DEVICES) for i in range(DEVICES)]
    text = compiled(partial(lax.ppermute, axis_name=AXIS, perm=around), 7)
    assert [(c.kind, c.sent_bytes) for c in find_collectives(text, DEVICES)] == [
        ("collective-permute", 28)
    ]


def test_loops_and_branches():
    """Known rounds are multiplied, unknown ones and branches are named."""

    def program(x):
        total = partial(lax.psum, axis_name=AXIS)
        x = lax.fori_loop(0, 5, lambda _, x: jnp.sin(total(x)), x)
        x = lax.while_loop(lambda x: total(x)[0] > 0, lambda x: x - 1, x)
        return lax.cond(total(x)[1] > 0, lambda x: total(jnp.cos(x)), lambda x: x, x)

    found = find_collectives(compiled(program, 7), DEVICES)
    assert {c.kind for c in found} == {"all-reduce"}
    places = sorted((c.times, bool(c.loop), c.is_branch) for c in found)
    assert places == [(1, False, False), (1, False, True), (1, True, False), (5, False, False)]


GROUPS = {
    "{{0,1,2,3},{4,5,6,7}}": 4,
    "{}": 8,
    "[2,4]<=[8]": 4,
    "[4,2]<=[2,4]T(1,0)": 2,
    "mesh['rows'=2,'columns'=4] {'columns'}": 4,
    "mesh['rows'=2,'columns'=4] {'rows','columns'}": 8,
}


def program(*lines, before=""):
    return "\n".join([before, "ENTRY %main (in: f32[2,5]) -> f32[2,5] {", *lines, "}"])


@pytest.mark.parametrize(("groups", "devices"), GROUPS.items())
def test_every_way_to_write_who_takes_part(groups, devices):
    line = f"  ROOT %o = f32[2,5]{{1,0}} reduce-scatter(%in), replica_groups={groups}, dimensions={{0}}"
    (found,) = find_collectives(program(line), 8)
    assert (found.group_size, found.shape) == (devices, (2 * devices, 5))


def test_an_unknown_way_is_refused():
    with pytest.raises(ValueError, match="unknown way"):
        find_collectives(program("  ROOT %o = f32[2] all-reduce(%in), of=all"), 8)


def test_a_start_and_its_done_are_one_collective():
    """As XLA:GPU writes a gather of two arrays at once."""
    found = find_collectives(
        program(
            "  %s = ((s32[4]{0}, pred[4]{0}), (s32[32]{0}, pred[32]{0})) all-gather-start(%a, %b), "
            'replica_groups=[1,8]<=[8], dimensions={0}, metadata={op_name="jit(f)/all_gather"}',
            "  ROOT %d = (s32[32]{0}, pred[32]{0}) all-gather-done(%s)",
        ),
        8,
    )
    assert [(c.name, c.dtype, c.bytes, c.origin) for c in found] == [
        ("s", "s32", 128, "jit(f)/all_gather"),
        ("s", "pred", 32, "jit(f)/all_gather"),
    ]


def test_a_wrapped_collective_is_found_in_what_it_wraps():
    wrapped = (
        "%w (p: f32[16]) -> f32[2] {\n"
        "  ROOT %r = f32[2]{0} reduce-scatter(%p), replica_groups={{0,1,2,3,4,5,6,7}}, dimensions={0}\n}"
    )
    lines = (
        "  %s = ((f32[16]{0}), f32[2]{0}) async-start(%in), calls=%w",
        "  ROOT %d = f32[2]{0} async-done(%s), calls=%w",
    )
    assert [c.bytes for c in find_collectives(program(*lines, before=wrapped), 8)] == [64]


def test_a_chain_of_fusions_sends_one_array():
    """As XLA:TPU writes a gather of labels that runs beside convolutions."""
    part = (
        "  %g = s32[1,1024]{{1,0:T(1,128)S(1)}} all-gather(%p), replica_groups={{{{0,1,2,3,4,5,6,7}}}}, "
        'dimensions={{1}}, frontend_attributes={{chain_id="{}"}}'
    )
    call = '  ROOT %c = s32[1,1024]{{1,0}} custom-call(%g), custom_call_target="AsyncCollective{}"'
    fused = [
        f"%f{number} (p: s32[1,128]) -> s32[1,1024] {{\n{part.format(chain)}\n{call.format(step)}\n}}"
        for number, (chain, step) in enumerate(
            [(0, "Start"), (0, "Step"), (0, "Done"), (1, "Start"), (1, "Done")]
        )
    ]
    calls = [
        f"  %o{i} = s32[1,1024]{{1,0}} fusion(%in), kind=kCustom, calls=%f{i}" for i in range(5)
    ]
    found = find_collectives(program(*calls, before="\n".join(fused)), 8)
    assert [(c.shape, c.bytes) for c in found] == [((1, 1024), 4096)] * 2


def test_a_gather_may_be_sent_as_an_all_reduce():
    """As XLA:TPU sends labels, and codes on 256 chips: each adds its part to an array of zeros."""
    fused = (
        "%f (p: s32[32], z: s32[256], at: s32[]) -> s32[256] {\n"
        "  %p = s32[32]{0} parameter(0)\n  %z = s32[256]{0} parameter(1)\n"
        "  %at = s32[] parameter(2)\n"
        "  ROOT %u = s32[256]{0:T(256)} dynamic-update-slice(%z, %p, %at)\n}"
    )
    lines = (
        "  %part = s32[256]{0} fusion(%in, %zeros, %at), kind=kLoop, calls=%f",
        "  %bitcast = s32[2,128]{1,0} bitcast(%part)",
        "  ROOT %o = s32[2,128]{1,0} all-reduce(%bitcast), replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%a",
    )
    (found,) = find_collectives(program(*lines, before=fused), 8)
    assert found.kind == "all-reduce" and found.origin.startswith("all_gather")


def test_an_array_for_the_host_is_sent_to_no_device():
    sends = "  ROOT %s = (f32[2,5]{1,0}, u32[], token[]) send(%in, %t), channel_id=1"
    assert not find_collectives(program(f"{sends}, is_host_transfer=true"), 8)
    assert [c.sent_bytes for c in find_collectives(program(sends), 8)] == [40]
