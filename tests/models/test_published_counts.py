"""Sizes of the published networks, and coverage of their leaves by the weight names."""

from collections import Counter

import jax
import numpy as np
import pytest

from jaxhash import models

# parameters with the published number of classes, that number, and features
PUBLISHED = {
    "alexnet": (61_100_840, 1000, 4096),
    "vgg11": (132_863_336, 1000, 4096),
    "vgg11_bn": (132_868_840, 1000, 4096),
    "vgg16": (138_357_544, 1000, 4096),
    "vgg16_bn": (138_365_992, 1000, 4096),
    "resnet18": (11_689_512, 1000, 512),
    "resnet34": (21_797_672, 1000, 512),
    "resnet50": (25_557_032, 1000, 2048),
    "resnet101": (44_549_160, 1000, 2048),
    # as counted in PyTorch; published as 0.27, 0.46, 0.66 and 0.85 million
    "cifar_resnet20": (269_722, 10, 64),
    "cifar_resnet32": (464_154, 10, 64),
    "cifar_resnet44": (658_586, 10, 64),
    "cifar_resnet56": (853_018, 10, 64),
    "mobilenet_v2": (3_504_872, 1000, 1280),
    "mobilenet_v2_tf": (3_504_872, 1000, 1280),
    "efficientnet_lite0": (4_652_008, 1000, 1280),
    "efficientnet_lite2": (6_092_072, 1000, 1280),
    "squeezenet1_1": (1_235_496, 1000, 512),
    "vit_s16": (22_050_664, 1000, 384),
    "vit_b16": (86_567_656, 1000, 768),
    "convnext_tiny": (28_589_128, 1000, 768),
}


def shapes(model):
    """Returns shapes of the result and of the variables, at the published image size."""
    return jax.eval_shape(model.init_with_output, jax.random.key(0), model.example())


def leaves(variables):
    paths = jax.tree_util.tree_leaves_with_path(variables)
    return {"/".join(key.key for key in path) for path, _ in paths}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_widths_and_names(name):
    parameters, classes, features = PUBLISHED[name]
    make = getattr(models, name)
    logits, variables = shapes(make(classes=classes))
    assert logits.shape == (1, classes)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == parameters

    outputs, without = shapes(make())
    assert outputs.shape == (1, features) and outputs.dtype == np.float32
    assert set(variables["params"]) - set(without["params"]) == {"classifier"}
    stages = {models.stage_index(block) for block in without["params"]} - {None}
    assert stages == set(range(len(stages))) and len(stages) >= 4

    maps = make().weight_names()
    assert maps
    for names in maps.values():
        assert set(names) == leaves(variables)
        assert len(set(names.values())) == len(names)
        uses = Counter(tensor.name for tensor in names.values())
        assert set(uses.values()) <= {1, 3}  # three are query, key and value, fused in the file
