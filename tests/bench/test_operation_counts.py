"""Operations and bytes of compiled programs: by hand, and as XLA counts programs without loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxhash.bench.compile.hlo import parse
from jaxhash.bench.compile.operation_counts import count_operations


def compiled(function, *shapes, dtype="float32"):
    shapes = [jax.ShapeDtypeStruct(shape, dtype) for shape in shapes]
    return jax.jit(function).lower(*shapes).compile()


def counted(function, *shapes, rounds=1):
    return count_operations(parse(compiled(function, *shapes).as_text()), rounds)


def of_lines(*lines, before=""):
    text = "\n".join([before, "ENTRY %main (in: f32[8]) -> f32[8] {", *lines, "}"])
    return count_operations(parse(text))


# Operations


def convolution(image, kernel, **options):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(image, kernel, dimension_numbers=numbers, **options)


CONVOLUTIONS = [
    dict(window_strides=(1, 1), padding="VALID"),
    dict(window_strides=(2, 2), padding="SAME"),
    dict(window_strides=(2, 1), padding=((2, 1), (0, 3))),
    dict(window_strides=(1, 1), padding="SAME", rhs_dilation=(2, 2)),
    dict(window_strides=(1, 1), padding=((1, 1), (1, 1)), lhs_dilation=(2, 2)),
]


@pytest.mark.parametrize("options", CONVOLUTIONS)
def test_a_convolution_counts_what_xla_counts(options):
    program = compiled(lambda x, k: convolution(x, k, **options), (2, 9, 11, 3), (3, 3, 3, 5))
    (flops,) = count_operations(parse(program.as_text())).flops.values()
    assert flops == program.cost_analysis()["flops"]


def test_a_strided_convolution_with_its_gradients():
    """The holes of the backward pass are no multiplications."""

    def loss(x, k):
        return jnp.sum(convolution(x, k, window_strides=(2, 2), padding="SAME") ** 2)

    program = compiled(jax.grad(loss, (0, 1)), (4, 32, 32, 16), (3, 3, 16, 32))
    flops = sum(count_operations(parse(program.as_text())).flops.values())
    assert flops == pytest.approx(program.cost_analysis()["flops"], rel=0.01)


def test_products_by_hand():
    assert counted(lambda a, b: a @ b, (64, 32), (32, 48)).flops == {"f32": 2 * 64 * 32 * 48}
    batched = counted(lambda a, b: jnp.einsum("nik,njk->nij", a, b), (5, 64, 32), (5, 48, 32))
    assert batched.flops == {"f32": 2 * 5 * 64 * 32 * 48}
    assert counted(lambda a: jnp.tanh(a), (64, 32)).flops == {}


def test_a_loop_counts_every_round():
    """XLA on TPU counts one; a loop whose rounds depend on data counts as many as are assumed."""

    def program(x, w):
        x, _ = lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, w)
        return lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ w[0], x)

    once, product = counted(program, (48, 48), (6, 48, 48)), 2 * 48**3
    assert once.flops == {"f32": 7 * product}
    assert counted(program, (48, 48), (6, 48, 48), rounds=4).flops == {"f32": 10 * product}
    assert 0 < once.loop_bytes < once.bytes


def test_a_loop_in_a_branch_counts_one_round():
    """It may not run at all, as HSWD's search among equal values."""

    def search(x):
        return lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ x, x)

    def program(x):
        return lax.cond(x[0, 0] > 0, search, lambda x: x, search(x))

    assert counted(program, (48, 48), rounds=5).flops == {"f32": (5 + 1) * 2 * 48**3}


CALLS = {
    '%c = (f32[64,48]{1,0}, s8[64]{0}) custom-call(%a, %b), custom_call_target="__cublas$gemm", '
    'backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":'
    '["0"],"rhs_contracting_dimensions":["0"]}}}': 2 * 64 * 48 * 32,
    "%c = (f32[2,8,8,5]{3,2,1,0}, u8[0]{0}) custom-call(%image, %kernel), window={size=3x3 "
    'stride=2x2}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convForward"': 1,
    "%c = (f32[2,17,17,3]{3,2,1,0}, u8[0]{0}) custom-call(%out, %kernel), window={size=3x3 "
    'stride=2x2}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardInput"': 1,
    "%c = (f32[5,3,3,3]{3,2,1,0}, u8[0]{0}) custom-call(%image, %out), window={size=3x3 "
    'stride=2x2}, dim_labels=b01f_o01i->b01f, custom_call_target="__cudnn$convBackwardFilter"': 1,
}


@pytest.mark.parametrize(("line", "flops"), CALLS.items())
def test_calls_of_libraries(line, flops):
    """A convolution and its two gradients have the same multiplications."""
    given = {
        "a": "32,64",
        "b": "32,48",
        "image": "2,17,17,3",
        "kernel": "5,3,3,3",
        "out": "2,8,8,5",
    }
    arrays = [
        f"%{name} = f32[{shape}] parameter({i})" for i, (name, shape) in enumerate(given.items())
    ]
    expected = flops if flops > 1 else 2 * (2 * 8 * 8 * 5) * (3 * 3 * 3)
    assert of_lines(*arrays, line).flops == {"f32": expected}


# Bytes

PROGRAMS = {
    "product": (lambda a, b: jnp.tanh(a @ b), [(64, 32), (32, 48)]),
    "sum": (lambda a: jnp.cumsum(a, 0), [(1000, 64)]),
    "normalize": (lambda a: a / jnp.linalg.norm(a, axis=1, keepdims=True), [(100, 64)]),
    "rows": (lambda a: lax.dynamic_slice(a, (3, 0), (5, 64)) * 2, [(100, 64)]),
    "sort": (lambda a: jnp.sort(a, 0), [(100, 64)]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_bytes_are_those_that_xla_counts(name):
    function, shapes = PROGRAMS[name]
    program = compiled(function, *shapes)
    found = count_operations(parse(program.as_text())).bytes
    assert found == pytest.approx(program.cost_analysis()["bytes accessed"], rel=0.001)


def test_a_loop_over_slices_reads_each_row_once():
    """The stack that a scan reads and the one it writes are not whole in every round."""
    small, large = (
        counted(lambda x: lax.map(lambda row: jnp.sin(row) * row, x), (rows, 256)).bytes
        for rows in (64, 128)
    )
    assert large == pytest.approx(2 * small, rel=0.1)
    assert large < 20 * (128 * 256 * 4)


def test_what_stays_on_the_chip_is_free():
    """As XLA:TPU moves an array into VMEM, doubles it there, and moves it back."""
    vmem, hbm = "f32[16,128]{1,0:T(8,128)S(1)}", "f32[16,128]{1,0:T(8,128)}"
    found = of_lines(
        f"%in = {hbm} parameter(0)",
        f"%s = ({vmem}, {hbm}, u32[]{{:S(2)}}) copy-start(%in)",
        f"%c = {vmem} copy-done(%s)",
        f"%m = {vmem} add(%c, %c)",
        f"%t = ({hbm}, {vmem}, u32[]{{:S(2)}}) copy-start(%m)",
        f"ROOT %d = {hbm} copy-done(%t)",
    )
    assert found.bytes == 2 * 16 * 128 * 4


@pytest.mark.parametrize(
    ("layout", "stored"),
    [
        ("{1,0:T(8,128)}", 104 * 128),
        ("{0,1:T(8,128)}", 64 * 128),
        ("{1,0}", 100 * 64),
        ("", 100 * 64),
    ],
)
def test_padding_of_tiles_is_stored(layout, stored):
    found = of_lines(
        f"%in = f32[100,64]{layout} parameter(0)", f"ROOT %o = f32[100,64]{layout} negate(%in)"
    )
    assert found.bytes == 2 * 4 * stored


def test_a_slice_that_is_copied_reads_only_itself():
    found = of_lines(
        "%in = f32[64,128]{1,0} parameter(0)",
        "%s = ((f32[64,128]{1,0}), f32[8,128]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%in)",
        "ROOT %d = f32[8,128]{1,0:S(1)} slice-done(%s)",
    )
    assert found.bytes == 8 * 128 * 4


def test_an_update_in_place_writes_only_itself():
    fused = "\n".join(
        [
            "%f (p0: f32[64,128], p1: f32[1,128], p2: s32[]) -> f32[64,128] {",
            "%p0 = f32[64,128]{1,0} parameter(0)",
            "%p1 = f32[1,128]{1,0} parameter(1)",
            "%p2 = s32[] parameter(2)",
            "%n = f32[1,128]{1,0} negate(%p1)",
            "ROOT %u = f32[64,128]{1,0} dynamic-update-slice(%p0, %n, %p2, %p2)",
            "}",
        ]
    )
    found = of_lines(
        "%in = f32[64,128]{1,0} parameter(0)",
        "%row = f32[1,128]{1,0} parameter(1)",
        "%at = s32[] parameter(2)",
        "ROOT %o = f32[64,128]{1,0} fusion(%in, %row, %at), kind=kLoop, calls=%f",
        before=fused,
    )
    assert found.bytes == 2 * 128 * 4 + 4


def test_kernels_are_named():
    line = '%k = f32[8] custom-call(%in), custom_call_target="tpu_custom_call"'
    assert of_lines("%in = f32[8] parameter(0)", line).kernels == {"tpu_custom_call": 1}
    assert np.isclose(of_lines("%in = f32[8] parameter(0)", line).bytes, 64)
