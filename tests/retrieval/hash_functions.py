"""Small hash functions of random weights, for tests."""

import json

import jax
import numpy as np

from jaxhash.data.input_form import InputForm
from jaxhash.models import Encoder, backbone_factory, preprocessing_of
from jaxhash.retrieval.hasher import Hasher


def form_of(model, shape):
    """Returns the form of inputs of a shape."""
    if len(shape) == 1:
        return InputForm("vectors", shape, "float32", -3.0, 3.0, 1.0, 0.5)
    preprocessing = json.loads(json.dumps(preprocessing_of(model)))
    size = preprocessing.get("size")
    return InputForm("images", shape, "uint8", 0.0, 255.0, 100.0, None, size, preprocessing)


def make_hasher(
    name="cnn", shape=(8, 8, 1), bits=12, *, seed=0, head=None, made_by=None, **options
):
    """Returns a hash function on a backbone, with statistics of normalization that are not trivial.

    Args:
        head: function of the head's kernel and bias that returns others.
        options: options of the backbone, and ``head_norm`` and ``unit_norm`` of the encoder.
    """
    of_encoder = {k: options.pop(k) for k in ("head_norm", "unit_norm") if k in options}
    model = Encoder(backbone_factory(name, **options), bits, **of_encoder)
    form = form_of(model, shape)
    example = np.zeros((1, *shape), form.dtype)
    init = jax.jit(model.init)
    variables = jax.tree.map(np.array, dict(init(jax.random.key(seed), example)))
    rng = np.random.default_rng(seed)
    for leaf in jax.tree.leaves(variables.get("batch_stats", {})):
        leaf += rng.uniform(0, 0.1, leaf.shape).astype(leaf.dtype)
    if head is not None:
        parts = variables["params"]["head"]
        parts["kernel"], parts["bias"] = head(parts["kernel"], parts["bias"])
    return Hasher(model, variables, form, made_by or {})


def inputs_of(hasher, n, seed=0):
    """Returns random inputs of a hash function."""
    rng = np.random.default_rng(seed)
    if hasher.form.kind == "images":
        return rng.integers(0, 256, (n, *hasher.form.shape)).astype(np.uint8)
    return rng.normal(size=(n, *hasher.form.shape)).astype(np.float32)


def with_zeros(hasher, inputs):
    """Returns the hash function with a bias for which bit i of input i is within rounding of zero."""
    values = np.concatenate([hasher.encode_floats(inputs[i : i + 1]) for i in range(len(inputs))])
    variables = jax.tree.map(np.copy, hasher.variables)
    variables["params"]["head"]["bias"] -= np.diagonal(values[: hasher.bits])
    return Hasher(hasher.model, variables, hasher.form)
