"""Compiles functions for accelerators that are not here, and reads what the programs need."""

import dataclasses
import re
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jaxhash.bench.compile.targets import Target, target_devices
from jaxhash.runs.encoding import ENCODING_BATCH
from jaxhash.runs.experiment import Experiment
from jaxhash.utils.errors import UserError, first_line


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes that a program has on a device.

    Attributes:
        arguments: what it is given.
        outputs: what it returns.
        temporaries: what it needs while it runs.
        aliased: part of the outputs that takes the place of donated arguments.
        code: the program itself.
        total: all of these together, the aliased bytes once.
    """

    arguments: int
    outputs: int
    temporaries: int
    aliased: int
    code: int
    total: int


@dataclasses.dataclass(frozen=True)
class CompiledProgram:
    """A program for one device of a target; all of its devices run the same.

    Attributes:
        name: what it does.
        target: what it was compiled for.
        lower_seconds: time to trace and lower it, on this machine.
        compile_seconds: time to compile it, on this machine.
        flops: operations as XLA counts them, the body of a loop once; None where it does not count.
        bytes: bytes from and to memory, counted likewise.
        memory: what it needs.
        text: its HLO after optimization.
    """

    name: str
    target: Target
    lower_seconds: float
    compile_seconds: float
    flops: float | None
    bytes: float | None
    memory: Memory
    text: str


class DoesNotFitError(UserError):
    """The compiler refuses a program that needs more memory than a device has.

    Attributes:
        needed: bytes that the compiler names, which may be those of one kind of its buffers.
        available: bytes that the device has.
    """

    def __init__(self, message: str, needed: int, available: int):
        super().__init__(message)
        self.needed = needed
        self.available = available


def compile_step(experiment: Experiment, target: Target) -> CompiledProgram:
    """Compiles the training step of an experiment, as its training runs it, for all devices.

    Raises:
        DoesNotFitError: if the compiler finds that a device has too little memory.
        UserError: if the batch or a table cannot be spread over the devices.
    """
    devices = target_devices(target)
    state, batch = experiment.abstract_state(devices), experiment.abstract_batch()
    step = experiment.make_step(devices)
    return compile_lowered(lambda: step.lower(state, batch), target, name="training step")


def compile_encoder(experiment: Experiment, target: Target) -> CompiledProgram:
    """Compiles the encoder for one device, with its share of the rows that an evaluation encodes.

    Raises:
        DoesNotFitError: as by `compile_step`.
    """
    model = experiment.model

    def encode(variables: Any, inputs: Any) -> jax.Array:
        return model.apply(variables, inputs, train=False)

    rows = encoder_rows(target)
    one = experiment.source.inputs[:1]
    variables = jax.eval_shape(model.init, jax.random.key(0), one)
    inputs = jax.tree.map(
        lambda part: jax.ShapeDtypeStruct((rows, *part.shape[1:]), part.dtype), one
    )
    return compile_function(encode, [variables, inputs], target, name="encoder")


def encoder_rows(target: Target) -> int:
    """Returns the rows of an evaluation's batch that one device encodes.

    Example:
        >>> from jaxhash.bench.compile.targets import parse_target
        >>> encoder_rows(parse_target("v5e:2x4"))
        64
    """
    rows = (ENCODING_BATCH + -ENCODING_BATCH % target.hosts) // target.hosts
    devices = target.devices // target.hosts
    return rows if rows % devices else rows // devices


def compile_function(
    function: Callable[..., Any], shapes: Sequence[Any], target: Target, *, name: str | None = None
) -> CompiledProgram:
    """Compiles a function for a target, as `jax.jit` does.

    Args:
        function: a function of arrays, or what `jax.jit` returned for one.
        shapes: pytrees of `jax.ShapeDtypeStruct`, one for each argument. Where none has a sharding,
            the program is for one device; else for the mesh of `target_devices` that they are on,
            and those without are whole on each device.
        target: what to compile for.
        name: what it does; its own name if not given.

    Raises:
        DoesNotFitError: if the compiler finds that a device has too little memory.
        UserError: if the compiler is not installed.

    Example:
        >>> from jaxhash.bench.compile.targets import parse_target
        >>> shapes = [jax.ShapeDtypeStruct((1024, 64), "float32")]
        >>> compile_function(abs, shapes, parse_target("v5e:1x1")).memory.arguments  # doctest: +SKIP
        262144
    """
    mesh = _mesh_of(shapes) or jax.sharding.Mesh(np.array(target_devices(target)[:1]), ("devices",))
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())

    def placed(shape: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=shape.sharding or whole)

    jitted = function if hasattr(function, "lower") else jax.jit(function)
    arguments = jax.tree.map(placed, list(shapes))
    name = name or getattr(function, "__name__", "function")
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # Pallas asks it which chip this is
        return compile_lowered(lambda: jitted.lower(*arguments), target, name=name)


def _mesh_of(shapes: Sequence[Any]) -> jax.sharding.Mesh | None:
    """Returns the mesh of the first shape that has a sharding on one."""
    shardings = (getattr(shape, "sharding", None) for shape in jax.tree.leaves(list(shapes)))
    return next((each.mesh for each in shardings if hasattr(each, "mesh")), None)


def compile_lowered(
    lower: Callable[[], jax.stages.Lowered], target: Target, *, name: str
) -> CompiledProgram:
    """Compiles what a function lowers for devices of a target.

    Args:
        lower: lowers a function for devices from `target_devices`.
        target: the target.
        name: what the function does.

    Raises:
        DoesNotFitError: if the compiler finds that a device has too little memory.
        UserError: if the function calls the host, which JAX lowers only for a GPU that is here.
    """
    start = time.perf_counter()
    try:
        lowered = lower()
    except RuntimeError as error:
        if "Unknown backend" not in str(error):
            raise
        raise UserError(
            f"{name} calls the host (exact optimal transport does), which JAX cannot compile for "
            f"`for={target.name}` without one here"
        ) from error
    lowered_at = time.perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise _does_not_fit(error, target, name) from error
    seconds = time.perf_counter() - lowered_at
    costs = compiled.cost_analysis() or {}
    return CompiledProgram(
        name=name,
        target=target,
        lower_seconds=lowered_at - start,
        compile_seconds=seconds,
        flops=costs.get("flops"),
        bytes=costs.get("bytes accessed"),
        memory=_memory(compiled.memory_analysis()),
        text=compiled.as_text(),
    )


def _memory(analysis: Any) -> Memory:
    arguments, outputs = analysis.argument_size_in_bytes, analysis.output_size_in_bytes
    temporaries, aliased = analysis.temp_size_in_bytes, analysis.alias_size_in_bytes
    code = analysis.generated_code_size_in_bytes
    total = arguments + outputs + temporaries + code - aliased
    return Memory(arguments, outputs, temporaries, aliased, code, total)


#: How XLA:TPU names bytes, such as 15.75G.
_SIZE = re.compile(r"([\d.]+)([KMGT]?)\b")


def _does_not_fit(error: Exception, target: Target, name: str) -> DoesNotFitError:
    available = target.chip.memory_bytes
    sizes = [
        int(float(number) * 1024 ** " KMGT".index(unit or " "))
        for number, unit in _SIZE.findall(str(error))
        if unit
    ]
    needed = max(sizes, default=available)
    return DoesNotFitError(
        f"{name} does not fit `for={target.name}`: {first_line(error)}", needed, available
    )
