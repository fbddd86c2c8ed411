"""Every public loss and every objective as a function of named arrays, for tests of meshes."""

import functools
import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxhash import losses
from jaxhash.objectives import METHODS, QUANTIZERS, Batch, ClassSimilarity, Context, Setup

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
    "multilevel_means": {"radius": 2.0},
    "multilevel_triplet": {"radius": 2.0},
}


class Case(NamedTuple):
    """A function of named arrays, or of trees of them."""

    function: Callable[..., jax.Array]
    """``function(axis_name=None, **arrays)``."""
    arrays: dict[str, Any]
    axes: dict[str, tuple[str, ...]]
    """The axes of each array: "n" are the rows of the batch, "bits" the columns of codes."""
    is_global: bool = True
    """Whether it takes ``axis_name``, and returns what all devices have in common."""


@functools.cache
def loss_case(name: str) -> Case:
    """A public loss; arrays are made after its annotations."""
    loss = getattr(losses, name)
    signature = inspect.signature(loss).parameters
    options, rng = dict(OPTIONS.get(name, {})), np.random.default_rng(0)
    arrays, axes = {}, {}
    for parameter in signature.values():
        positional = parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        if parameter.name == "key":
            options["key"] = jax.random.key(0)
        elif positional or parameter.name == "where":
            arrays[parameter.name], axes[parameter.name] = _example(parameter, rng)
    function = functools.partial(loss, **options)
    of_rows = "items" in str(inspect.signature(loss).return_annotation)
    return Case(function, arrays, axes, "axis_name" in signature and not of_rows)


def _example(parameter, rng):
    """An array of the shape and dtype of the annotation, and the names of its axes."""
    kind, dims = re.search(r"(\w+)\[\S*Array, ' *([^']*)'\]", str(parameter.annotation)).groups()
    axes = tuple("n" if dim == "items" else dim for dim in dims.split())
    shape = [SIZES.get(dim, CLASSES) for dim in axes]
    if parameter.name == "where" or (parameter.name == "similar" and kind != "Float"):
        array = rng.random(shape) < 0.6
    elif len(shape) == 1:
        array = rng.integers(0, CLASSES, shape).astype(np.int32)
    elif parameter.name in ("similar", "labels", "confidence"):
        array = rng.integers(0, 2, shape).astype(np.float32)
    else:
        array = (0.4 * rng.normal(size=shape)).astype(np.float32)
    return jnp.asarray(array), axes


@functools.cache
def objective_case(make: Callable) -> Case:
    """An objective: a function of codes, its parameters and a batch."""
    objective = make(**OPTIONS.get(make.__name__, {}))
    rng = np.random.default_rng(0)
    inputs = jnp.asarray(rng.normal(size=(ROWS, 7)), jnp.float32)
    class_similarity = ClassSimilarity(
        distances=1.0 - np.eye(CLASSES, dtype=np.float32),
        levels=np.array([[0, 0, 1, 1, 1]]),
        embeddings=rng.normal(size=(2 * ROWS, 3)).astype(np.float32),
    )

    def views(array, factor=1.0):
        every = tuple(factor**number * array for number in range(objective.views))
        return every if objective.views > 1 else array

    setup = Setup(BITS, 2 * ROWS, CLASSES, False, views(inputs), {}, class_similarity)
    variables = objective.init(jax.random.key(0), setup)

    def loss(codes, params, inputs, labels, index, mask, axis_name=None):
        context = Context(
            jax.random.key(1), jnp.float32(0.3), jnp.bool_(True), None, None, axis_name
        )
        batch = Batch(views(inputs), labels, index, mask)
        given = variables._replace(params=params)
        found = objective.loss(given, views(codes, 0.5), batch, context)
        assert jax.tree.structure(found.state) == jax.tree.structure(variables.state)
        return found.value

    arrays = {
        "codes": jnp.asarray(rng.normal(size=(ROWS, BITS)), jnp.float32),
        "params": variables.params,
        "inputs": inputs,
        "labels": jnp.asarray(rng.integers(0, CLASSES, ROWS), jnp.int32),
        "index": jnp.asarray(rng.permutation(2 * ROWS)[:ROWS], jnp.int32),
        "mask": jnp.arange(ROWS) < ROWS - 3,
    }
    rows = dict.fromkeys(("labels", "index", "mask"), ("n",))
    return Case(loss, arrays, rows | {"codes": ("n", "bits"), "params": (), "inputs": ("n", "")})


#: A function that makes the case of every public loss that takes a mask, and of every objective.
CASES: dict[str, Callable[[], Case]] = {
    **{
        f"loss-{name}": functools.partial(loss_case, name)
        for name, value in vars(losses).items()
        if inspect.isfunction(value) and "where" in inspect.signature(value).parameters
    },
    **{
        f"method-{name}": functools.partial(objective_case, method.make)
        for name, method in METHODS.items()
    },
    **{
        f"quantizer-{name}": functools.partial(objective_case, make)
        for name, make in QUANTIZERS.items()
    },
}


def value_and_gradient(case: Case, axis_name: str | None = None) -> Callable[..., tuple]:
    """Value, and gradient in all floating arguments, as a function of the arrays.

    With an axis name the gradient of what all devices have is the sum of their shares.
    """
    function = functools.partial(case.function, axis_name=axis_name) if axis_name else case.function

    def of(arrays):
        floating = {n: a for n, a in arrays.items() if _is_floating(a)}
        value, gradient = jax.value_and_grad(lambda some: jnp.sum(function(**arrays | some)))(
            floating
        )
        if axis_name is not None:
            gradient = {
                n: g if is_split(case, n) else jax.lax.psum(g, axis_name)
                for n, g in gradient.items()
            }
        return value, gradient

    return of


def is_split(case: Case, name: str) -> bool:
    """Whether an array has one row per row of the batch."""
    return case.axes[name][:1] == ("n",)


def _is_floating(tree) -> bool:
    return all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(tree))


@functools.cache
def of_one_device(name: str) -> tuple:
    """Value and gradient of a case on one device."""
    case = CASES[name]()
    return jax.device_get(jax.jit(value_and_gradient(case))(case.arrays))
