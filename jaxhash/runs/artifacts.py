"""Writes the files beside the results of a run: codes of queries and database, and plots."""

import zipfile
from collections.abc import Sequence
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from jaxhash import report
from jaxhash.data.rows import row_blocks
from jaxhash.report import plots
from jaxhash.retrieval.packed_codes import PackedCodes
from jaxhash.retrieval.search import search_allowed
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.scores import Codes
from jaxhash.similarity import shares_label
from jaxhash.utils.files import whole_file, write_json


def write_codes(path: Path, experiment: Experiment, codes: Codes) -> None:
    """Writes codes, labels and names of queries and database, as `jaxhash evaluate` reads them."""
    source, arrays = experiment.source, {}
    for name, part in codes.items():
        items = getattr(experiment.split, name)
        arrays[f"{name}_codes"] = part
        arrays[f"{name}_labels"] = source.labels[items]
        names = source.names_of(items)
        if names is not None:
            arrays[f"{name}_names"] = names
    for name, lists in experiment.split.lists.given.items():
        arrays |= {f"{name}_{field}": part for field, part in lists._asdict().items()}
    with (
        whole_file(path, "wb") as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                _write_array(member, array)


def _write_array(file: BufferedIOBase, array: np.ndarray | PackedCodes) -> None:
    """Writes an array in NumPy's format; codes as -1 and +1 in int8, some of them at a time."""
    if not isinstance(array, PackedCodes):
        np.lib.format.write_array(file, array)
        return
    shape = len(array), array.bits
    header = {"descr": "|i1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for rows in row_blocks(*shape):
        file.write(array[rows].tobytes())


def save_plots(
    folder: Path,
    experiment: Experiment,
    before: Float[np.ndarray, "database bits"],
    after: Codes,
    results: dict[str, Any],
    records: list[dict[str, int | float]],
) -> None:
    """Plots losses, code values, precision-recall and nearest neighbors of a run.

    Each is a PNG and an SVG file. Beside them, ``code_values.json`` has the counts of the second plot, and
    ``neighbours.json`` the items of the last one.

    Args:
        folder: folder of the plots.
        experiment: the data and its split.
        before: codes by `jaxhash.runs.encoding.encode_sample` before training.
        after: codes after training.
        results: what `jaxhash.runs.evaluation.evaluate_codes` returned.
        records: the run's metrics.jsonl.
    """
    neighbors = _neighbors(experiment, after)
    counts = plots.count_code_values(before, after["database"].sample)
    title = report.run_title(results)
    figures = {
        "losses": plots.plot_losses(records, title=title),
        "code_values": plots.plot_code_values(counts, title=title),
        "precision_recall": plots.plot_precision_recall(results),
        "neighbours": plots.plot_neighbors(neighbors, title=title),
    }
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        plots.save_figure(figure, folder / name)
    write_json(folder / "code_values.json", counts)
    write_json(folder / "neighbours.json", neighbors.to_json())


def _neighbors(
    experiment: Experiment, codes: Codes, *, rows: int = 8, k: int = 10
) -> plots.NeighborExamples:
    """Returns the first query of each of the first few classes, with its nearest items."""
    source, split = experiment.source, experiment.split
    first = _first_of_each_class(source.labels[split.query])[:rows]
    if split.relevant is not None:  # a query has no class of its own
        first = np.arange(min(rows, len(split.query)))
    query, database = codes["query"].packed[first], codes["database"].packed
    excluded = None if split.excluded is None else split.excluded.take(first)
    found = search_allowed(query, database, min(k, len(database)), excluded)
    items = np.concatenate([split.query[first][:, None], split.database[found.rows]], axis=1)
    labels = source.labels[items]
    relevant = [shares_label(row[:1], row[1:])[0].tolist() for row in labels]
    if split.relevant is not None:
        marks = split.relevant.marks(first, len(database))
        relevant = np.take_along_axis(marks, found.rows, axis=1).tolist()
    return plots.NeighborExamples(
        images=[] if experiment.modalities else [source.inputs[row] for row in items],
        titles=[[_title(label, source.class_names) for label in row] for row in labels],
        relevant=relevant,
        names=[[source.name_of(item) for item in row] for row in items],
        distances=found.distances.tolist(),
    )


def _first_of_each_class(labels: Shaped[np.ndarray, " n *classes"]) -> Int[np.ndarray, " rows"]:
    """Returns the first row of each class that has one; a row of several classes once."""
    if labels.ndim == 1:
        return np.unique(labels, return_index=True)[1]
    return np.array(list(dict.fromkeys(labels.argmax(axis=0)[labels.any(axis=0)].tolist())), int)


def _title(label: np.integer | Shaped[np.ndarray, " classes"], names: Sequence[str]) -> str:
    """Returns the names of an item's classes, at most two of them."""
    if label.ndim == 0:
        return names[label] if label >= 0 else "no label"
    held = [names[i] for i in np.flatnonzero(label)]
    return ", ".join(held[:2]) + ", ..." * (len(held) > 2)
