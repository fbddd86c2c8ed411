"""The presets: functions that return a configuration, with what to expect of it."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxhash.objectives import METHODS
from jaxhash.runs.composition import published_weight
from jaxhash.runs.config import Config

#: The split of CIFAR-10 (I), whose parts are pooled, for ten classes of whatever number of items.
_POOLED: dict[str, Any] = dict(protocol="per-class", queries_per_class=100, train_per_class=500)


def digits_hashnet_hswd() -> Config:
    """Scikit-learn's 1,797 handwritten digits, embedded: no network, no download."""
    return Config(
        dataset="digits",
        protocol="per-class",
        queries_per_class=20,
        train_per_class=80,
        model="mlp",
        bits=32,
        epochs=200,
        batch_size=100,
        learning_rate=2e-3,
    )


def fashion_mnist_hashnet_hswd() -> Config:
    """Fashion-MNIST through TFDS, 64,000 images in the database, with a small CNN."""
    return Config(
        dataset="tfds:fashion_mnist",
        **_POOLED,
        model="cnn",
        bits=64,
        epochs=30,
        learning_rate=3e-3,
        crop=2,
        flip=True,
    )


def cifar10_features_hashnet_hswd() -> Config:
    """MobileNetV2 features of CIFAR-10's 60,000 images, 54,000 in the database, with an MLP."""
    return Config(
        dataset="features:cifar10_mobilenetv2.npz",
        **_POOLED,
        model="mlp",
        bits=64,
        epochs=40,
    )


def cifar100_features() -> Config:
    """MobileNetV2 features of CIFAR-100, whose 50,000 training images are the database."""
    return Config(
        dataset="features:cifar100_mobilenetv2.npz",
        protocol="cifar100",
        similarity="coarse",
        model="mlp",
        bits=64,
        epochs=6,
        batch_size=250,
    )


def captions_shrewd() -> Config:
    """SHREWD on captions that `jaxhash data captions` made a file of, by their own distances."""
    return Config(
        dataset="features:captions.npz",
        protocol="zero-shot",
        similarity="captions.npz",
        model="mlp",
        bits=64,
        objective="shrewd",
        quantizer="own",
        quantizer_weight=0.01,
        epochs=10,
        batch_size=250,
        learning_rate=1e-2,
    )


def preset_of_method(method: str) -> str:
    """Name of the preset that trains a method as it was published."""
    data = "cifar100" if METHODS[method].kind == "hierarchy" else "cifar10"
    return f"{data}-features-{method}"


def _of_method(method: str) -> Callable[[], Config]:
    hierarchical = METHODS[method].kind == "hierarchy"

    def preset() -> Config:
        return dataclasses.replace(
            cifar100_features() if hierarchical else cifar10_features_hashnet_hswd(),
            objective=method,
            quantizer="none" if published_weight(method) is None else "own",
            learning_rate=_RATES.get(method, 1e-3),
            **_SETTINGS.get(method, {}),
        )

    data = "features of CIFAR-100, with its coarse labels" if hierarchical else "the same features"
    preset.__doc__ = f"{METHODS[method].reference}, on {data}."
    return preset


#: What a method needs that differs from the preset of HashNet with HSWD.
_SETTINGS: dict[str, dict[str, Any]] = {
    "orthohash": {"head_norm": True},  # the paper's only term for balance
    "dhd": {"drop": 0.2},  # two views must differ
    "cibhash": {"drop": 0.2},
    # The best by validation mAHP@250, as the rates of these methods, by `experiments/hierarchy.py`.
    "shrewd": {"quantizer_weight": 0.03},
    "shred": {"quantizer_weight": 0.3, "objective_options": ("similarity=10",)},
}

#: Learning rates other than 1e-3, the best of four by `experiments/method_rates.py`.
_RATES: dict[str, float] = {
    "hashnet": 0.0003,
    "dpsh": 0.003,
    "dhn": 0.01,
    "dbdh": 0.01,
    "lcdsh": 0.01,
    "idhn": 0.0003,
    "dch": 0.003,
    "dsh": 0.01,
    "wglhh": 0.003,
    "dtsh": 0.01,
    "tie-aware-ap": 0.01,
    "dsdh": 0.003,
    "dsdh-released": 0.003,
    "asymmetric-dsh": 0.0003,
    "csq": 0.0003,
    "dpn": 0.0003,
    "orthohash": 0.01,
    "hyp2": 0.01,
    "cross-entropy": 0.003,
    "greedyhash": 0.01,
    "jmlh": 0.01,
    "supervised-deep-hashing": 0.01,
    "dhd": 0.01,
    "hpdh": 0.01,
    "shrewd": 0.01,
    "shred": 0.03,
}

#: All presets by name; the first is the default.
PRESETS: dict[str, Callable[[], Config]] = {
    preset.__name__.replace("_", "-"): preset
    for preset in (
        digits_hashnet_hswd,
        fashion_mnist_hashnet_hswd,
        cifar10_features_hashnet_hswd,
        captions_shrewd,
    )
} | {preset_of_method(method): _of_method(method) for method in METHODS}
