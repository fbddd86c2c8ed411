"""HSWD of a batch on eight devices is that of one, and moves no codes between them."""

import re
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hswd_oracles import (
    KEY,
)

from jaxhash.losses import hswd


def cost_and_gradients(weights, images, where, *, target, method, axis_name=None):
    def cost(weights, images):
        codes = images @ weights
        return hswd(codes, key=KEY, target=target, method=method, where=where, axis_name=axis_name)

    value, (of_weights, of_images) = jax.value_and_grad(cost, argnums=(0, 1))(weights, images)
    if axis_name is not None:
        of_weights = jax.lax.psum(of_weights, axis_name)
    return value, of_weights, of_images


@cache
def over_devices(mapping, target, method):
    mapped = jax.pmap if mapping == "pmap" else lambda f, **axes: jax.jit(jax.vmap(f, **axes))
    step = partial(cost_and_gradients, target=target, method=method, axis_name="device")
    return mapped(step, axis_name="device", in_axes=(None, 0, 0))


@cache
def on_one(target, method):
    return jax.jit(partial(cost_and_gradients, target=target, method=method))


@pytest.mark.parametrize(
    ("mapping", "target", "method"),
    [
        ("pmap", "sampled", "select"),
        ("pmap", "balanced", "select"),
        ("pmap", "expected", "sort"),
        ("vmap", "sampled", "select"),
        ("vmap", "balanced", "select"),
        ("vmap", "sampled", "sort"),
    ],
)
@pytest.mark.parametrize("valid", [16, 11, 1, 0])
def test_eight_devices_are_one(mapping, target, method, valid):
    """Two rows a device; with 11 valid rows one device is half padding and two are nothing else.

    Multiples of 1/2, so that codes are exact, and equal ones lie on several devices.
    """
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.integers(-2, 3, (16, 3)) / 2, jnp.float32)
    weights = jnp.asarray(rng.integers(-2, 3, (3, 4)) / 2, jnp.float32)
    assert all(len(set(bit)) < 16 for bit in np.asarray(images @ weights).T)
    where = jnp.arange(16) < valid
    value, of_weights, of_images = over_devices(mapping, target, method)(
        weights, images.reshape(8, 2, 3), where.reshape(8, 2)
    )
    whole = on_one(target, method)(weights, images, where)
    assert len(set(np.asarray(value).tolist())) == 1
    np.testing.assert_allclose(value[0], whole[0], rtol=1e-6)
    for each in of_weights:
        np.testing.assert_allclose(each, whole[1], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(of_images.reshape(16, 3), whole[2], rtol=1e-6, atol=1e-7)
    assert valid == 0 or jnp.any(whole[2])


@cache
def compiled(rows, target, method):
    """The program of value and gradient of `rows` codes of 5 bits on each of 8 devices, as text."""

    def each(codes):
        cost = partial(hswd, key=KEY, target=target, method=method, axis_name="device")
        return jax.value_and_grad(cost)(codes)

    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("device",))
    spread, same = jax.sharding.PartitionSpec("device"), jax.sharding.PartitionSpec()
    mapped = jax.shard_map(
        each, mesh=mesh, in_specs=spread, out_specs=(same, spread), check_vma=False
    )
    lowered = jax.jit(mapped).lower(jnp.zeros((8 * rows, 5)))
    return lowered.as_text(), lowered.compile().as_text()


@pytest.mark.parametrize("target", ["sampled", "balanced"])
def test_selecting_gathers_nothing(target):
    """Before and after the compiler; sorting does gather, so that this test can fail."""
    gather, reduce = re.compile("all[-_]gather"), re.compile("all[-_]reduce")
    for text in compiled(3, target, "select"):
        assert not gather.search(text) and not re.search("all[-_]to[-_]all|permute", text)
        assert reduce.search(text)
    for text in compiled(3, target, "sort"):
        assert gather.search(text)


def test_traffic_does_not_depend_on_the_batch():
    """Sizes of sums over devices: a few numbers a bit, as many for 40 rows a device as for 3."""

    def traffic(rows):
        text = compiled(rows, "balanced", "select")[1]
        results = re.findall(r"= (.*?) all-reduce(?:-start)?\(", text)
        return sorted(re.findall(r"\w+\[[\d,]*\]", " ".join(results)))

    assert traffic(3) == traffic(40)
    sizes = [
        np.prod([int(size) for size in re.findall(r"\d+", shape.split("[")[1])])
        for shape in traffic(3)
    ]
    assert sizes and max(sizes) <= 8 * 5


@pytest.mark.parametrize("kind", [jax.sharding.AxisType.Auto, jax.sharding.AxisType.Explicit])
@pytest.mark.parametrize("rows", [424, 131_072])
def test_selecting_under_jit_gathers_nothing(kind, rows):
    """Blocks that are counted lie on one device, also where 16 does not divide its rows."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(kind,))
    codes = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    of_codes = jax.value_and_grad(partial(hswd, target="balanced"))
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
        lowered = jax.jit(of_codes, out_shardings=(None, codes)).lower(
            jax.ShapeDtypeStruct((rows, 5), jnp.float32, sharding=codes)
        )
    text = lowered.compile().as_text()
    assert "all-reduce" in text
    assert not re.search("all-gather|all-to-all|collective-permute", text)
