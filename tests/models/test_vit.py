"""Vision transformers against the Flax originals, with weight files in their format; options.

Some tests also cover ConvNeXt.
"""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from jaxhash import models
from jaxhash.models._convnext import ConvNeXt
from jaxhash.models._vit import ViT, sincos2d
from jaxhash.utils.errors import UserError

WIDTH, DEPTH, HEADS, CLASSES = 32, 2, 4, 5
IMAGES = np.random.default_rng(0).normal(size=(2, 48, 48, 3)).astype(np.float32)


def small(size=48, **options):
    preprocessing = models.Preprocessing((0.0,), (1.0,), size=size)
    return ViT(width=WIDTH, depth=DEPTH, heads=HEADS, preprocessing=preprocessing, **options)


class Original(nn.Module):
    """The forward pass of big_vision and, ``old``, of vit_jax, with the names of their files."""

    token: bool
    old: bool
    fixed: Any = None  # position embeddings, where they are no parameter
    hidden: int = 0

    @nn.compact
    def __call__(self, x):
        names = ("LayerNorm_2", "MultiHeadDotProductAttention_1", "MlpBlock_3")
        norm2, attention, mlp = (
            names if self.old else ("LayerNorm_1", "MultiHeadDotProductAttention_0", "MlpBlock_0")
        )
        x = nn.Conv(WIDTH, (16, 16), strides=(16, 16), padding="VALID", name="embedding")(x)
        x = x.reshape(len(x), -1, WIDTH)
        normal = nn.initializers.normal(1.0)
        if not self.old:
            x += self.position("pos_embedding", x) if self.fixed is None else self.fixed
        if self.token:
            token = self.param("cls", normal, (1, 1, WIDTH))
            x = jnp.concatenate([jnp.tile(token, [len(x), 1, 1]), x], axis=1)
        if self.old:
            x += self.position("Transformer/posembed_input/pos_embedding", x)
        for i in range(DEPTH):
            layer = partial("Transformer/encoderblock_{}/{}".format, i)
            y = nn.LayerNorm(name=layer("LayerNorm_0"))(x)
            x += nn.MultiHeadDotProductAttention(num_heads=HEADS, name=layer(attention))(y, y)
            y = nn.LayerNorm(name=layer(norm2))(x)
            y = nn.gelu(nn.Dense(4 * WIDTH, name=layer(f"{mlp}/Dense_0"))(y))
            x += nn.Dense(WIDTH, name=layer(f"{mlp}/Dense_1"))(y)
        x = nn.LayerNorm(name="Transformer/encoder_norm")(x)
        features = x[:, 0] if self.token else x.mean(axis=1)
        if self.hidden:
            features = nn.tanh(nn.Dense(self.hidden, name="pre_logits")(features))
        return nn.Dense(CLASSES, name="head")(features), features

    def position(self, name, x):
        return self.param(name, nn.initializers.normal(1.0), (1, *x.shape[1:]))


def scrambled(variables, seed=1):
    """Every leaf at random, biases too, and large enough that no part can hide.

    The perceptrons work where GELU's two forms differ most for their size, between -1 and -4.
    """
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        [*_, module, kind] = (entry.key for entry in path)
        scale, center = 0.5, float(kind == "scale")
        if kind == "kernel":
            scale = (30.0 if "Dense_1" in module else 1.0) / np.sqrt(leaf.size / leaf.shape[-1])
        elif "Dense_0" in module:
            center = -2.5
        return (center + scale * rng.normal(size=leaf.shape)).astype(np.float32)

    return jax.tree.map_with_path(draw, variables)


def original_file(path, original, prefix=""):
    """Writes the original's weights; returns its logits and features of `IMAGES`."""
    variables = scrambled(jax.eval_shape(original.init, jax.random.key(0), IMAGES))
    flat = traverse_util.flatten_dict(variables["params"], sep="/")
    np.savez(path, **{prefix + name: value for name, value in flat.items()})
    return original.apply(variables, IMAGES)


def assert_near(ours, theirs, bound=1e-4):
    assert np.abs(ours - theirs).max() < bound * np.abs(theirs).max()


@pytest.mark.parametrize(
    "original, prefix, options",
    [
        (Original(token=True, old=False), "", {}),
        (Original(token=False, old=False), "params/", {"pool": "mean"}),
        (Original(token=True, old=True), "", {}),
        (Original(token=False, old=True), "", {"pool": "mean"}),
        (
            Original(token=True, old=False, fixed=sincos2d(3, 3, WIDTH)),
            "params/",
            {"positions": "sincos2d"},
        ),
        (
            Original(token=False, old=False, fixed=sincos2d(3, 3, WIDTH)),
            "",
            {"pool": "mean", "positions": "sincos2d"},
        ),
    ],
)
def test_equals_the_flax_original(tmp_path, original, prefix, options):
    logits, features = original_file(tmp_path / "vit.npz", original, prefix)
    tanh = {**options, "gelu": "tanh"}
    model = small(classes=CLASSES, **tanh)
    variables = models.load_weights(tmp_path / "vit.npz", model)
    assert_near(model.apply(variables, IMAGES), logits)
    bare = small(**tanh)
    variables = models.load_weights(tmp_path / "vit.npz", bare, leave_out=[f"{prefix}head"])
    assert_near(bare.apply(variables, IMAGES), features)
    erf = small(**options).apply(variables, IMAGES)
    assert (
        np.abs(erf - features).max() > 4e-4 * np.abs(features).max()
    )  # the bound tells them apart


def test_a_hidden_layer_of_the_classifier_is_left_out(tmp_path):
    original = Original(token=False, old=False, fixed=sincos2d(3, 3, WIDTH), hidden=WIDTH)
    original_file(tmp_path / "vit.npz", original)
    bare = small(pool="mean", positions="sincos2d")
    models.load_weights(tmp_path / "vit.npz", bare, leave_out=["head", "pre_logits"])
    with pytest.raises(UserError, match="unexpected pre_logits/"):
        models.load_weights(tmp_path / "vit.npz", bare, leave_out=["head"])


def test_positions_of_another_grid_are_refused(tmp_path):
    original_file(tmp_path / "vit.npz", Original(token=True, old=False))
    with pytest.raises(UserError, match="wrongly shaped pos_embedding .* 1x10x32, not 1x17x32"):
        models.load_weights(tmp_path / "vit.npz", small(size=64, classes=CLASSES))


def test_sines_and_cosines_of_the_grid():
    """Compares with a loop over the formula, since weight files do not hold them."""
    embeddings = np.asarray(sincos2d(3, 5, 12))
    assert embeddings.shape == (1, 15, 12)
    for row in range(3):
        for column in range(5):
            for k, frequency in enumerate([1.0, 0.01, 0.0001]):
                found = embeddings[0, row * 5 + column, k::3]
                angles = column * frequency, row * frequency
                expected = [f(angle) for angle in angles for f in (np.sin, np.cos)]
                np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(ValueError, match="multiple of 4, got 6"):
        sincos2d(2, 2, 6)


def test_the_size_of_images_is_that_of_the_patches():
    key, model = jax.random.key(0), small(pool="mean")
    variables = jax.eval_shape(model.init, key, jnp.zeros((2, 32, 48, 3)))
    assert variables["params"]["stage0_0"]["positions"].shape == (1, 6, WIDTH)
    with pytest.raises(ValueError, match="must be multiples of 16, got 32 x 40"):
        jax.eval_shape(model.init, key, jnp.zeros((2, 32, 40, 3)))


@pytest.mark.parametrize("options", [{"pool": "avg"}, {"gelu": "exact"}, {"positions": "sincos"}])
def test_options_without_meaning_are_refused(options, unchecked):
    [option] = options
    with pytest.raises(ValueError, match=f"{option} must be one of"):
        list(small(**options).stages())


@pytest.mark.parametrize(
    "make", [small, partial(ConvNeXt, sizes=(1, 1), widths=(8, 16))], ids=["vit", "convnext"]
)
def test_half_precision_stays_near(make):
    """Parameters and features stay float32."""
    single, half = make(), make(dtype=jnp.bfloat16)
    shapes = jax.eval_shape(half.init, jax.random.key(0), IMAGES)
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {np.dtype(np.float32)}
    variables = scrambled(shapes)
    ours, expected = jax.jit(lambda v: (half.apply(v, IMAGES), single.apply(v, IMAGES)))(variables)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, ours.astype(jnp.bfloat16))
    assert_near(ours, expected, bound=0.05)


def test_layers_of_convnext_start_near_the_identity():
    model = ConvNeXt(sizes=(1, 1), widths=(8, 16))

    @jax.jit  # which leaves out what is not returned
    def scales(key):
        params = model.init(key, IMAGES)["params"]
        return [params[block]["layer_scale"] for block in ("stage1_0", "stage2_1")]

    for scale in scales(jax.random.key(0)):
        np.testing.assert_allclose(scale, 1e-6)


@pytest.mark.parametrize("make", [models.vit_s16, models.vit_b16, models.convnext_tiny])
def test_bytes_are_normalized_as_in_torchvision(make):
    assert make().preprocessing == models.IMAGENET
