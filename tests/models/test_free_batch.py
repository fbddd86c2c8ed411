"""Every backbone of the catalogue is one program for any number of images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from jaxhash import models


def export_free(model, variables, shape, platforms=("cpu", "cuda", "tpu")):
    """Exports a model for images of that height, width and channels; no program is compiled."""
    (batch,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *shape), jnp.uint8)
    exported = export.export(jax.jit(model.apply), platforms=platforms)(variables, images)
    (features,) = exported.out_avals
    assert features.shape[0] == batch and features.dtype == jnp.float32
    return exported


@pytest.mark.parametrize(
    "name",
    [
        name
        if name in ("cnn", "resnet18", "vit-s16")
        else pytest.param(name, marks=pytest.mark.slow)
        for name in models.BACKBONES
    ],
)
def test_a_backbone_is_exported_with_a_free_batch(name):
    """Images of another size are resized within the program."""
    size = models.BACKBONES[name]().image_size
    model = models.backbone_factory(name, image_size=size)()
    image = np.zeros((1, 40, 56, 3), np.uint8)
    variables = jax.eval_shape(model.init, jax.random.key(0), image)
    exported = export_free(model, variables, image.shape[1:])
    one = jax.eval_shape(model.apply, variables, image)
    assert exported.out_avals[0].shape[1:] == one.shape[1:]


@pytest.mark.parametrize("size", [None, 12])
def test_the_exported_program_computes_what_the_model_does(size):
    model = models.backbone_factory("cnn", image_size=size)()
    images = np.random.default_rng(0).integers(0, 256, (5, 9, 9, 3)).astype(np.uint8)
    variables = model.init(jax.random.key(0), images)
    exported = export_free(model, variables, images.shape[1:], [jax.default_backend()])
    for count in (1, 5):
        expected = model.apply(variables, images[:count])
        got = exported.call(variables, images[:count])
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
