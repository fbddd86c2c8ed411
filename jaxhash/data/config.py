"""The configuration of the data: which set, how it is split, and how its inputs are augmented."""

import dataclasses
from pathlib import Path

from jaxhash.data.augment import AugmentDevice
from jaxhash.data.protocols import AUTO, check_protocol
from jaxhash.utils.checks import check_numbers, check_share

#: Prefixes of the names of data sets that are files in ``data_dir``, and of all.
FILE_KINDS = ("folder:", "shards:", "features:", "counts:", "interactions:", "modalities:")
DATASET_KINDS = (*FILE_KINDS, "tfds:")

#: Least and greatest value of the numbers that draw a split.
SPLIT_NUMBERS = {
    "queries_per_class": (1, 10**6),
    "train_per_class": (1, 10**6),
    "labeled_per_class": (1, 10**6),
    "split_seed": (0, 2**32 - 1),
}


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The data, their split and their augmentation; every field is a flag of its name."""

    dataset: str = "digits"
    """digits, folder:DIR for image files, shards:DIR for images or vectors in .tar, .parquet, .tfrecord or
    .array_record, tfds:NAME for a TFDS set of images, features:FILE.npz or .npy for feature vectors, counts:FILE.npz for word counts
    of documents, which become tf-idf rows, interactions:FILE.npz for users and the items that they have chosen, or
    modalities:NAME=DATASET,NAME=DATASET for items of several modalities."""
    data_dir: Path | None = None
    """Folder of the TFDS sets, or what DIR and the files are in; the working folder if not given."""
    protocol: str = AUTO
    """How the data are split: by their own parts (parts), drawn anew (per-class), by a protocol of the
    literature, or by FILE.npz in --data-dir; auto is parts where the data have some, else per-class."""
    queries_per_class: int | None = None
    """Queries of each class: 100 by per-class, all of their part by parts, if not given."""
    train_per_class: int | None = None
    """Training items of each class: 500 by per-class, all of their part by parts, if not given."""
    labeled_per_class: int | None = None
    """Training items of each class whose labels the training sees; all if not given. The labels of
    validation items, queries and database stay known to the evaluation."""
    split_seed: int = 0
    """Seed of the split, so that runs of several seeds share one."""
    validation: float = 0.0
    """Share of the training items that is held out to choose the model; 0 for none."""
    allow_leak: bool = False
    """Take a split whose queries, or 1 % of them by equal inputs, are among the training or database
    items; the results say so."""
    similarity: str = "classes"
    """What the classes mean to each other: nothing (classes), their coarse labels (coarse), a tree
    FILE.txt or FILE.json of parents and children, or FILE.npz with embeddings of classes or items."""
    crop: int = 0
    """Random crop from the image padded by this many pixels on each side."""
    flip: bool = False
    """Random flip, left to right."""
    drop: float = 0.0
    """Share of a feature vector's entries that are set to 0 at random."""
    augment_on: AugmentDevice = "host"
    """Where images are cropped and flipped; the result is the same, and the device is often faster."""
    workers: int = 0
    """Processes that load the data; with 0 it is threads of this one."""

    def check(self) -> None:
        """Raises a `UserError` that names the first argument whose value is not allowed."""
        check_numbers(self, SPLIT_NUMBERS | {"workers": (0, 256), "crop": (0, 10**6)})
        for name in ("validation", "drop"):
            check_share(name, getattr(self, name))
        check_protocol(self.protocol, self.queries_per_class, self.train_per_class)

    def located(self) -> "DataConfig":
        """Returns the same with paths that do not depend on the working folder."""
        if self.data_dir is not None:
            return self
        if self.dataset.startswith(FILE_KINDS):
            return dataclasses.replace(self, data_dir=Path.cwd())
        files = {  # beside data that need no folder, or have one of their own
            name: str(Path(value).absolute())
            for name in ("protocol", "similarity")
            if Path(value := getattr(self, name)).suffix.lower() in (".npz", ".txt", ".json")
        }
        return dataclasses.replace(self, **files)
