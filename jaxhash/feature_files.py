"""``jaxhash data features``: the features of a data set by a published backbone, in one file.

A hash function trained on such a file takes seconds: ``jaxhash train --dataset features:FILE.npz``.
"""

import dataclasses
import hashlib
import json
import time
from pathlib import Path
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Float
from rich.console import Console
from rich.progress import track

from jaxhash import machine, models
from jaxhash.build import check_model
from jaxhash.config import check_image_size
from jaxhash.data.pipeline import evaluation_batches
from jaxhash.data.sources import Source, load_source
from jaxhash.errors import UserError
from jaxhash.retrieval.encode import make_encoder
from jaxhash.training.writers import check_output, say, whole_file


@dataclasses.dataclass(frozen=True)
class FeatureArguments:
    """Write the features that a backbone makes of all images of a data set, with their labels."""

    backbone: models.BackboneName
    """The network."""
    weights: Annotated[Path, tyro.conf.arg(metavar="FILE[:KEY]")]
    """Its published weights, or those under KEY in the file, such as teacher."""
    dataset: Annotated[str, tyro.conf.arg(aliases=["--data"])]
    """Data set of images: tfds:NAME, as for jaxhash train."""
    output: Path
    """File .npz to write."""
    data_dir: Path | None = None
    """Folder of the TFDS sets."""
    preprocessing: models.PreprocessingName = "published"
    """How images of bytes are normalised: as the backbone's weights were published, or one of these."""
    image_size: int | None = None
    """Height and width that images are brought to on the device; they stay as they are if not given."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the computation; the features are float32."""
    batch_size: int = 250
    """Images at a time, over all devices."""

    def check(self) -> None:
        """Raise a `UserError` that names the first flag whose value is not allowed."""
        if self.batch_size < 1:
            raise UserError(f"--batch-size must be at least 1, got {self.batch_size}")
        check_image_size(self.image_size)
        check_output(self.output, ".npz", new=True)


def write_features(arguments: FeatureArguments, console: Console, command: str) -> None:
    """Encode all images and write ``features``, ``labels``, ``class_names`` and ``provenance``.

    The file holds ``split`` too where the data set has a training and a test part: all that
    `jaxhash.data.sources.load_source` reads as ``features:FILE.npz``. ``provenance`` is a JSON
    object: what the features are of, the network, and the SHA-256 of the file of its weights.

    Args:
        arguments: what to encode, and by what.
        console: where to print.
        command: the command line, to be stored.

    Raises:
        UserError: if an argument is not allowed, or the network cannot encode the data.
    """
    arguments.check()
    backbone = models.backbone_of(
        arguments.backbone,
        preprocessing=arguments.preprocessing,
        image_size=arguments.image_size,
        dtype=arguments.dtype,
    )()
    source = load_source(arguments.dataset, arguments.data_dir, arguments.image_size)
    example = source.inputs[:1]
    if example.ndim != 4:
        raise UserError(
            f"--dataset {arguments.dataset} holds feature vectors; a backbone takes images"
        )
    check_model(arguments.backbone, backbone, example)
    weights = models.read_weights(
        arguments.weights, backbone, leave_out="classifier", inputs=example
    )
    if weights.prefix:
        say(console, f"the weights of {weights.file} (its {weights.prefix}*)")
    weights_sha256 = hashlib.sha256(weights.file.read_bytes()).hexdigest()
    start = time.monotonic()
    features = _encode(arguments, source, backbone, weights.variables, console)
    seconds = time.monotonic() - start
    provenance = {
        "command": command,
        "data": arguments.dataset,
        "backbone": arguments.backbone,
        "weights": weights.file.name,
        "weights_prefix": weights.prefix,
        "weights_sha256": weights_sha256,
        "preprocessing": dataclasses.asdict(backbone.preprocessing),
        "dtype": jnp.dtype(arguments.dtype).name,
        "hardware": machine.hardware(),
        "versions": machine.versions(("jaxhash", "jax", "jaxlib", "flax")),
    }
    arrays = {
        "features": features,
        "labels": source.labels,
        "class_names": np.array(source.class_names),
        "provenance": np.array(json.dumps(provenance)),
    }
    if source.parts is not None:
        arrays |= {"split": source.part_ids, "split_names": np.array(source.parts)}
    with whole_file(arguments.output, "wb") as file:
        np.savez(file, **arrays)
    say(
        console,
        f"{arguments.output}: {len(features):,} images, {features.shape[1]:,} features each, "
        f"{len(features) / seconds:,.0f} images/s",
    )


def _encode(
    arguments: FeatureArguments,
    source: Source,
    backbone: models.Backbone,
    variables: dict,
    console: Console,
) -> Float[np.ndarray, "items features"]:
    """The features of all items, in order."""
    rows = np.arange(len(source.labels))
    size = min(arguments.batch_size, len(rows))
    say(
        console,
        f"{arguments.dataset}: {len(rows):,} images through {arguments.backbone} on "
        f"{len(jax.local_devices())} x {jax.local_devices()[0].device_kind}",
    )
    batches = track(
        evaluation_batches(source, rows, batch_size=size),
        description="batches",
        total=-(-len(rows) // size),
        console=console,
        disable=not console.is_terminal,
    )
    features = make_encoder(backbone)(variables, batches)
    if not np.isfinite(features).all():
        raise UserError(f"{arguments.backbone} makes features of these images that are not finite")
    return features
