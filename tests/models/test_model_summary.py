"""Multiply-adds against published and hand-computed numbers; rows, shapes, trained parameters."""

import dataclasses
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxhash import models
from jaxhash.models import CNN, MLP, Encoder, summary
from jaxhash.models._summary import _products

BYTES = np.zeros((3, 28, 28, 1), np.uint8)
VECTORS = np.zeros((3, 16), np.float32)


@pytest.mark.parametrize(
    "name, billions",  # of torchvision's documentation, where they are called GFLOPS
    [
        ("alexnet", 0.714),
        ("vgg11", 7.609),
        ("vgg16_bn", 15.470),
        ("resnet18", 1.814),
        ("resnet34", 3.664),
        ("resnet50", 4.089),
        ("resnet101", 7.801),
        ("mobilenet_v2", 0.301),
        ("squeezenet1_1", 0.349),
        ("vit_b16", 17.564),
        ("convnext_tiny", 4.456),
    ],
)
def test_published_figures(name, billions):
    model = getattr(models, name)(classes=1000)
    found = summary(model, model.example())
    assert round(found.macs / 1e9, 3) == billions
    variables = jax.eval_shape(model.init, jax.random.key(0), model.example())
    assert found.parameters == sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    assert found.trained == found.parameters


def convolve(x, kernel, **options):
    return lax.conv_general_dilated(
        x, kernel, padding="VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


@jax.custom_jvp
def of_own_derivative(x, y):
    return x @ y


of_own_derivative.defjvps(None, None)


@pytest.mark.parametrize(
    "function, shapes, macs",
    [
        # outputs x (entries of a kernel per output)
        (partial(convolve, window_strides=(1, 1)), [(1, 8, 8, 3), (3, 3, 3, 5)], 6 * 6 * 5 * 27),
        (partial(convolve, window_strides=(2, 3)), [(1, 8, 8, 3), (3, 2, 3, 5)], 3 * 3 * 5 * 18),
        (
            partial(convolve, window_strides=(1, 1), feature_group_count=4),
            [(1, 8, 8, 12), (3, 3, 3, 8)],
            6 * 6 * 8 * 27,
        ),
        (
            partial(convolve, window_strides=(1, 1), rhs_dilation=(2, 3)),
            [(1, 8, 8, 3), (3, 3, 3, 5)],
            4 * 2 * 5 * 27,
        ),
        (jnp.matmul, [(4, 6), (6, 5)], 4 * 6 * 5),
        (partial(jnp.einsum, "bqhd,bkhd->bhqk"), [(2, 5, 3, 7), (2, 4, 3, 7)], 2 * 3 * 5 * 4 * 7),
        (partial(jnp.tensordot, axes=2), [(4, 3, 2), (3, 2, 5)], 4 * 3 * 2 * 5),
        (jax.jit(jnp.matmul), [(4, 6), (6, 5)], 120),
        (jax.checkpoint(jnp.matmul), [(4, 6), (6, 5)], 120),
        (of_own_derivative, [(4, 6), (6, 5)], 120),
        (lambda x, w: lax.scan(lambda c, _: (c @ w, c), x, length=3), [(4, 6), (6, 6)], 3 * 144),
        (
            lambda x, w: lax.cond(x.sum() > 0, jnp.matmul, lambda x, w: x, x, w),
            [(2, 3), (3, 3)],
            18,
        ),
        (lambda x, w: nn.relu(x * w + x).sum(), [(4, 6), (4, 6)], 0),
    ],
)
def test_hand_worked_counts(function, shapes, macs):
    jaxpr = jax.make_jaxpr(function)(*(jnp.zeros(shape) for shape in shapes)).jaxpr
    assert sum(count for _, count in _products(jaxpr, None)) == macs


def rows(model, inputs):
    return [dataclasses.astuple(row) for row in summary(model, inputs).rows]


def test_rows_of_images():
    """Computed by hand: kernel, then scale and bias of the normalization; 28 -> 14 -> 7."""
    expected = [
        ("stage 0", (14, 14, 4), 9 * 4 + 8, 9 * 4 + 8, 14 * 14 * 36),
        ("stage 1", (7, 7, 6), 9 * 24 + 12, 9 * 24 + 12, 7 * 7 * 216),
        ("readout", (294,), 0, 0, 0),
        ("head", (16,), 295 * 16, 295 * 16, 294 * 16),
    ]
    backbone = partial(CNN, widths=(4, 6))
    assert rows(Encoder(backbone, bits=16), BYTES) == expected
    assert rows(backbone(), BYTES) == expected[:-1]
    logits = backbone(classes=16)  # its shape is that of the whole
    assert rows(logits, BYTES) == [
        *expected[:2],
        ("classifier", *expected[-1][1:]),
        ("readout", (16,), 0, 0, 0),
    ]


def test_frozen_stages_are_not_trained():
    backbone = partial(CNN, widths=(4, 6), freeze_stages=1)
    found = summary(Encoder(backbone, bits=16), BYTES)
    assert [row.trained for row in found.rows] == [0, 228, 0, 4720]
    assert [row.parameters for row in found.rows] == [44, 228, 0, 4720]
    assert (found.trained, found.parameters) == (4948, 4992)
    assert found.training_macs == 7056 + 3 * (10584 + 4704)


def test_parameters_of_no_stage_have_rows_of_their_own():
    prepare = dataclasses.replace(models.CENTRED, size=32)
    found = rows(Encoder(partial(models.vit_s16, preprocessing=prepare), bits=16), BYTES)
    assert [row[0] for row in found] == [
        "preprocessing",  # images are resized by products of matrices
        *(f"stage {i}" for i in range(13)),
        "encoder_norm",
        "readout",
        "head",
    ]
    assert found[-3] == ("encoder_norm", (384,), 768, 768, 0)
    # rows, then columns, or columns, then rows: both are 28 -> 32
    assert found[0] == ("preprocessing", None, 0, 0, 32 * 28 * 28 + 32 * 32 * 28)
    patches = (256 + 1 + 6) * 384  # a kernel and its bias, the token and five positions
    assert found[1] == ("stage 0", (5, 384), patches, patches, 4 * 256 * 384)
    # five tokens through 4 + 8 matrices, and two products of attention
    assert found[2][-1] == 5 * 12 * 384**2 + 2 * 5 * 5 * 384


@pytest.mark.parametrize("remat", [False, True])
def test_training_counts_what_the_gradient_computes(remat):
    """Compares with a trace of the gradient, which only omits that of the first layer's inputs."""
    for freeze, first in ((0, 16 * 8), (1, 8 * 4)):
        model = Encoder(partial(MLP, widths=(8, 4), freeze_stages=freeze, remat=remat), bits=3)
        variables = jax.eval_shape(model.init, jax.random.key(0), VECTORS)

        def loss(params, rest, model=model):
            outputs, _ = model.apply(
                {"params": params} | rest, VECTORS[:1], train=True, mutable=["batch_stats"]
            )
            return (outputs**2).sum()

        params = variables.pop("params")
        jaxpr = jax.make_jaxpr(jax.grad(loss))(params, variables).jaxpr
        traced = sum(count for _, count in _products(jaxpr, None))
        found = summary(model, VECTORS)
        assert found.macs == 16 * 8 + 8 * 4 + 4 * 3
        assert found.training_macs - first == traced


def test_remat_changes_no_row():
    plain, remat = (
        summary(Encoder(partial(CNN, remat=remat), bits=8), BYTES) for remat in (False, True)
    )
    assert plain.rows == remat.rows
    assert (plain.remat, remat.remat) == (False, True)


def test_one_row_or_many_bytes_or_floats():
    model = Encoder(MLP, bits=4)
    assert rows(model, BYTES) == rows(model, BYTES[:1]) == rows(model, jnp.zeros((2, 28, 28, 1)))
    assert rows(Encoder(models.linear, bits=4), VECTORS) == [
        ("readout", (16,), 0, 0, 0),
        ("head", (4,), 17 * 4, 17 * 4, 16 * 4),
    ]


class Body(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Dense(4)(nn.relu(nn.Dense(8)(x)))
        return jax.jit(jnp.matmul)(x, jnp.ones((4, 4))), "more than an array"


class Plain(nn.Module):
    """A module other than a backbone, with a product and a parameter of its own."""

    @nn.compact
    def __call__(self, x):
        x, _ = Body(name="body")(x)
        return x @ self.param("matrix", nn.initializers.ones_init(), (4, 2))


def test_modules_that_are_no_backbones():
    expected = [
        ("body", None, 17 * 8 + 9 * 4, 17 * 8 + 9 * 4, 16 * 8 + 8 * 4 + 4 * 4),
        ("readout", (2,), 8, 8, 8),
    ]
    assert rows(Plain(), VECTORS) == expected
    with nn.override_named_call(False):
        assert rows(Plain(), VECTORS) == expected
