"""Every public loss and objective on every kind of mesh: one device's value and gradient."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from mesh_cases import (
    BITS,
    CASES,
    CLASSES,
    ROWS,
    is_split,
    of_one_device,
    value_and_gradient,
)

from jaxhash import losses, similarity
from jaxhash.ops.codebooks import sum_over_labels
from jaxhash.ops.codes import hamming_distance, pack, unpack
from jaxhash.ops.selection import mth_largest

AUTO, EXPLICIT = AxisType.Auto, AxisType.Explicit


def assert_same(found, expected):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


# Where arrays lie. Each of these computes value and gradient of a case there.


def make_mesh(kinds, shape=(4, 2)):
    names = ("data", "model")[: len(shape)]
    return jax.make_mesh(shape, names, axis_types=kinds, devices=jax.devices()[: np.prod(shape)])


def shard(case, mesh, **spec):
    """Shards the named axes of the arrays over axes of the mesh; other arrays stay as they are."""

    def put(name, tree):
        axes = case.axes[name]
        if not any(spec.get(axis) for axis in axes):
            return tree
        sharding = NamedSharding(mesh, P(*(spec.get(axis) for axis in axes)))
        return jax.tree.map(lambda array: jax.device_put(array, sharding), tree)

    return {name: put(name, tree) for name, tree in case.arrays.items()}


def under_jit(case, mesh, ambient=False, **spec):
    """A global-view program, where gradients keep the sharding of what they belong to."""
    arrays = shard(case, mesh, **spec)
    if ambient:
        with jax.set_mesh(mesh):
            value, gradient = jax.jit(value_and_gradient(case))(arrays)
    else:
        value, gradient = jax.jit(value_and_gradient(case))(arrays)
    if mesh.are_all_axes_explicit:
        for name, tree in gradient.items():
            if any(spec.get(axis) for axis in case.axes[name]):
                assert tree.sharding.is_equivalent_to(arrays[name].sharding, tree.ndim)
    return value, gradient


def under_axis_name(case, mapping):
    """Each device computes with its rows; values agree, and shares of gradients add up."""
    step = value_and_gradient(case, axis_name="data")
    split = {name: is_split(case, name) for name in case.arrays}
    if mapping == "shard_map":
        specs = {name: P("data") if split[name] else P() for name in split}
        of_gradient = jax.eval_shape(value_and_gradient(case), case.arrays)[1]

        def local(arrays):
            value, gradient = step(arrays)
            return value[None], gradient

        mapped = jax.shard_map(
            local,
            mesh=make_mesh((AUTO,), (8,)),
            in_specs=(specs,),
            out_specs=(P("data"), {name: specs[name] for name in of_gradient}),
            check_vma=False,
        )
        values, gradient = jax.jit(mapped)(case.arrays)
    else:
        arrays = {
            name: tree.reshape(8, -1, *tree.shape[1:]) if split[name] else tree
            for name, tree in case.arrays.items()
        }
        axes = ({name: 0 if split[name] else None for name in split},)
        transform = {"pmap": jax.pmap, "vmap": lambda *a, **k: jax.jit(jax.vmap(*a, **k))}[mapping]
        values, gradient = transform(step, in_axes=axes, axis_name="data")(arrays)
        gradient = {
            name: tree.reshape(case.arrays[name].shape)
            if split[name]
            else jax.tree.map(lambda leaf: leaf[0], tree)
            for name, tree in gradient.items()
        }
    assert len(set(np.asarray(values).tolist())) == 1
    return values[0], gradient


def under_vmap(case, mesh):
    """Two members with the same arrays, whose rows are sharded."""
    arrays = shard(case, mesh, n="data")
    batched = jax.jit(
        jax.vmap(lambda codes, rest: value_and_gradient(case)(rest | codes), (0, None))
    )
    first = next(iter(arrays))
    members = jax.jit(lambda codes: jnp.stack([codes, codes]))(arrays.pop(first))
    values, gradient = batched({first: members}, arrays)
    assert values[0] == values[1]
    return jax.tree.map(lambda leaf: leaf[1], (values, gradient))


BY_AXIS_NAME = {
    mapping: partial(under_axis_name, mapping=mapping) for mapping in ("shard_map", "pmap", "vmap")
}

LAYOUTS = {
    "jit, Explicit rows": lambda case: under_jit(case, make_mesh((EXPLICIT,), (8,)), n="data"),
    "jit, Auto rows": lambda case: under_jit(case, make_mesh((AUTO,), (8,)), n="data"),
    "jit, Explicit rows and bits": lambda case: under_jit(
        case, make_mesh((EXPLICIT, EXPLICIT)), n="data", bits="model"
    ),
    "jit, Auto rows and bits": lambda case: under_jit(
        case, make_mesh((AUTO, AUTO)), n="data", bits="model"
    ),
    "jit, Explicit rows over both axes": lambda case: under_jit(
        case, make_mesh((EXPLICIT, EXPLICIT)), n=("data", "model")
    ),
    "jit, rows over Auto and bits over Explicit": lambda case: under_jit(
        case, make_mesh((AUTO, EXPLICIT)), n="data", bits="model"
    ),
    "jit, under set_mesh": lambda case: under_jit(
        case, make_mesh((EXPLICIT, EXPLICIT)), ambient=True, n="data"
    ),
    "vmap, Explicit rows": lambda case: under_vmap(case, make_mesh((EXPLICIT,), (8,))),
} | BY_AXIS_NAME

#: Cases that stand for the others in the quick tests, and those that the slow ones leave out:
#: quantizers, which one function makes from losses.
QUICK = ("loss-hswd", "loss-koleo", "method-hashnet", "method-dtsh", "method-cross-entropy")
REPEATED = [name for name in CASES if name.startswith("quantizer") and name != "quantizer-hswd"]

#: Layouts of the slow tests. `test_conformance_transforms` has pmap and vmap for every loss, and
#: `test_objective_devices` has pmap for the step of every objective.
BULK = ("jit, Explicit rows and bits", "jit, Auto rows and bits", "shard_map")


def table():
    """Case by case, so that the value on one device is computed once."""
    for name in CASES:
        for layout in LAYOUTS:
            if name in QUICK:
                slow = layout in ("jit, Explicit rows", "pmap")
                yield pytest.param(name, layout, marks=[pytest.mark.slow] if slow else [])
            elif layout in BULK and name not in REPEATED:
                yield pytest.param(name, layout, marks=[pytest.mark.slow])


@pytest.mark.parametrize("name, layout", table())
def test_value_and_gradient_are_those_of_one_device(name, layout):
    case = CASES[name]()
    if layout in BY_AXIS_NAME and not case.is_global:
        pytest.skip("it has no axis_name, or returns rows of the batch")
    assert_same(LAYOUTS[layout](case), of_one_device(name))


@pytest.mark.parametrize("name", CASES)
def test_explicit_axes_are_refused_by_nothing(name):
    """JAX refuses while it traces; values are compared above."""
    case = CASES[name]()
    arrays = shard(case, make_mesh((EXPLICIT, EXPLICIT)), n="data", bits="model")
    _, found = jax.eval_shape(value_and_gradient(case), arrays)
    assert all(
        jax.tree.map(jnp.shape, found[name]) == jax.tree.map(jnp.shape, arrays[name])
        for name in found
    )


FUNCTIONS = {
    "shares_label": (similarity.shares_label, "labels"),
    "shares_label_ids": (similarity.shares_label, "ids"),
    "label_cosine": (similarity.label_cosine, "labels"),
    "label_iou": (similarity.label_iou, "labels"),
    "label_overlap": (similarity.label_overlap, "labels"),
    "has_label": (lambda rows, others: similarity.has_label(rows), "labels"),
    "embedding_distance": (similarity.embedding_distance, "codes"),
    "hamming_distance": (hamming_distance, "packed"),
    "pack": (lambda rows, others: pack(rows), "codes"),
    "unpack": (lambda rows, others: unpack(rows, BITS), "packed"),
    "multi_hot": (lambda rows, others: similarity.multi_hot(rows, CLASSES), "ids"),
    "sum_over_labels": (lambda rows, others: sum_over_labels(rows, jnp.eye(CLASSES)), "ids"),
    "mth_largest": (lambda rows, others: mth_largest(rows, 3), "codes"),
}


@pytest.mark.parametrize("function, rows", FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_what_losses_are_given_is_made_on_explicit_axes_too(function, rows):
    rng = np.random.default_rng(0)
    rows = {
        "codes": jnp.asarray(rng.normal(size=(ROWS, BITS)), jnp.float32),
        "labels": jnp.asarray(rng.integers(0, 2, (ROWS, CLASSES)), jnp.float32),
        "ids": jnp.asarray(rng.integers(0, CLASSES, ROWS), jnp.int32),
        "packed": jnp.asarray(rng.integers(0, 256, (ROWS, 1)), jnp.uint8),
    }[rows]
    expected = jax.jit(function)(rows, rows)
    mesh = make_mesh((EXPLICIT, EXPLICIT))
    for over in ("data", ("data", "model")):
        there = jax.device_put(rows, NamedSharding(mesh, P(over)))
        found = jax.jit(function)(there, there)
        assert_same(found, expected)
        assert found.sharding.is_fully_replicated == (len(found) != ROWS)


# Mapped axes


def mapped(case, check_vma, axis_name=None):
    """Wraps a case in shard_map, with the rows of its arguments sharded over devices."""
    return jax.shard_map(
        lambda arrays: value_and_gradient(case, axis_name)(arrays)[0][None],
        mesh=make_mesh((AUTO,), (8,)),
        in_specs=({name: P("data") if is_split(case, name) else P() for name in case.arrays},),
        out_specs=P("data"),
        check_vma=check_vma,
    )


@pytest.mark.parametrize("name", CASES)
def test_gradients_that_would_be_summed_twice_are_refused(name):
    case = CASES[name]()
    if case.is_global:
        with pytest.raises(ValueError, match="check_vma=False"):
            jax.eval_shape(mapped(case, check_vma=True, axis_name="data"), case.arrays)


def test_an_axis_that_nothing_maps_is_told():
    with pytest.raises(ValueError, match="^axis_name 'data' .*not"):
        losses.koleo(jnp.ones((2, 3)), axis_name="data")


def test_arrays_that_are_the_same_everywhere_are_refused_too():
    """Only the axis shows that the function is mapped."""
    refused = jax.shard_map(
        lambda codes: losses.l2_quantization(codes, axis_name="data"),
        mesh=make_mesh((AUTO,), (8,)), in_specs=P(), out_specs=P(), check_vma=True,
    )  # fmt: skip
    with pytest.raises(ValueError, match="check_vma=False"):
        refused(jnp.ones((4, 3)))


@pytest.mark.parametrize(
    "name", ["hswd", "dtsh", "nearest_neighbor_kl", "semantic_similarity", "sinkhorn"]
)
def test_without_an_axis_name_devices_have_losses_of_their_own(name):
    """Also under check_vma=True, where the state of a loop must vary from the start."""
    case = CASES[f"loss-{name}"]()
    arrays = {name: array for name, array in case.arrays.items() if name != "where"}
    if name == "dtsh":  # of the columns, each device has its own rows
        arrays["similar"] = jnp.tile(jnp.array([[True, False]]), (ROWS, ROWS // 2))
    case = case._replace(arrays=arrays)
    found = jax.jit(mapped(case, check_vma=True))(arrays)
    expected = jax.jit(mapped(case, check_vma=False))(arrays)
    assert_same(found, expected)
    assert len(set(np.asarray(found).tolist())) > 1
