"""Deep hash distillation against NumPy, over two views of a batch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxhash.objectives import Batch, Context, Setup, combine, dhd, hswd, weighted

BITS, CLASSES, ROWS = 4, 3, 8
IDS = np.array([0, 1, 2, 0, 1, 2, -1, 0], np.int32)  # one image has no label
HOT = np.array(
    [[1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 0], [0, 1, 1], [1, 0, 0], [0, 0, 1], [1, 1, 0]],
    np.uint8,
)


def views():
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(1.5 * rng.normal(size=(ROWS, BITS)), jnp.float32) for _ in range(2))


def batch(labels=IDS, mask=None):
    mask = np.ones(ROWS, bool) if mask is None else mask
    return Batch(None, *map(jnp.asarray, (labels, np.arange(ROWS, dtype=np.int32), mask)))


def context(axis_name=None):
    return Context(jax.random.key(0), jnp.float32(0), jnp.bool_(False), None, None, axis_name)


def begin(objective):
    setup = Setup(BITS, 20, CLASSES, False, None, None)
    return objective.init(jax.random.key(0), setup)


def run(objective, codes, rows, axis_name=None):
    """The loss, and the gradients of the proxies and of the codes of both views."""
    start = begin(objective)

    @partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
    def loss(params, codes, rows):
        result = objective.loss(start._replace(params=params), codes, rows, context(axis_name))
        return result.value, result.terms

    (value, terms), slopes = jax.jit(loss)(start.params, codes, rows)
    return value, terms, slopes


def cosine(u, v):
    return sum(u * v) / np.sqrt(sum(u**2) * sum(v**2))


@pytest.mark.parametrize("labels", [IDS, HOT], ids=["ids", "hot"])
def test_is_the_formula(labels):
    objective = dhd(distillation=0.3, temperature=0.5, sigma=0.7, penalty=0.2)
    value, terms, _ = run(objective, views(), batch(labels))
    teacher, student = (np.tanh(np.asarray(view, float)) for view in views())
    proxies = np.asarray(begin(objective).params[0], float)
    classified = []
    for h, label in zip(teacher, labels, strict=True):
        y = np.asarray(label if labels.ndim == 2 else [label == c for c in range(CLASSES)], float)
        if y.any():
            a = np.array([cosine(h, p) for p in proxies]) / 0.5
            classified.append(np.log(sum(np.exp(a))) - sum(y * a) / sum(y))
    near, far = (np.exp(-((np.abs(teacher) - sign) ** 2) / 2 / 0.49) for sign in (1, -1))
    expected = {
        "dhd_proxy": np.mean(classified),
        "dhd_distillation": np.mean(
            [1 - cosine(s, t) for s, t in zip(student, teacher, strict=True)]
        ),
        "dhd_penalty": np.mean(-np.log(near) - np.log(1 - far)),
    }
    assert set(terms) == set(expected)
    for name, term in expected.items():
        np.testing.assert_allclose(terms[name], term, rtol=1e-5, err_msg=name)
    whole = expected["dhd_proxy"] + 0.3 * expected["dhd_distillation"]
    np.testing.assert_allclose(value, whole + 0.2 * expected["dhd_penalty"], rtol=1e-5)


def test_only_the_student_follows():
    """The teacher learns of the labels and the penalty alone; the student of the teacher alone."""
    without, with_it = (run(dhd(distillation=weight), views(), batch())[2] for weight in (0.0, 0.1))
    np.testing.assert_array_equal(with_it[1][0], without[1][0])
    assert not without[1][1].any() and np.abs(with_it[1][1]).min() > 0
    np.testing.assert_array_equal(with_it[0][0], without[0][0])
    assert with_it[0][0].shape == (CLASSES, BITS) and np.abs(with_it[0][0]).min() > 0


def test_a_student_before_its_teacher_costs_nothing():
    teacher, _ = views()
    _, terms, _ = run(dhd(), (teacher, teacher), batch())
    np.testing.assert_allclose(terms["dhd_distillation"], 0.0, atol=1e-6)
    _, terms, _ = run(dhd(), (teacher, -teacher), batch())
    np.testing.assert_allclose(terms["dhd_distillation"], 2.0, rtol=1e-6)


def test_it_asks_for_two_views_with_and_without_its_penalty():
    assert dhd().views == dhd(penalty=0.0).views == 2
    quantizer = weighted(0.1, hswd(target="balanced", method="sort"))
    quantized = combine(dhd(penalty=0.0), quantizer)
    assert quantized.views == 2
    _, terms, _ = run(quantized, views(), batch())
    assert set(terms) == {"dhd_proxy", "dhd_distillation", "hswd"}


@pytest.mark.parametrize("count", [1, 3])
def test_codes_of_another_number_of_views_are_refused(count):
    codes = views()[0] if count == 1 else (views()[0],) * 3
    with pytest.raises(ValueError, match="^codes must be of two views"):
        dhd().loss(begin(dhd()), codes, batch(), context())
