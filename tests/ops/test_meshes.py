"""Every public loss and every objective on meshes: Auto and Explicit axes, and mapped ones."""

import inspect
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxhash import losses, similarity
from jaxhash.objectives import METHODS, QUANTIZERS, Batch, ClassSimilarity, Context, Setup
from jaxhash.ops.codebooks import sum_over_labels
from jaxhash.ops.codes import hamming_distance, pack, unpack
from jaxhash.ops.selection import mth_largest

ROWS, BITS, CLASSES = 16, 6, 5
SIZES = {"n": ROWS, "m": ROWS, "items": ROWS, "bits": BITS}  # others are numbers of classes

#: What the signature does not tell, or what makes a loss small.
OPTIONS = {
    "hashnet": {"scale": 0.5},
    "hyp2_pairs": {"threshold": 0.1},
    "hyp2_proxies": {"threshold": 0.1},
    "sliced_wasserstein": {"projections": 20, "block": 10},
    "swd": {"projections": 20, "block": 10},
    "sinkhorn": {"iterations": 5},
}

LOSSES = [
    name
    for name, value in vars(losses).items()
    if inspect.isfunction(value) and "where" in inspect.signature(value).parameters
]


def mesh(kind=AxisType.Explicit, devices=8):
    return jax.make_mesh((devices,), ("data",), axis_types=(kind,), devices=jax.devices()[:devices])


def spread(tree, mesh, rows=ROWS):
    """Shards the arrays that have one row per item of the batch over the mesh."""

    def put(array):
        if np.ndim(array) and len(array) == rows:
            return jax.device_put(array, NamedSharding(mesh, P("data")))
        return array

    return jax.tree.map(put, tree)


def example(parameter, rng):
    """Returns an argument of the shape and dtype of the annotation."""
    kind, dims = re.search(r"(\w+)\[\S*Array, ' *([^']*)'\]", str(parameter.annotation)).groups()
    shape = [SIZES.get(dim, CLASSES) for dim in dims.split()]
    if parameter.name == "where" or (parameter.name == "similar" and kind != "Float"):
        return jnp.asarray(rng.random(shape) < 0.6)
    if len(shape) == 1:
        return jnp.asarray(rng.integers(0, CLASSES, shape), jnp.int32)
    if parameter.name in ("similar", "labels"):
        return jnp.asarray(rng.integers(0, 2, shape), jnp.float32)
    return jnp.asarray(0.4 * rng.normal(size=shape), jnp.float32)


def loss_of(name, **options):
    """Returns a public loss as a function of its array arguments, and example arguments."""
    loss = getattr(losses, name)
    options |= OPTIONS.get(name, {})
    rng = np.random.default_rng(0)
    arrays = {}
    for parameter in inspect.signature(loss).parameters.values():
        positional = parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if parameter.name == "key":
            options["key"] = jax.random.key(0)
        elif positional or parameter.name == "where":
            arrays[parameter.name] = example(parameter, rng)
    return partial(loss, **options), arrays


def value_and_gradient(function):
    """Compiles value and gradient of the sum of the results in all floating arguments."""

    @jax.jit
    def of(arrays):
        floating = {name: a for name, a in arrays.items() if jnp.issubdtype(a.dtype, jnp.floating)}
        return jax.value_and_grad(lambda some: jnp.sum(function(**arrays | some)))(floating)

    return of


def assert_same(found, expected):
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


def objective_of(make, axis_name=None):
    """Returns an objective as a function of codes, labels and mask, and example arguments."""
    objective = make(**OPTIONS.get(make.__name__, {}))
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.normal(size=(ROWS, 7)), jnp.float32)
    class_similarity = ClassSimilarity(
        distances=1.0 - np.eye(CLASSES, dtype=np.float32),
        levels=np.array([[0, 0, 1, 1, 1]]),
        embeddings=rng.normal(size=(2 * ROWS, 3)).astype(np.float32),
    )
    of_views = (inputs,) * objective.views if objective.views > 1 else inputs
    setup = Setup(BITS, 2 * ROWS, CLASSES, False, of_views, {}, class_similarity)
    variables = objective.init(jax.random.key(0), setup)

    def loss(codes, inputs, labels, index, mask):
        of_views = (inputs,) * objective.views if objective.views > 1 else inputs
        codes = (codes, 0.5 * codes) if objective.views > 1 else codes
        context = Context(
            jax.random.key(1), jnp.float32(0.3), jnp.bool_(True), None, None, axis_name
        )
        found = objective.loss(variables, codes, Batch(of_views, labels, index, mask), context)
        assert jax.tree.structure(found.state) == jax.tree.structure(variables.state)
        return found.value

    return loss, {
        "codes": jnp.asarray(rng.normal(size=(ROWS, BITS)), jnp.float32),
        "inputs": inputs,
        "labels": jnp.asarray(rng.integers(0, CLASSES, ROWS), jnp.int32),
        "index": jnp.asarray(rng.permutation(2 * ROWS)[:ROWS], jnp.int32),
        "mask": jnp.arange(ROWS) < ROWS - 3,
    }


MAKERS = {
    **{f"loss-{name}": partial(loss_of, name) for name in LOSSES},
    **{f"method-{name}": partial(objective_of, METHODS[name].make) for name in METHODS},
    **{f"quantizer-{name}": partial(objective_of, QUANTIZERS[name]) for name in QUANTIZERS},
}


def each(makers):
    """Yields one test per name; those of quantizers, which one function makes from losses, are slow."""

    def mark(name):
        return (
            [pytest.mark.slow] if name.startswith("quantizer") and name != "quantizer-hswd" else []
        )

    return pytest.mark.parametrize(
        "make", [pytest.param(make, id=name, marks=mark(name)) for name, make in makers.items()]
    )


@each(MAKERS)
def test_explicit_axes_are_refused_by_nothing(make):
    """JAX refuses during tracing; values are compared below."""
    function, arrays = make()
    found = jax.eval_shape(value_and_gradient(function), spread(arrays, mesh()))
    shapes = jax.tree.map(jnp.shape, arrays)
    assert all(leaf.shape == shapes[name] for name, leaf in found[1].items())


@pytest.mark.slow
@each(MAKERS)
def test_rows_spread_over_a_mesh_have_the_value_and_gradient_of_one_device(make):
    function, arrays = make()
    expected = value_and_gradient(function)(arrays)
    for kind, devices in ((AxisType.Explicit, 1), (AxisType.Explicit, 8), (AxisType.Auto, 8)):
        found = value_and_gradient(function)(spread(arrays, mesh(kind, devices)))
        assert_same(found, expected)
        if kind == AxisType.Explicit and devices > 1:
            for gradient in found[1].values():  # nobody gathers what was spread
                assert gradient.sharding.is_fully_replicated == (len(gradient) != ROWS)


FUNCTIONS = {
    "shares_label": (similarity.shares_label, "labels"),
    "shares_label_ids": (similarity.shares_label, "ids"),
    "label_cosine": (similarity.label_cosine, "labels"),
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
    there = spread(rows, mesh())
    found = jax.jit(function)(there, there)
    assert_same(found, jax.jit(function)(rows, rows))
    assert found.sharding.is_fully_replicated == (len(found) != ROWS)


# Mapped axes


def mapped(function, arrays, check_vma):
    """Wraps the function in shard_map, with the rows of its arguments sharded over devices."""
    specs = jax.tree.map(lambda a: P("data") if a.ndim and len(a) == ROWS else P(), arrays)
    return jax.shard_map(
        lambda arrays: function(**arrays)[None],
        mesh=mesh(AxisType.Auto),
        in_specs=(specs,),
        out_specs=P("data"),
        check_vma=check_vma,
    )


OVER_DEVICES = {
    name: make
    for name, make in MAKERS.items()
    if make.func is objective_of
    or "axis_name" in inspect.signature(getattr(losses, make.args[0])).parameters
}


@each(OVER_DEVICES)
def test_gradients_that_would_be_summed_twice_are_refused(make):
    function, arrays = make(axis_name="data")
    with pytest.raises(ValueError, match="check_vma=False"):
        jax.eval_shape(mapped(function, arrays, check_vma=True), arrays)


def test_an_axis_that_nothing_maps_is_told():
    with pytest.raises(ValueError, match="^axis_name 'data' .*not"):
        losses.koleo(jnp.ones((2, 3)), axis_name="data")


def test_arrays_that_are_the_same_everywhere_are_refused_too():
    """Only the axis shows that the function is mapped."""
    refused = jax.shard_map(
        lambda codes: losses.l2_quantization(codes, axis_name="data"),
        mesh=mesh(AxisType.Auto), in_specs=P(), out_specs=P(), check_vma=True,
    )  # fmt: skip
    with pytest.raises(ValueError, match="check_vma=False"):
        refused(jnp.ones((4, 3)))


@pytest.mark.parametrize(
    "name", ["hswd", "dtsh", "nearest_neighbor_kl", "semantic_similarity", "sinkhorn"]
)
def test_without_an_axis_name_devices_have_losses_of_their_own(name):
    """Also under check_vma=True, where the state of a loop must vary from the start."""
    function, arrays = loss_of(name)
    arrays.pop("where")
    if name == "dtsh":  # of the columns, each device has its own rows
        arrays["similar"] = jnp.tile(jnp.array([[True, False]]), (ROWS, 1))
    found = jax.jit(mapped(function, arrays, check_vma=True))(arrays)
    expected = jax.jit(mapped(function, arrays, check_vma=False))(arrays)
    assert_same(found, expected)
    assert len(set(np.asarray(found).tolist())) > 1
