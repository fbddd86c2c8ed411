"""inputs.json: the form of a model's inputs, and a digest of its data, in the folder of a run."""

from pathlib import Path
from typing import Any

from jaxhash.data.tree_form import AnyForm, form_from_json
from jaxhash.training.distributed import broadcast_from_host0, is_main_process
from jaxhash.utils.errors import UserError
from jaxhash.utils.files import read_json, write_json

#: Key of the digest of the data in inputs.json; see `jaxhash.data.checks.training_data.Findings`.
_DATA = "data_sha256"

#: Advice if inputs.json is damaged.
_REMEDY = "put a sound copy back, or train anew into another `run_dir`"


def read_input_form(folder: Path, dataset: str) -> AnyForm | None:
    """Reads the form of the inputs of the model in a run's folder; None if none has been trained yet.

    Args:
        folder: folder of the run.
        dataset: name of its data set.

    Raises:
        UserError: in all processes, if the file is damaged, or is missing though a model needs it.
    """
    path = folder / "inputs.json"

    def read() -> dict[str, Any] | None:
        if (form := read_form(path)) is not None:
            return form.to_json()
        if dataset.startswith("features:") and any((folder / "checkpoints").glob("*")):
            raise UserError(
                f"{folder} has no inputs.json: a version of jaxhash that kept the scale of its vectors "
                "nowhere has made it; train anew (codes.npz can still be evaluated)"
            )
        return None

    stored = broadcast_from_host0(read)
    return stored and form_from_json(stored)


def read_form(path: Path) -> AnyForm | None:
    """Reads the form of a model's inputs from inputs.json in this process; None if there is no such file.

    Raises:
        UserError: if the file is damaged.
    """
    if not path.is_file():
        return None
    content = read_json(path, _REMEDY)
    content.pop(_DATA, None)
    try:
        return form_from_json(content)
    except ValueError as error:
        raise UserError(
            f"{path} does not say what the inputs of a run are: {error}; {_REMEDY}"
        ) from error


def is_trained_on(folder: Path, data_sha256: str) -> bool:
    """Returns whether the model in a run's folder was trained on the data of a digest, or is unknown.

    Args:
        folder: folder of the run.
        data_sha256: digest of the data; see `jaxhash.data.checks.training_data.Findings`.
    """

    def same() -> bool:
        path = folder / "inputs.json"
        stored = read_json(path, _REMEDY) if path.is_file() else {}
        return stored.get(_DATA, data_sha256) == data_sha256

    return broadcast_from_host0(same)


def write_input_form(folder: Path, form: AnyForm, data_sha256: str) -> None:
    """Writes the form of a model's inputs and the digest of its data into a run's folder, once.

    Raises:
        UserError: in all processes, if its training has begun with other data.
    """
    path = folder / "inputs.json"
    if not is_trained_on(folder, data_sha256):
        raise UserError(
            f"{folder} is a training that began with other data: items, labels or the split have "
            "changed since; bring them back, or remove the folder to begin anew"
        )
    if is_main_process() and not path.exists():
        write_json(path, form.to_json() | {_DATA: data_sha256})
