"""Summary of a model: shapes, parameters and multiply-adds per stage."""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterator

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util
from jax.extend import core
from jaxtyping import Array, PyTree, Shaped

from jaxhash.models._base import Backbone, stage_index

Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class SummaryRow:
    """A stage of the backbone, or a layer after it.

    Attributes:
        name: ``stage 0``, ..., then names of layers; ``preprocessing`` and ``readout`` stand for
            the computation of the backbone before its first stage and after its last.
        shape: shape of the result for one input; None if the row has no result of its own.
        parameters: number of parameters.
        trained: number of parameters that training changes: none or all of them.
        macs: multiply-adds of a forward pass of one input.
    """

    name: str
    shape: tuple[int, ...] | None
    parameters: int
    trained: int
    macs: int


@dataclasses.dataclass(frozen=True)
class Summary:
    """The rows of a model, in the order of the computation, and their sums.

    Attributes:
        rows: the stages and layers.
        remat: whether the backward pass recomputes the blocks of the stages.
    """

    rows: tuple[SummaryRow, ...]
    remat: bool

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(row.parameters for row in self.rows)

    @property
    def trained(self) -> int:
        """Number of parameters that training changes."""
        return sum(row.trained for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-adds of a forward pass of one input."""
        return sum(row.macs for row in self.rows)

    @property
    def training_macs(self) -> int:
        """Approximate multiply-adds of the forward and backward pass of one input.

        A frozen row counts once. A trained row counts three times, for its results, the gradients
        of its inputs and those of its parameters, and four times if ``remat`` recomputes its
        results. The first trained layer counts once too often, since its inputs need no gradient.
        """
        return sum(row.macs * self._passes(row) for row in self.rows)

    def _passes(self, row: SummaryRow) -> int:
        if not row.trained:
            return 1
        return 4 if self.remat and row.name.startswith("stage ") else 3


def summary(model: nn.Module, inputs: PyTree[Shaped[Array | np.ndarray, "n ..."]]) -> Summary:
    """Summarizes the shapes, parameters and multiply-adds of a model, without computing it.

    Multiply-adds of convolutions and matrix products are counted, padding included; one equals two
    floating-point operations. They are counted for one input, from the trace of the evaluation
    mode. A loop of unknown length counts as one iteration, and a condition as all its branches.

    Args:
        model: a `Backbone`, an `Encoder`, or another module from inputs to an array.
        inputs: example inputs [n, ...]; only their shape and dtype matter.

    Example:
        >>> from jaxhash.models import MLP, Encoder
        >>> found = summary(Encoder(MLP, bits=16), np.zeros((1, 8, 8, 1), np.uint8))
        >>> [(row.name, row.shape, row.parameters, row.macs) for row in found.rows]
        [('stage 0', (256,), 16896, 16384), ('readout', (256,), 0, 0), ('head', (16,), 4112, 4096)]
        >>> found.parameters, found.macs, found.training_macs
        (21008, 20480, 61440)
    """
    example = jax.tree.map(lambda rows: rows[:1], inputs)
    calls = _Calls()
    variables = jax.eval_shape(model.init, jax.random.key(0), example)
    with nn.intercept_methods(calls):
        traced = jax.make_jaxpr(model.apply)(variables, example)
    # Submodules come before their parent, and the backbone before the encoder.
    shapes = {calls.row(path): shape for path, shape in calls.shapes if path or not calls.backbone}
    macs, parameters = Counter(), Counter()
    in_stages = not any(name.startswith("stage ") for name in shapes)
    for index, count in _products(traced.jaxpr, None):
        name = calls.row(() if index is None else calls.paths[index])
        in_stages |= name.startswith("stage ")
        macs[name if in_stages or name != "readout" else "preprocessing"] += count
    for path, leaf in traverse_util.flatten_dict(variables.get("params", {})).items():
        parameters[calls.row(path[:-1])] += leaf.size
    names = (["preprocessing"] if macs["preprocessing"] else []) + list(shapes)
    return Summary(
        tuple(
            SummaryRow(
                name,
                shapes.get(name),
                parameters[name],
                0 if name in calls.frozen else parameters[name],
                macs[name],
            )
            for name in names
        ),
        remat=calls.remat,
    )


class _Calls:
    """An interceptor of Linen calls that marks the operations of each call in the trace.

    Linen's own marks need ``flax_profile``, and their names need not be unique.
    """

    def __init__(self):
        self.paths: list[Path] = []
        self.shapes: list[tuple[Path, tuple[int, ...] | None]] = []
        self.backbone: Path = ()
        self.frozen: set[str] = set()
        self.remat = False

    def __call__(self, call, args, kwargs, context):
        module = context.module
        if context.method_name != "__call__":
            return call(*args, **kwargs)
        if isinstance(module, Backbone):
            self.backbone, self.remat = module.path, module.remat
            self.frozen = {f"stage {i}" for i in range(module.freeze_stages)}
        self.paths.append(module.path)
        with jax.named_scope(f"call:{len(self.paths) - 1}"):
            result = call(*args, **kwargs)
        self.shapes.append((module.path, result.shape[1:] if hasattr(result, "shape") else None))
        return result

    def row(self, path: Path) -> str:
        """Returns the row of a module."""
        if path[: len(self.backbone)] == self.backbone:
            path = path[len(self.backbone) :]
        if not path:
            return "readout"
        stage = stage_index(path[0])
        return path[0] if stage is None else f"stage {stage}"


def _products(jaxpr: core.Jaxpr, call: int | None) -> Iterator[tuple[int | None, int]]:
    """Yields the innermost call and the multiply-adds of each convolution and matrix product."""
    for eqn in jaxpr.eqns:
        marks = re.findall(r"call:(\d+)", str(eqn.source_info.name_stack))
        inner = int(marks[-1]) if marks else call
        if eqn.primitive.name == "conv_general_dilated":
            _, kernel = (variable.aval.shape for variable in eqn.invars)
            outputs = kernel[eqn.params["dimension_numbers"].rhs_spec[0]]
            yield inner, eqn.outvars[0].aval.size * math.prod(kernel) // outputs
        elif eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            left = eqn.invars[0].aval.shape
            yield inner, eqn.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
        iterations = eqn.params["length"] if eqn.primitive.name == "scan" else 1
        for part in core.jaxprs_in_params(eqn.params):
            yield from ((index, iterations * count) for index, count in _products(part, inner))
