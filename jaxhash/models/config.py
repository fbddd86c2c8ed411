"""The configuration of the model: backbone, weights, and the length of its codes."""

import dataclasses
from pathlib import Path
from typing import Literal

from jaxhash.models import BackboneName, PreprocessingName
from jaxhash.utils.checks import check_image_size, check_numbers


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The model; every field is a flag of its name."""

    model: BackboneName = "cnn"
    """Backbone; cnn is a small one for images, mlp and linear (the hash head alone) take vectors."""
    weights: Path | None = None
    """Published weights, or those under KEY in the file, as teacher; from scratch if not given."""
    preprocessing: PreprocessingName = "published"
    """How images of bytes are normalized: as the backbone's weights were published, or one of these."""
    image_size: int | None = None
    """Height and width that images are brought to on the device; they stay as they are if not given."""
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
