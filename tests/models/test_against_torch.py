"""Convolutional backbones against PyTorch, with weights passed through a file."""

from functools import partial

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the oracle is PyTorch, which is not installed")

import torch_nets as nets  # noqa: E402

from jaxhash import models  # noqa: E402
from jaxhash.models._cifar_resnet import CifarResNet  # noqa: E402
from jaxhash.models._fully_connected import adaptive_average_pool  # noqa: E402
from jaxhash.models._resnet import Bottleneck, ResNet  # noqa: E402
from jaxhash.models._vgg import _VGG16, VGG  # noqa: E402

CLASSES = 7
NARROW = ((8,), (8, 12), (16, 8), (8,), (16,))


def compare(make, net, size, tmp_path):
    """Checks features and logits of two random images to 1e-4 of the largest."""
    net = nets.randomize(net, seed=0)
    torch.save(net.state_dict(), tmp_path / "weights.pt")
    model, logits_model = make(), make(classes=CLASSES)
    variables = models.load_weights(tmp_path / "weights.pt", logits_model)

    @jax.jit
    def ours(variables, images):
        return model.apply(variables, images), logits_model.apply(variables, images)

    height, width = size
    images = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = net(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    for got, expected in zip(ours(variables, images), theirs, strict=True):
        expected = expected.numpy()
        scale = np.abs(expected).max()
        assert np.abs(expected[0] - expected[1]).max() > 1e-2 * scale  # the images matter
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize(
    "make, net, size",
    [
        pytest.param(
            partial(VGG, widths=NARROW),
            partial(nets.VGG, NARROW, False),
            (224, 61),
            id="vgg",
        ),
        pytest.param(
            partial(VGG, widths=NARROW, norm=True),
            partial(nets.VGG, NARROW, True),
            (290, 61),
            id="vgg_bn",
        ),
        pytest.param(
            models.resnet18,
            partial(nets.ResNet, nets.BasicBlock, (2, 2, 2, 2)),
            (64, 75),
            id="resnet18",
        ),
        pytest.param(
            partial(ResNet, block=Bottleneck, sizes=(1, 2, 1, 2)),
            partial(nets.ResNet, nets.Bottleneck, (1, 2, 1, 2)),
            (64, 75),
            id="bottlenecks",
        ),
        pytest.param(
            partial(CifarResNet, blocks=2),
            partial(nets.CifarResNet, 2),
            (32, 29),
            id="cifar",
        ),
        pytest.param(models.mobilenet_v2, nets.MobileNetV2, (64, 75), id="mobilenet_v2"),
        pytest.param(
            models.mobilenet_v2_tf,
            partial(nets.MobileNetV2, tensorflow=True),
            (64, 75),
            id="mobilenet_v2_tf",
        ),
        pytest.param(models.squeezenet1_1, nets.SqueezeNet, (64, 69), id="squeezenet1_1"),
    ],
)
def test_features_and_logits(make, net, size, tmp_path):
    compare(make, net(classes=CLASSES), size, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make, net, size",
    [
        pytest.param(models.alexnet, nets.AlexNet, (224, 127), id="alexnet"),
        pytest.param(models.vgg16_bn, partial(nets.VGG, _VGG16, True), (224, 97), id="vgg16_bn"),
        pytest.param(
            models.resnet50,
            partial(nets.ResNet, nets.Bottleneck, (3, 4, 6, 3)),
            (224, 224),
            id="resnet50",
        ),
    ],
)
def test_whole_networks(make, net, size, tmp_path):
    compare(make, net(classes=CLASSES), size, tmp_path)


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize("height, width", [(1, 5), (6, 7), (8, 13), (23, 14)])
def test_adaptive_pooling(height, width, size):
    images = np.random.default_rng(0).normal(size=(2, height, width, 3)).astype(np.float32)
    expected = torch.nn.AdaptiveAvgPool2d(size)(torch.from_numpy(images.transpose(0, 3, 1, 2)))
    got = jax.jit(adaptive_average_pool, static_argnums=1)(images, size)
    np.testing.assert_allclose(got, expected.numpy().transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-6)
