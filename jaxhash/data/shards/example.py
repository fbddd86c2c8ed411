"""Reads tf.train.Example, without TensorFlow."""

import numpy as np

from jaxhash.data.shards.records import Content, Record, as_vector

#: Features that hold the bytes of an image file, a vector, and the label; the first that is there counts.
IMAGE_KEYS = ("image", "image/encoded", "image_raw", "jpg", "jpeg", "png")
VECTOR_KEYS = ("features", "feature", "embedding", "embeddings", "vector")
LABEL_KEYS = ("label", "labels", "image/class/label", "cls", "class")

LOOKS_FOR = f"a feature {', '.join(LABEL_KEYS[:-1])} or {LABEL_KEYS[-1]} of tf.train.Example"


def read_example(payload: bytes) -> Record:
    """Reads the input and the label of an example.

    Raises:
        ValueError: if it is no example, holds no input, or its features are of another kind.
    """
    from tensorflow_datasets.proto.tf_example_generated_pb2 import Example

    try:
        features = Example.FromString(payload).features.feature
    except Exception as error:  # protobuf raises a type of its own
        raise ValueError("it is no tf.train.Example") from error
    content = _content(features)
    key = next((key for key in LABEL_KEYS if key in features), None)
    if key is None:
        return Record(None, content)
    values = _values(features[key])
    if len(values) != 1 or isinstance(values[0], float):
        raise ValueError(f"its feature {key!r} must be one number or name, got {str(values)[:80]}")
    label = values[0].decode() if isinstance(values[0], bytes) else values[0]
    return Record(label, content)


def read_content(payload: bytes) -> Content:
    """Returns the input of an example."""
    return read_example(payload).content


def _content(features) -> Content:
    for key in IMAGE_KEYS:
        if key in features:
            values = _values(features[key])
            if len(values) == 1 and isinstance(values[0], bytes):
                return values[0]
            raise ValueError(f"its feature {key!r} must be the bytes of one image file")
    for key in VECTOR_KEYS:
        if key in features:
            return as_vector(np.asarray(_values(features[key]), np.float32))
    raise ValueError(
        f"it holds no input: expected an image in {', '.join(IMAGE_KEYS)}, or a vector in "
        f"{', '.join(VECTOR_KEYS)}; its features are {', '.join(sorted(features)) or 'none'}"
    )


def _values(feature) -> list:
    """Returns the values of a feature: bytes, floats or integers."""
    kind = feature.WhichOneof("kind")
    return list(getattr(feature, kind).value) if kind else []
