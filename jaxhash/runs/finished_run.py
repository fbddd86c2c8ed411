"""A finished run as its folder holds it: configuration, results, codes, and the items behind them."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped, UInt8
from rich.console import Console

from jaxhash.data.checks.training_data import open_split
from jaxhash.data.form_files import read_form
from jaxhash.data.load import load_source
from jaxhash.data.readers.arrays import read_npz
from jaxhash.data.readers.image_files import INDEX_NAME
from jaxhash.data.readers.labels import read_labels
from jaxhash.data.sources import Source
from jaxhash.data.splits import Split
from jaxhash.metrics import QueryLists
from jaxhash.retrieval.code_files import read_lists
from jaxhash.runs.config import Config
from jaxhash.runs.folder import damaged, read_finished, read_own_parts, read_results
from jaxhash.runs.scores import QUERY_AND_DATABASE
from jaxhash.training.members import Member
from jaxhash.utils.console import print_line
from jaxhash.utils.errors import UserError, first_line, printable

#: What to do about codes that are damaged or gone.
CODES_REMEDY = "remove results.json, and the same jaxhash train writes both anew"


class RunSide(NamedTuple):
    """Codes, labels and names of the queries or of the database of a run.

    Attributes:
        codes: packed codes.
        labels: class ids, or multi-hot rows.
        names: names of the items; None if they have none.
    """

    codes: UInt8[np.ndarray, "n bytes"]
    labels: Int[np.ndarray, " n *classes"]
    names: Shaped[np.ndarray, " n"] | None


@dataclasses.dataclass(frozen=True, eq=False)
class FinishedRun:
    """A finished run.

    Attributes:
        folder: its folder.
        config: its configuration.
        results: the content of results.json.
        sides: its queries and its database, by name; None if codes.npz is not there.
        lists: what each query should find, and what it must not find, where that is listed.
    """

    folder: Path
    config: Config
    results: dict[str, Any]
    sides: dict[str, RunSide] | None
    lists: QueryLists = QueryLists()


class RunItems(NamedTuple):
    """Names, classes and images of the queries and the database of a run.

    Attributes:
        sides: labels and names of the items, by side.
        source: the data; None if they could not be opened.
        split: the split of the data; None likewise.
        note: a sentence on why there are no images; empty if there are.
        lists: as in `FinishedRun`.
    """

    sides: dict[str, RunSide]
    source: Source | None = None
    split: Split | None = None
    note: str = ""
    lists: QueryLists = QueryLists()

    def name(self, side: str, row: int) -> str:
        """Returns the name of an item: its own, or its number."""
        names = self.sides[side].names
        if names is not None:
            return printable(str(names[row]))
        if self.source is not None:
            return self.source.name_of(getattr(self.split, side)[row])
        return f"{side} item {row:,}"

    def classes(self, side: str, row: int) -> str:
        """Returns the names of the classes of an item, at most two of them."""
        return self.class_title(self.sides[side].labels[row])

    def class_title(self, label: np.integer | Shaped[np.ndarray, " classes"]) -> str:
        """Returns the names of the classes of a label, at most two of them."""
        ids = np.flatnonzero(label) if label.ndim else [label] if label >= 0 else []
        names = [self.class_name(int(each)) for each in ids[:2]]
        return ", ".join(names) + ", ..." * (len(ids) > 2) or "no label"

    def class_name(self, number: int) -> str:
        """Returns the name of a class; its number where names are not known."""
        known = () if self.source is None else self.source.class_names
        return known[number] if number < len(known) else f"class {number}"

    def image(self, side: str, row: int) -> UInt8[np.ndarray, "h w c"] | None:
        """Returns the pixels of an item; None if it is no image, or the data are not there."""
        if self.source is None:
            return None
        pixels = self.source.inputs[getattr(self.split, side)[row]]
        return pixels if getattr(pixels, "ndim", 0) == 3 else None


def read_run(folder: Path, data_dir: Path | None = None) -> FinishedRun:
    """Reads a finished run, with its codes if they are there.

    Args:
        folder: the folder.
        data_dir: folder of the data, where it has moved.

    Raises:
        UserError: if it holds no finished run, or a file is damaged.
    """
    config, varied = read_finished(folder, data_dir)
    if varied is not None:
        raise UserError(f"{folder} holds a sweep, not a single run")
    results = read_results(folder)
    try:
        items, bits = results["items"], results["bits"]
        shapes = {side: (int(items[side]), int(bits)) for side in QUERY_AND_DATABASE}
    except Exception as error:  # it may hold anything
        raise damaged(folder, error) from error
    path = folder / "codes.npz"
    sides, lists = None, QueryLists()
    if path.exists():
        sides = {side: _read_side(path, side, shape) for side, shape in shapes.items()}
        lists = read_lists(path, queries=shapes["query"][0], items=shapes["database"][0])
    return FinishedRun(folder, config, results, sides, lists)


def member_folders(folder: Path) -> list[Path]:
    """Returns the folders of the members of a finished sweep, but for those that diverged.

    Raises:
        UserError: if its results are damaged.
    """
    results = read_results(folder)
    try:
        kept = [each for each in results["members"] if each["scores"] is not None]
        return [folder / Member(each["seed"], each["values"]).folder for each in kept]
    except Exception as error:  # it may hold anything
        raise damaged(folder, error) from error


def open_items(run: FinishedRun, console: Console) -> RunItems:
    """Opens the data of a run, to show what its codes stand for.

    Data that are gone, or are not those of the run any more, leave names and a note.

    Args:
        run: the run; it has codes.
        console: where the user is told what is missing.
    """
    try:
        source, split = _open_data(run)
    except (UserError, OSError) as error:
        note = f"names in place of images: {first_line(error)}"
        print_line(console, f"{run.folder}: {note}")
        return RunItems(run.sides, note=note, lists=run.lists)
    is_image = getattr(source.inputs[:1], "ndim", 0) == 4
    note = "" if is_image else "the items are no images"
    return RunItems(run.sides, source, split, note, run.lists)


def _open_data(run: FinishedRun) -> tuple[Source, Split]:
    """Returns source and split of a run, as long as they are those that its codes were made of."""
    data = run.config.data
    if "source" in read_own_parts(run.folder):
        raise UserError("the run was trained on the user's own data")
    form = read_form(run.folder / "inputs.json")
    resize = None if form is None else form.resize
    index_file = run.folder / INDEX_NAME
    source = load_source(data.dataset, data.data_dir, resize, index_file=index_file)
    split = open_split(data, source)
    same = split.sha256 == run.results.get("split_sha256")
    for name, side in run.sides.items() if same else ():
        items = getattr(split, name)
        same &= np.array_equal(source.labels[items], side.labels)
        same &= side.names is None or np.array_equal(source.names_of(items), side.names)
    if not same:
        raise UserError(f"the data of {data.dataset} are not those of the run any more")
    return source, split


def _read_side(path: Path, side: str, shape: tuple[int, int]) -> RunSide:
    """Reads the codes, labels and names of one side from a run's codes.npz."""
    keys = f"{side}_codes", f"{side}_labels"
    arrays = read_npz(path, *keys, optional=[f"{side}_names"], hint=f"; {CODES_REMEDY}")
    codes, labels = (arrays[key] for key in keys)
    names = arrays.get(f"{side}_names")
    for key, values in arrays.items():
        if values.shape[:1] != shape[:1] or (key == keys[0] and values.shape != shape):
            raise UserError(
                f"{path}: {key} has shape {values.shape}, and results.json says {shape}; {CODES_REMEDY}"
            )
    if not np.all((codes == 1) | (codes == -1)):
        raise UserError(f"{path}: {keys[0]} holds other values than -1 and +1; {CODES_REMEDY}")
    return RunSide(np.packbits(codes > 0, axis=1), read_labels(labels, path, f"{side} "), names)
