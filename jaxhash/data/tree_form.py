"""The form of a tree of inputs, such as two modalities: an `InputForm` for each part."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from jaxhash.data.input_form import InputForm, measure_inputs
from jaxhash.data.rows import Rows, TreeRows
from jaxhash.utils.errors import UserError

#: Value of the key ``kind`` of a tree in inputs.json.
_TREE = "tree"


@dataclasses.dataclass(frozen=True)
class TreeForm:
    """The form of the inputs of a model of several parts; see `InputForm`, which each part has.

    Attributes:
        forms: the form of each part by its name, in the order of the sorted names.
    """

    forms: Mapping[str, InputForm]

    #: How image files are brought to one size: a tree has no files.
    resize = None

    @property
    def kind(self) -> str:
        """``tree``, beside the kinds of an `InputForm`."""
        return _TREE

    def example(self) -> dict[str, Shaped[np.ndarray, "1 ..."]]:
        """Returns inputs of zeros of one item."""
        return {name: form.example() for name, form in self.forms.items()}

    def prepare(self, inputs: TreeRows) -> TreeRows:
        """Returns the inputs as the model takes them."""
        parts = inputs.parts.items()
        return TreeRows({name: self.forms[name].prepare(rows) for name, rows in parts})

    def check(self, inputs: Rows, where: Any, preprocessing: Mapping[str, Any]) -> None:
        """Raises a `UserError` unless all parts are there and of their forms.

        Args:
            inputs: inputs before `prepare`, or one item of them.
            where: name of the inputs, for the message.
            preprocessing: preprocessing of images by the model, by the name of the part.
        """
        parts = part_rows(inputs)
        if sorted(parts) != sorted(self.forms):
            raise UserError(
                f"{where}: the model takes items of {_names(self.forms)}, and these are of "
                f"{_names(parts)}"
            )
        for name, form in self.forms.items():
            form.check(parts[name], f"{where}, {name}", preprocessing.get(name, {}))

    def warnings(
        self, inputs: TreeRows, parts: Mapping[str, Int[np.ndarray, " items"]]
    ) -> Iterator[str]:
        """Yields sentences on unusual values; see `InputForm.warnings`."""
        for name, form in self.forms.items():
            if form.kind != "ids":
                yield from (
                    f"{name}: {words}" for words in form.warnings(inputs.parts[name], parts)
                )

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return {"kind": _TREE, "forms": {name: form.to_json() for name, form in self.forms.items()}}


#: The form of any inputs.
AnyForm = InputForm | TreeForm


def part_rows(inputs: Any) -> dict[str, Any]:
    """Returns the parts of a tree of inputs, or of one item of it; those of other inputs are none."""
    if isinstance(inputs, TreeRows):
        return inputs.parts
    return inputs if isinstance(inputs, dict) else {}


def part_forms(form: AnyForm) -> Mapping[str, InputForm]:
    """Returns the forms of the parts of a tree; none of other inputs."""
    return form.forms if isinstance(form, TreeForm) else {}


def form_from_json(content: Any) -> AnyForm:
    """Makes a form from the result of its ``to_json``.

    Raises:
        ValueError: if a field is missing, unknown or of another type.
    """
    if not isinstance(content, dict) or content.get("kind") != _TREE:
        return InputForm.from_json(content)
    forms = content.get("forms")
    if sorted(content) != ["forms", "kind"] or not isinstance(forms, dict) or not forms:
        raise ValueError("expected the forms of the parts of a tree")
    return TreeForm({name: InputForm.from_json(forms[name]) for name in sorted(forms)})


def measure_rows(
    inputs: Rows,
    train: Int[np.ndarray, " train"],
    *,
    image_size: int | None = None,
    preprocessing: Mapping[str, Any] = {},  # noqa: B006
) -> AnyForm:
    """Measures the training items; of a tree, each part by itself.

    Args:
        inputs: inputs as their source holds them.
        train: the training items.
        image_size: as in `InputForm`.
        preprocessing: likewise; of a tree by the name of the part.

    Raises:
        UserError: if vectors are too large or too small to be scaled.
    """
    if not isinstance(inputs, TreeRows):
        return measure_inputs(
            inputs, train, image_size=image_size, preprocessing=dict(preprocessing)
        )
    forms = {}
    for name, rows in inputs.parts.items():
        prepared = dict(preprocessing.get(name, {}))
        try:
            forms[name] = measure_inputs(rows, train, image_size=image_size, preprocessing=prepared)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
    return TreeForm(forms)


def _names(parts: Mapping[str, Any]) -> str:
    return " and ".join(parts) or "one part"
