"""What the compilers of a TPU and of a GPU make of the kernels and of the searches without one."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from jaxhash.bench.compile.program import compile_function, compile_lowered
from jaxhash.bench.compile.roofline import count_work
from jaxhash.bench.compile.targets import target_devices
from jaxhash.losses import hswd, nearest_neighbor_kl
from jaxhash.metrics import _counts

pytestmark = pytest.mark.slow

KERNELS = {"tpu": "tpu_custom_call", "cuda": "__gpu$xla.gpu.triton"}
CODES = jax.ShapeDtypeStruct((1024, 64), jnp.float32)
SIZE = 1024 * 64 * 4

each_chip = pytest.mark.parametrize("chip", ["v5e", "h200"])


@pytest.fixture
def target(request, chip):
    return request.getfixturevalue(chip)


def compile_gradient(loss, target, codes=CODES):
    return compile_function(jax.value_and_grad(loss), [codes], target, name="loss")


@each_chip
@pytest.mark.parametrize("shape", [(1024, 64), (65_536, 12)])
def test_hswd_is_one_kernel_that_reads_the_codes_once(target, shape):
    """Beside the codes and their gradient there are a few numbers per bit."""
    codes = jax.ShapeDtypeStruct(shape, jnp.float32)
    program = compile_gradient(partial(hswd, target="balanced", method="kernel"), target, codes)
    assert count_work(program).kernels == {KERNELS[target.platform]: 1}
    assert " while(" not in program.text
    wide = f"f32[{shape[0]},{shape[1]}]", f"f32[{shape[1]},{shape[0]}]"
    readers = [
        line
        for line in program.text[program.text.index("ENTRY") :].splitlines()
        if any(each in line for each in wide)
        and not any(
            f" {name}(" in line for name in ("parameter", "bitcast", "get-tuple-element", "tuple")
        )
    ]
    assert len(readers) == 2  # the signature, and the kernel
    assert "custom-call" in readers[1]


@each_chip
def test_the_kernel_halves_what_selection_moves(target):
    by_kernel, selected = (
        count_work(compile_gradient(partial(hswd, target="balanced", method=method), target)).bytes
        for method in ("kernel", "select")
    )
    assert 2 * by_kernel < selected


@each_chip
def test_neighbors_are_searched_without_storing_their_gaps(target):
    """The distances of all pairs are read and written a few times, not once a bit."""
    program = compile_gradient(partial(nearest_neighbor_kl, key=jax.random.key(0)), target)
    assert count_work(program).bytes < 8 * 1024 * 1024 * 4


@each_chip
def test_counting_moves_little_more_than_the_planes(target):
    devices = tuple(target_devices(target)[:1])
    words = _counts.BLOCK // 32
    counter = _counts._make_counter(64, False, 1, devices, _counts.queries_at_once(devices))
    mesh = _counts._mesh(devices)
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    queries = _counts._QUERIES
    shapes = [
        jax.ShapeDtypeStruct(shape, jnp.uint32, sharding=whole)
        for shape in ((queries, 64), (queries, 7), (64, words), (7, words), (1, words))
    ]
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        program = compile_lowered(lambda: counter.lower(*shapes), target, name="counts")
    moved, planes = count_work(program).bytes, 72 * words * 4
    if target.platform == "tpu":  # all but the planes stays in vector memory
        assert moved < 1.1 * planes * queries / _counts._AT_ONCE
    else:  # the cache holds what is in flight
        assert program.memory.temporaries < 50 * 2**20 / 4
