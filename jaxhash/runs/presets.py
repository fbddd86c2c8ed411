"""The presets: functions that return a configuration, with what to expect of it."""

from collections.abc import Callable
from typing import Any

from jaxhash.objectives import METHODS, Method
from jaxhash.runs.config import Config

#: The split of CIFAR-10 (I), whose parts are pooled, for ten classes of any number of items.
_POOLED: dict[str, Any] = dict(protocol="per-class", queries_per_class=100, train_per_class=500)


def digits_hashnet_hswd() -> Config:
    """Scikit-learn's 1,797 handwritten digits, embedded: no network, no download."""
    return Config().replace(
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
    return Config().replace(
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
    return Config().replace(
        dataset="features:cifar10_mobilenetv2.npz",
        **_POOLED,
        model="mlp",
        bits=64,
        epochs=40,
    )


def cifar100_features() -> Config:
    """MobileNetV2 features of CIFAR-100, whose 50,000 training images are the database."""
    return Config().replace(
        dataset="features:cifar100_mobilenetv2.npz",
        protocol="cifar100",
        similarity="coarse",
        model="mlp",
        bits=64,
        epochs=6,
        batch_size=250,
    )


def corel5k() -> Config:
    """Corel5k, 5,000 images as binary visual words, with 3.5 of 374 labels an image."""
    return Config().replace(
        dataset="features:corel5k.npz", protocol="parts", model="mlp", bits=64, epochs=20
    )


def lastfm() -> Config:
    """Interactions of 1,892 users of Last.fm with 4,489 artists; users search artists."""
    return Config().replace(
        dataset="interactions:lastfm.npz",
        model="graph",
        bits=64,
        epochs=40,
        batch_size=256,
    )


def reuters() -> Config:
    """Reuters-21578 by word counts; its own split repeats 1.3 % of the queries, and the results say so."""
    return Config().replace(
        dataset="counts:reuters21578.npz",
        protocol="parts",
        allow_leak=True,
        model="text-mlp",
        bits=32,
    )


def reuters_modalities() -> Config:
    """Titles and bodies of Reuters-21578 as two modalities, of the documents that have both."""
    fields = ",".join(f"{name}=counts:reuters21578.npz:{name}" for name in ("title", "body"))
    return Config().replace(
        dataset=f"modalities:{fields}",
        protocol="parts",
        model="text-mlp",
        bits=32,
        epochs=5,
        batch_size=128,
    )


def captions_shrewd() -> Config:
    """SHREWD on captions that `jaxhash data captions` made a file of, by their own distances."""
    return Config().replace(
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
    """Returns the name of the preset that trains a method as it was published."""
    data = METHODS[method].data
    of_features = "-features" if data in ("cifar10", "cifar100") else ""
    return f"{data}{of_features}-{method}"


#: The preset that has a method's data, and what its description calls them.
_DATA: dict[str, tuple[Callable[[], Config], str]] = {
    "cifar10": (cifar10_features_hashnet_hswd, "the same features"),
    "cifar100": (cifar100_features, "features of CIFAR-100, with its coarse labels"),
    "corel5k": (corel5k, "visual words of Corel5k, which has several labels"),
    "lastfm": (lastfm, "interactions of Last.fm's users"),
    "reuters-modalities": (reuters_modalities, "titles and bodies of Reuters-21578"),
    "reuters": (reuters, "the words of Reuters-21578, whose own split repeats some queries"),
}


def _of_method(method: Method) -> Callable[[], Config]:
    base, data = _DATA[method.data]

    def preset() -> Config:
        return base().replace(
            objective=method.name,
            quantizer="none" if method.published_penalty is None else "own",
            learning_rate=method.learning_rate,
            **method.settings,
        )

    preset.__doc__ = f"{method.reference}, on {data}."
    return preset


#: All presets by name; the first is the default.
PRESETS: dict[str, Callable[[], Config]] = {
    preset.__name__.replace("_", "-"): preset
    for preset in (
        digits_hashnet_hswd,
        fashion_mnist_hashnet_hswd,
        cifar10_features_hashnet_hswd,
        captions_shrewd,
    )
} | {preset_of_method(name): _of_method(method) for name, method in METHODS.items()}
