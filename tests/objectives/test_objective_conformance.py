"""Properties of every objective on one device; see `objective_cases` for the objectives."""

import functools
import inspect

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objective_cases import (
    BITS,
    CASES,
    CLASSES,
    KINDS,
    METHOD_CASES,
    QUANTIZER_CASES,
    ROWS,
    SHARED_TERMS,
    SURROGATE_GRADIENT,
    batch_of,
    codes_of,
    labels_of,
    objective_of,
    setup_of,
    wrong_options,
)

from jaxhash.objectives import METHODS, Bank, Context, RecentBank

#: The others are slow tests.
QUICK = (*KINDS, "quantizer hswd")


def each_of(names):
    """A test for each objective that is named, most of them slow."""
    slow = pytest.mark.slow
    return pytest.mark.parametrize(
        "name", [name if name in QUICK else pytest.param(name, marks=slow) for name in names]
    )


each = each_of(CASES)
each_method = each_of(METHOD_CASES)
each_by_default = each_of(METHOD_CASES | QUANTIZER_CASES)

VALID = 5


def context(new_epoch=True):
    key = jax.random.key(3)
    return Context(key, jnp.float32(0.3), jnp.bool_(new_epoch), None, None, None)


def value_and_grad(name, variables, codes, batch):
    """The loss, and the gradients of the parameters and the codes."""

    def cost(params, codes):
        replaced = variables._replace(params=params)
        found = objective_of(name).loss(replaced, codes, batch, context())
        return found.value, found

    grad = jax.grad(cost, argnums=(0, 1), has_aux=True)
    gradients, found = grad(variables.params, codes)
    return found, *gradients


@functools.cache
def compiled(name):
    return jax.jit(functools.partial(value_and_grad, name))


def value(name, variables, codes, batch):
    return objective_of(name).loss(variables, codes, batch, context()).value


@functools.cache
def initial(name, multi_label=None):
    setup = setup_of(name, multi_label)
    return jax.jit(functools.partial(objective_of(name).init, setup=setup))(jax.random.key(0))


@functools.cache
def start(name):
    """Variables whose state has seen one batch."""
    variables = initial(name)
    seen = compiled(name)(variables, codes_of(name, seed=1), batch_of(CASES[name], seed=1))[0]
    return variables._replace(state=seen.state)


def run(name, codes=None, batch=None, variables=None):
    codes = codes_of(name) if codes is None else codes
    batch = batch_of(CASES[name]) if batch is None else batch
    return compiled(name)(start(name) if variables is None else variables, codes, batch)


def map_views(function, codes):
    return jax.tree.map(function, codes)


def keeps_codes(name):
    """Returns whether the codes of the batch enter a bank, and the loss from there as constants."""
    kinds = Bank | RecentBank
    nodes = jax.tree.leaves(start(name).state, is_leaf=lambda node: isinstance(node, kinds))
    return any(isinstance(node, kinds) for node in nodes)


def all_finite(*trees):
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(trees)]
    return all(np.isfinite(leaf).all() for leaf in leaves if leaf.dtype.kind == "f")


def assert_close(one, other, rtol=1e-5, atol=1e-6):
    def compare(path, a, b):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol, err_msg=jax.tree_util.keystr(path))

    jax.tree.map_with_path(compare, one, other)


# Value and gradient


RANDOM = np.random.default_rng(0).normal(size=(ROWS, BITS))

#: Codes, and how many of the rows are valid.
SITUATIONS = {
    "zero": (np.zeros((ROWS, BITS)), ROWS),
    "fifty": (50.0 * np.sign(RANDOM), ROWS),
    "equal rows of fifty": (np.full((ROWS, BITS), -50.0), ROWS),
    "one class": (RANDOM, ROWS),
    "no positive pair": (RANDOM, CLASSES),
    "one row": (RANDOM, 1),
    "no row": (RANDOM, 0),
    "no label": (RANDOM, ROWS),
    "padding of NaN": (np.where(np.arange(ROWS)[:, None] < VALID, RANDOM, np.nan), VALID),
}


@each
def test_value_and_gradient_are_finite(name):
    ids = {"one class": np.ones(ROWS), "no label": np.full(ROWS, -1)}
    for situation, (codes, valid) in SITUATIONS.items():
        labels = ids.get(situation, np.arange(ROWS) % CLASSES).astype(np.int32)
        if CASES[name].multi_label:
            labels = (labels[:, None] == np.arange(CLASSES)).astype(np.uint8)
        batch = batch_of(CASES[name], valid=valid, labels=labels)
        views = map_views(lambda _, codes=codes: jnp.asarray(codes, jnp.float32), codes_of(name))
        found, in_params, in_codes = run(name, views, batch)
        assert all_finite(found, in_params, in_codes), situation
        for view in jax.tree.leaves(in_codes):
            assert not np.any(view[valid:]), f"{situation}: padding has a gradient"


@each
def test_gradients_are_those_of_finite_differences(name):
    """Along a random direction of the codes and of the parameters."""
    parts = {"params"}
    if not keeps_codes(name) and name.split(",")[0].split(" as ")[0] not in SURROGATE_GRADIENT:
        parts.add("codes")
    point = {"params": start(name).params, "codes": codes_of(name)}
    keys = iter(jax.random.split(jax.random.key(5), 99))
    direction = jax.tree.map(lambda leaf: jax.random.normal(next(keys), leaf.shape), point)

    def value_at(step, part):
        moved = point | {
            part: jax.tree.map(lambda x, d: x + step * d, point[part], direction[part])
        }
        variables = start(name)._replace(params=moved["params"])
        return float(run(name, moved["codes"], variables=variables)[0].value)

    gradient = dict(zip(("params", "codes"), run(name)[1:], strict=True))
    for part in parts:
        slope = (value_at(1e-3, part) - value_at(-1e-3, part)) / 2e-3
        products = jax.tree.map(jnp.vdot, gradient[part], direction[part])
        found = float(sum(jax.tree.leaves(products)))
        np.testing.assert_allclose(found, slope, rtol=3e-2, atol=1e-3, err_msg=part)


@each
def test_everything_is_trained(name):
    _, in_params, in_codes = run(name)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves((in_params, in_codes)))


@each
def test_masked_batch_is_its_valid_rows(name):
    """Padding may be NaN."""
    codes, batch = codes_of(name), batch_of(CASES[name], valid=VALID)
    broken = map_views(lambda view: view.at[VALID:].set(jnp.nan), codes)
    masked, in_params, in_codes = run(name, broken, batch)
    few_codes, few = jax.tree.map(lambda rows: rows[:VALID], (codes, batch))
    alone, few_params, few_slopes = run(name, few_codes, few)
    assert_close(masked, alone)
    assert_close(in_params, few_params)
    assert_close(map_views(lambda view: view[:VALID], in_codes), few_slopes)


@pytest.mark.parametrize("name", QUICK)
def test_eager_is_compiled(name):
    """The value, its terms and the state.

    XLA compiles each operation of an eager loss by itself, which takes seconds. The formulas of most
    others are tried eagerly in the tests of their family.
    """
    eager = objective_of(name).loss(start(name), codes_of(name), batch_of(CASES[name]), context())
    assert_close(eager, run(name)[0])


@each
def test_order_of_the_batch_does_not_matter(name):
    order = np.random.default_rng(1).permutation(ROWS)
    found, in_params, in_codes = run(name)
    codes, batch = jax.tree.map(lambda rows: rows[order], (codes_of(name), batch_of(CASES[name])))
    again, again_params, again_codes = run(name, codes, batch)
    if isinstance(found.state, RecentBank):  # its rows are in the order of the batch
        again = again._replace(state=found.state)
    assert_close(again, found, rtol=1e-4)
    assert_close(again_params, in_params, rtol=1e-4)
    assert_close(again_codes, map_views(lambda view: view[order], in_codes), rtol=1e-4)


@each_by_default
def test_bfloat16_within_its_precision(name):
    """Codes are those that bfloat16 holds: only what is computed after them may differ."""
    exact, _, in_codes = run(name)
    rounded, _, slopes = run(
        name, map_views(lambda view: view.astype(jnp.bfloat16), codes_of(name))
    )
    np.testing.assert_allclose(rounded.value, exact.value, rtol=1e-5, atol=1e-6)
    for slope, expected in zip(*map(jax.tree.leaves, (slopes, in_codes)), strict=True):
        assert slope.dtype == jnp.bfloat16
        scale = 2**-7 * float(jnp.abs(expected).max())
        np.testing.assert_allclose(slope.astype(jnp.float32), expected, rtol=2**-7, atol=scale)


@each_by_default
def test_vmap_is_one_after_the_other(name):
    """As where a sweep trains several members at once."""
    several = [codes_of(name, seed=seed) for seed in (0, 2)]
    stacked = jax.tree.map(lambda *views: jnp.stack(views), *several)
    batch, variables = batch_of(CASES[name]), start(name)
    found = jax.jit(jax.vmap(lambda codes: value(name, variables, codes, batch)))(stacked)
    expected = [run(name, codes)[0].value for codes in several]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


# Labels


@each_method
def test_class_ids_are_multi_hot_rows_of_one_label(name):
    if CASES[name].ignores_labels:
        several = np.full(ROWS, -1, np.int32), np.zeros(ROWS, np.int32)
        values = [
            run(name, batch=batch_of(CASES[name], labels=labels))[0].value for labels in several
        ]
        assert values[0] == values[1] == run(name)[0].value
        return
    ids = labels_of(ROWS, False)
    rows = np.eye(CLASSES, dtype=np.uint8)[ids]
    of_ids = run(name, batch=batch_of(CASES[name], labels=ids), variables=initial(name))[0].value
    of_rows = jax.jit(functools.partial(value, name))(
        initial(name, True), codes_of(name), batch_of(CASES[name], labels=rows)
    )
    np.testing.assert_allclose(of_ids, of_rows, rtol=1e-5)


# State and terms


@each
def test_init_is_determined_by_key_and_setup(name):
    first, again = (objective_of(name).init(jax.random.key(0), setup_of(name)) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, again)


@each
def test_state_keeps_its_form_and_survives_a_file(name):
    variables = start(name)
    found, *_ = run(name)
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (variables.state, found.state))
    assert shapes[0] == shapes[1]
    restored = flax.serialization.from_bytes(variables, flax.serialization.to_bytes(variables))
    jax.tree.map(np.testing.assert_array_equal, run(name, variables=restored), run(name))


@each_by_default
def test_terms_bear_the_name_of_their_objective(name):
    terms, own = run(name)[0].terms, CASES[name].make.__name__
    assert any(term.startswith(own) for term in terms)
    assert all(term.startswith((own, SHARED_TERMS.get(name, own))) for term in terms)


@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if m.published_penalty is not None])
def test_a_penalty_of_zero_is_left_out_and_another_may_be_traced(name):
    """With its term and its state; the method's own terms stay."""
    case, codes, batch = CASES[name], codes_of(name), batch_of(CASES[name])

    def loss_of(penalty):
        objective = case.make(**case.options | {"penalty": penalty})
        variables = objective.init(jax.random.key(0), setup_of(name))
        return variables, objective.loss(variables, codes, batch, context())

    without, with_it = jax.eval_shape(lambda: loss_of(0.0)), jax.eval_shape(loss_of, 1.5)
    penalty = f"{case.make.__name__}_penalty"
    assert without[1].terms.keys() == with_it[1].terms.keys() - {penalty}
    assert penalty in with_it[1].terms
    sizes = [sum(leaf.size for leaf in jax.tree.leaves(v)) for v, _ in (without, with_it)]
    assert sizes[0] <= sizes[1]


# Options


@pytest.mark.parametrize("make", [case.make for case in (METHOD_CASES | QUANTIZER_CASES).values()])
def test_options_are_simple_values_with_defaults(make):
    """So that the command line can set them."""
    for option in inspect.signature(make).parameters.values():
        assert option.kind is option.KEYWORD_ONLY
        assert option.default is None or isinstance(option.default, (int, float, bool, str, tuple))


@pytest.mark.parametrize(("make", "option", "wrong"), wrong_options())
def test_a_wrong_option_is_refused_by_name(unchecked, make, option, wrong):
    with pytest.raises(ValueError, match=rf"\b{option}\b") as raised:
        make(**{option: wrong})
    assert "\n" not in str(raised.value)
