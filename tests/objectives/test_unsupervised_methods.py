"""Methods without labels against loops over the pairs of a batch, and over devices."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxhash import losses
from jaxhash.models import CNN, Encoder
from jaxhash.objectives import (
    Batch,
    Context,
    Setup,
    bihalf,
    cibhash,
    combine,
    dcw_autoencoder,
    greedyhash_u,
    semantic_structure_hashing,
    weighted,
)
from jaxhash.objectives._base import from_loss
from jaxhash.objectives._unsupervised import (
    BIN,
    BINS,
    _sample_bits,
    bihalf_codes,
    histogram,
    thresholds,
)
from jaxhash.training.state import create_state
from jaxhash.training.step import train_step

BITS, ROWS, ENTRIES, ITEMS = 4, 16, 5, 20
#: Rows that are no padding. Of eight devices one has nothing else.
KEPT = np.isin(np.arange(ROWS), [2, 3, 5, 8, 12, 15], invert=True)
METHODS = {
    "greedyhash_u": greedyhash_u(),
    "bihalf": bihalf(),
    "cibhash": cibhash(),
    "semantic_structure_hashing": semantic_structure_hashing(alpha=0.5, beta=1.0),
    "dcw_autoencoder": dcw_autoencoder(narrow=3, wide=6),
}
each = pytest.mark.parametrize("name", METHODS)


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def context(axis_name=None, seed=0, encode=None):
    key = jax.random.key(seed)
    return Context(key, jnp.float32(0.0), jnp.bool_(False), None, encode, axis_name)


def batch(inputs=None, labels=None, mask=KEPT):
    """Padding is NaN."""
    if inputs is None:
        inputs = np.where(mask[:, None], normal(ROWS, ENTRIES, seed=1) + 0.3, np.nan)
    labels = np.arange(len(inputs), dtype=np.int32) % 3 if labels is None else labels
    index = np.random.default_rng(2).permutation(ITEMS)[: len(inputs)].astype(np.int32)
    return jax.tree.map(jnp.asarray, Batch(inputs, labels, index, mask[: len(inputs)]))


def codes_of(method, seed=0):
    """The codes of each view, NaN for padding."""
    views = [2 * normal(ROWS, BITS, seed=seed + i) + 0.3 for i in range(method.views)]
    views = tuple(jnp.where(KEPT[:, None], view, jnp.nan) for view in views)
    return views if method.views > 1 else views[0]


def setup_of(inputs):
    matrix = normal(int(np.prod(inputs.shape[1:])), 3, seed=5)  # the model of images
    return Setup(BITS, ITEMS, 3, False, inputs, {"w": matrix})


def begin(method, inputs=None):
    inputs = jnp.zeros((1, ENTRIES)) if inputs is None else inputs
    return method.init(jax.random.key(1), setup_of(inputs))


@cache
def jitted(method):
    """The gradient in codes and parameters, and the loss; compiled once for a method."""

    def loss(codes, variables, rows, seed):
        result = method.loss(variables, codes, rows, context(seed=seed))
        return result.value, result

    return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True, allow_int=True))


def loss_of(method, codes=None, rows=None, variables=None, seed=0):
    codes = codes_of(method) if codes is None else codes
    rows = batch() if rows is None else rows
    variables = begin(method) if variables is None else variables
    return jitted(method)(codes, variables, rows, seed)[1]


def slope_of(method, codes):
    return jitted(method)(codes, begin(method), batch(), 0)[0][0]


def cosine(x, y):
    return x @ y / np.sqrt((x @ x) * (y @ y))


def cosine_cost(b, x):
    """The mean squared difference of cosines over pairs of different rows."""
    pairs = [(i, j) for i in range(len(b)) for j in range(len(b)) if i != j]
    return np.mean([(cosine(b[i], b[j]) - cosine(x[i], x[j])) ** 2 for i, j in pairs])


def halves(u):
    """In each column +1 for the upper half, by a sort; of an odd number the middle is -1."""
    b = np.full(u.shape, -1.0)
    for j in range(u.shape[1]):
        b[np.argsort(u[:, j])[len(u) - len(u) // 2 :], j] = 1.0
    return b


# Signs whose cosines are those of features


@pytest.mark.parametrize("name", ["greedyhash_u", "bihalf"])
def test_cosines_are_compared_with_those_of_features(name):
    method, rows = METHODS[name], batch()
    codes, x = codes_of(METHODS[name]), np.asarray(rows.inputs, float)[KEPT]
    u = np.asarray(codes)[KEPT]
    if name == "bihalf":
        b, weight, penalty = halves(u), 3.0, np.mean((u - halves(u)) ** 2)
        assert (b != np.where(u >= 0, 1, -1)).any()
    else:
        b, weight, penalty = np.where(u >= 0, 1.0, -1.0), 0.1, np.mean(abs(abs(u) - 1) ** 3)
    result = loss_of(method, codes, rows)
    np.testing.assert_allclose(result.terms[name], cosine_cost(b, x), rtol=1e-5)
    np.testing.assert_allclose(result.terms[name + "_penalty"], penalty, rtol=1e-5)
    np.testing.assert_allclose(result.value, cosine_cost(b, x) + weight * penalty, rtol=1e-5)


def test_greedyhash_u_by_hand():
    """Codes at cosine 0 and features at cosine 0.6."""
    rows = batch(np.array([[1.0, 0.0], [3.0, 4.0]], np.float32))
    u = jnp.array([[0.1, -3.0, 2.0, -0.5], [0.2, -7.0, -0.3, 0.0]])
    method = greedyhash_u(penalty=0.0)
    value = loss_of(method, u, rows, begin(method, rows.inputs)).value
    np.testing.assert_allclose(value, 0.36, rtol=1e-6)


@pytest.mark.parametrize("name", ["greedyhash_u", "bihalf"])
def test_the_gradient_passes_the_sign(name):
    """It is that of the loss in the signs, as if they were free, and that of the penalty.

    Bi-half's penalty adds gamma (u - b) over the number of entries, with the paper's gamma of 6.
    """
    codes, x = codes_of(METHODS[name]), batch().inputs[KEPT]
    u = codes[KEPT]
    if name == "bihalf":
        b = halves(np.asarray(u))
        of_penalty = 6 * (u - b) / u.size
    else:
        b = np.where(u >= 0, 1.0, -1.0)
        of_penalty = 0.1 * jax.grad(losses.cubic_quantization)(u)

    def matching(b):
        unit = [v / jnp.linalg.norm(v, axis=1, keepdims=True) for v in (b, x)]
        gap = unit[0] @ unit[0].T - unit[1] @ unit[1].T  # 0 on the diagonal
        return jnp.sum(gap**2) / (len(u) * (len(u) - 1))

    expected = jax.grad(matching)(jnp.asarray(b, jnp.float32)) + of_penalty
    np.testing.assert_allclose(slope_of(METHODS[name], codes)[KEPT], expected, rtol=1e-4, atol=1e-6)


def test_bihalf_codes_are_the_upper_and_the_lower_half():
    """Even, odd and single batches, with any values in padding."""
    u, cut = normal(ROWS, BITS), jax.jit(partial(bihalf_codes, axis_name=None))
    for valid in (16, 11, 6, 1):
        mask = np.random.default_rng(3).permutation(ROWS) < valid
        padded = np.where(mask[:, None], u, 1e9).astype(np.float32)
        b = np.asarray(cut(jnp.asarray(padded), jnp.asarray(mask)))
        np.testing.assert_array_equal(b[mask], halves(u[mask]))
        np.testing.assert_array_equal(b[~mask], -1.0)


# Images: features of the model as it was


@pytest.mark.parametrize("name", ["greedyhash_u", "semantic_structure_hashing"])
def test_features_of_images_are_those_of_the_initial_model(name):
    """The features, given as vectors, make the same loss."""
    images, method = normal(ROWS, 2, 3, 1, seed=4), METHODS[name]

    def encode(variables, inputs, *, return_features=False):
        assert return_features
        return inputs.reshape(len(inputs), -1) @ variables["w"]

    begun = begin(method, images)
    matrix = normal(6, 3, seed=5)
    found = method.loss(begun, codes_of(method), batch(images), context(encode=encode))
    features = batch(images.reshape(ROWS, -1) @ matrix)
    expected = loss_of(method, None, features, begin(method, features.inputs))
    np.testing.assert_allclose(found.value, expected.value, rtol=1e-5)
    np.testing.assert_array_equal(jax.tree.leaves(found.state)[0], matrix)


def test_no_gradient_reaches_the_features():
    method, rows = greedyhash_u(penalty=0.0), batch()

    def cost(inputs):
        moved = rows._replace(inputs=inputs)
        return method.loss(begin(method), codes_of(method), moved, context()).value

    np.testing.assert_array_equal(jax.grad(cost)(rows.inputs), 0.0)


def test_vectors_need_no_copy_of_the_model():
    assert jax.tree.leaves(begin(METHODS["greedyhash_u"]).state) == []


@pytest.mark.parametrize("name", ["greedyhash_u", "semantic_structure_hashing"])
def test_the_initial_model_is_kept_while_the_model_is_trained(name):
    """In a step that is given its state to use up, as the training's is."""
    images = np.random.default_rng(0).integers(0, 256, (ROWS, 4, 4, 1)).astype(np.uint8)
    model = Encoder(partial(CNN, widths=(4,)), BITS)
    parts = dict(model=model, objective=METHODS[name], optimizer=optax.sgd(0.5))
    state = create_state(jax.random.key(0), images[:1], items=ITEMS, classes=3, **parts)
    params, memory = jax.tree.map(np.array, (state.params["model"], state.objective_state))
    step = jax.jit(
        partial(train_step, steps_per_epoch=2, total_steps=4, **parts), donate_argnums=(0,)
    )
    state, _ = step(state, batch(images))

    def of_encoder(memory):
        return [leaf for leaf in jax.tree.leaves(memory) if leaf.shape != (BINS,)]

    assert len(of_encoder(memory)) >= len(jax.tree.leaves(params)) > 0
    jax.tree.map(
        np.testing.assert_array_equal, of_encoder(state.objective_state), of_encoder(memory)
    )
    moved = jax.tree.map(lambda x, y: np.any(x != y), state.params["model"], params)
    assert all(jax.tree.leaves(moved))


# Pseudo-similarities


def test_histogram_counts_each_valid_pair():
    distances = np.random.default_rng(0).uniform(0, 2, (9, 7)).astype(np.float32)
    distances[0, :2] = -1e-7, 2.0  # rounding may leave the range
    where = np.random.default_rng(1).random((9, 7)) < 0.6
    where[0, :2] = True
    counts = histogram(jnp.where(where, distances, np.nan), jnp.asarray(where), None)
    edges = np.linspace(0, 2, BINS + 1)
    expected, _ = np.histogram(np.clip(distances[where], 0, 2), edges)
    np.testing.assert_array_equal(counts, expected)


def test_thresholds_by_hand():
    """Mode 1.005; below it 3 at 0.1 and half of 10; above it 4 at 0.2 and half of 10."""
    counts = np.zeros(BINS, np.float32)
    counts[[90, 100, 120]] = 3, 10, 4
    near, far = thresholds(jnp.asarray(counts), 2.0, 1.0)
    np.testing.assert_allclose(near, 1.005 - 2 * np.sqrt(3 * 0.1**2 / 8), rtol=1e-6)
    np.testing.assert_allclose(far, 1.005 + np.sqrt(4 * 0.2**2 / 9), rtol=1e-6)


def test_thresholds_are_those_of_two_half_gaussians():
    """The left one wider than the right one: found within two bins from a large sample."""
    rng = np.random.default_rng(0)
    left, right = (abs(rng.normal(size=200_000)) * sigma for sigma in (0.15, 0.05))
    # Densities meet at the mode where the halves hold shares like their deviations.
    sample = np.concatenate([0.8 - left, 0.8 + right[: 200_000 // 3]])
    counts, _ = np.histogram(sample, np.linspace(0, 2, BINS + 1))
    near, far = thresholds(jnp.asarray(counts, jnp.float32), 2.0, 2.0)
    assert abs(near - (0.8 - 0.3)) < 3 * BIN and abs(far - (0.8 + 0.1)) < 3 * BIN


def naive_structure(h, x, counts, alpha, beta):
    """Counts of distances, thresholds and loss by loops."""
    n, counts = len(h), counts.copy()
    pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
    distance = {(i, j): 1 - cosine(x[i], x[j]) for i, j in pairs}
    for d in distance.values():
        counts[int(d / BIN)] += 1
    peak = int(np.argmax(counts))
    sides = []
    for side in (range(peak), range(peak + 1, BINS)):
        number = sum(counts[k] for k in side) + counts[peak] / 2
        sides.append(np.sqrt(sum(counts[k] * (BIN * (k - peak)) ** 2 for k in side) / number))
    mode, costs = BIN * (peak + 0.5), []
    for (i, j), d in distance.items():
        s = int(d < mode - alpha * sides[0]) - int(d > mode + beta * sides[1])
        if s:
            costs.append((h[i] @ h[j] / BITS - s) ** 2)
    return counts, np.mean(costs), len(costs) / len(pairs)


def test_semantic_structure_hashing_over_two_steps():
    """The counts go on, so the second step judges by the pairs of both."""
    method = METHODS["semantic_structure_hashing"]
    variables, counts, number = begin(method), np.zeros(BINS), KEPT.sum()
    for seed in range(2):
        codes = codes_of(method, seed=seed)
        inputs = np.where(KEPT[:, None], normal(ROWS, ENTRIES, seed=seed + 7), np.nan)
        result = loss_of(method, codes, batch(inputs), variables)
        h, x = np.tanh(np.asarray(codes)[KEPT]), inputs[KEPT].astype(float)
        counts, expected, decided = naive_structure(h, x, counts, 0.5, 1.0)
        assert 0 < decided < 1
        np.testing.assert_array_equal(result.state[1], counts)
        np.testing.assert_allclose(result.value, expected, rtol=1e-5)
        variables = variables._replace(state=result.state)
    assert counts.sum() == 2 * number * (number - 1)


# Two views


def test_cibhash_without_noise_is_the_formula():
    method = cibhash(stochastic=False, beta=0.5)
    result = loss_of(method)
    views = [view[KEPT] for view in codes_of(method)]
    signs = [jnp.where(view >= 0, 1.0, -1.0) for view in views]
    contrast, divergence = losses.nt_xent(*signs, temperature=0.3), losses.view_divergence(*views)
    np.testing.assert_allclose(result.terms["cibhash"], contrast, rtol=1e-5)
    np.testing.assert_allclose(result.terms["cibhash_divergence"], divergence, rtol=1e-5)
    np.testing.assert_allclose(result.value, contrast + 0.5 * divergence, rtol=1e-5)


def drawn(u, key=0):
    return _sample_bits(u, jax.random.key(key), jnp.arange(len(u)), stochastic=True)


def test_bits_are_drawn_with_probability_sigmoid():
    u = jnp.broadcast_to(jnp.array([[-2.0, 0.0, 0.5, 50.0]]), (20_000, 4))
    mean = np.asarray(drawn(u)).mean(axis=0)
    assert set(np.unique(drawn(u))) == {-1.0, 1.0}
    np.testing.assert_allclose(mean, np.tanh(u[0] / 2), atol=0.03)
    assert (drawn(u) != drawn(u, key=1)).any()
    first, second = np.asarray(drawn(u))[:, :2].T
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.03


def test_the_gradient_of_a_draw_is_that_of_its_mean():
    u = jnp.asarray(normal(3, BITS))
    slope = jax.grad(lambda u: drawn(u).sum())(u)
    np.testing.assert_allclose(slope, (1 - np.tanh(u / 2) ** 2) / 2, rtol=1e-5)


def test_draws_follow_the_row_not_its_place():
    method, order = METHODS["cibhash"], np.random.default_rng(0).permutation(ROWS)
    codes, rows = jax.tree.map(lambda x: x[order], (codes_of(method), batch()))
    value = loss_of(method).value
    np.testing.assert_allclose(loss_of(method, codes, rows).value, value, rtol=1e-6)
    assert loss_of(method, seed=1).value != value


def test_views_are_drawn_apart():
    """Half of the bits of equal views differ at even odds; equal bits would cost 0."""
    u, method = jnp.zeros((ROWS, 64)), cibhash(temperature=1e-3)
    assert loss_of(method, (u, u)).value > 10


# Reconstruction


def decoded(params, h):
    for number, layer in enumerate(params):
        if number:
            h = np.where(h > 0, h, 0.2 * h)
        h = h @ np.asarray(layer["kernel"], float) + np.asarray(layer["bias"], float)
    return h


@pytest.mark.parametrize("kind", ["vectors", "images"])
def test_dcw_autoencoder_is_the_formula(kind):
    """The penalty is HSWD of tanh(u); bytes are mapped to -1..1."""
    method, rows = METHODS["dcw_autoencoder"], batch()
    target = np.asarray(rows.inputs, float)[KEPT]
    if kind == "images":
        method = dcw_autoencoder(narrow=3, wide=6, penalty=0.0)
        images = np.random.default_rng(0).integers(0, 256, (ROWS, 2, 3, 1)).astype(np.uint8)
        rows, target = batch(images), 2 * (images[KEPT].reshape(-1, 6) / 255) - 1
    begun = begin(method, rows.inputs)
    begun = begun._replace(params=jax.tree.map(lambda x: x + 0.1, begun.params))
    codes = codes_of(method)
    result = loss_of(method, codes, rows, begun)
    decoder = begun.params if kind == "images" else begun.params[0]
    h = np.tanh(np.asarray(codes, float)[KEPT])
    error = np.mean((decoded(decoder, h) - target) ** 2)
    np.testing.assert_allclose(result.terms["dcw_autoencoder"], error, rtol=1e-4)
    penalty = 0.0
    if kind == "vectors":
        key = jax.random.split(context().key, 2)[1]
        padded = jnp.where(KEPT[:, None], jnp.tanh(codes), 0.0)
        penalty = losses.hswd(padded, key=key, where=jnp.asarray(KEPT), method="sort")
        np.testing.assert_allclose(result.terms["dcw_autoencoder_penalty"], penalty, rtol=1e-5)
    np.testing.assert_allclose(result.value, error + 0.1 * penalty, rtol=1e-4)


def test_the_decoder_mirrors_the_published_encoder():
    decoder = jax.eval_shape(lambda: begin(dcw_autoencoder(penalty=0.0))).params
    widths = [BITS, 100, 500, 500, ENTRIES]
    shapes = [layer["kernel"].shape for layer in decoder]
    assert shapes == list(zip(widths[:-1], widths[1:], strict=True))


def test_reconstruction_is_learned():
    """The inputs are a function of two bits, by the decoder alone."""
    u = 5 * np.array([[1, 1, 1, 1], [1, 1, -1, -1], [-1, -1, 1, 1], [-1, -1, -1, -1]], np.float32)
    rows = batch(normal(4, ENTRIES), mask=np.ones(4, bool))
    method, optimizer = dcw_autoencoder(narrow=10, wide=20, penalty=0.0), optax.adam(1e-2)
    begun = begin(method)
    params, memory = begun.params, optimizer.init(begun.params)

    @jax.jit
    def step(params, memory):
        def cost(params):
            return method.loss(begun._replace(params=params), jnp.asarray(u), rows, context()).value

        value, slope = jax.value_and_grad(cost)(params)
        updates, memory = optimizer.update(slope, memory)
        return optax.apply_updates(params, updates), memory, value

    for _ in range(300):
        params, memory, value = step(params, memory)
    assert value < 1e-3


# All of them


def test_multi_hot_labels_are_ignored():
    method = METHODS["semantic_structure_hashing"]
    rows = batch(labels=np.eye(ROWS, 3, dtype=np.uint8))
    assert loss_of(method, rows=rows).value == loss_of(method).value


def test_a_quantizer_beside_two_views_is_the_mean_over_them():
    both = combine(METHODS["cibhash"], weighted(0.1, from_loss("l2", losses.l2_quantization)))
    assert both.views == 2
    expected = np.mean([losses.l2_quantization(view[KEPT]) for view in codes_of(both)])
    np.testing.assert_allclose(loss_of(both).terms["l2"], expected, rtol=1e-5)
