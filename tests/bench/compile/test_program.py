"""Programs for targets, compiled for emulated devices of the CPU in place of the accelerators."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxhash.bench.compile import program
from jaxhash.bench.compile.program import (
    DoesNotFitError,
    compile_encoder,
    compile_function,
    compile_lowered,
    compile_step,
    encoder_rows,
)
from jaxhash.bench.compile.targets import parse_target
from jaxhash.runs.outline import DataShape, outline_experiment
from jaxhash.runs.presets import digits_hashnet_hswd
from jaxhash.utils.errors import UserError

TARGET = parse_target("v5e:2x4")


@pytest.fixture(autouse=True)
def emulated(monkeypatch):
    monkeypatch.setattr(program, "target_devices", lambda target: jax.devices()[: target.devices])


def experiment(**fields):
    small = {"objective": "csq", "quantizer": "none", "model": "linear", "batch_size": 64}
    config = digits_hashnet_hswd().replace(**small | fields)
    return outline_experiment(config, *DataShape(640, 10, (64,)).make_source())


def bytes_of(tree):
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def test_a_function_on_one_device():
    shapes = [jax.ShapeDtypeStruct((128, 64), jnp.float32)]
    made = compile_function(lambda codes: codes @ codes.T, shapes, TARGET, name="pairs")
    assert (made.name, made.target) == ("pairs", TARGET)
    assert made.memory.arguments == 128 * 64 * 4 and made.memory.outputs == 128 * 128 * 4
    assert made.flops >= 2 * 128 * 128 * 64
    assert made.lower_seconds > 0 and made.compile_seconds > 0
    assert "HloModule" in made.text and "all-reduce" not in made.text


def test_a_function_on_the_mesh_of_its_shapes():
    mesh = Mesh(np.array(jax.devices()), ("rows",))
    rows = NamedSharding(mesh, PartitionSpec("rows"))
    codes = jax.ShapeDtypeStruct((128, 64), jnp.float32, sharding=rows)
    bias = jax.ShapeDtypeStruct((64,), jnp.float32)
    made = compile_function(lambda x, b: (x + b[None]).mean(), [codes, bias], TARGET)
    assert made.memory.arguments == 128 * 64 * 4 // 8 + 64 * 4
    assert "all-reduce" in made.text


@pytest.mark.parametrize("parallel", ["pmap", "shard_map", "jit"])
def test_the_step_is_compiled_whole_with_its_state_donated(parallel):
    one = experiment(parallel=parallel)
    made = compile_step(one, TARGET)
    state, batch = bytes_of(one.abstract_state()), bytes_of(one.abstract_batch())
    assert made.memory.arguments == pytest.approx(state + batch / 8, rel=0.02)
    assert made.memory.aliased == pytest.approx(state, rel=0.02)
    memory = made.memory
    parts = memory.arguments + memory.outputs + memory.temporaries + memory.code
    assert memory.total == parts - memory.aliased
    assert "all-reduce" in made.text


def test_the_encoder_takes_the_rows_of_one_device():
    one = experiment()
    made = compile_encoder(one, TARGET)
    weights = bytes_of(one.abstract_state().variables)
    assert made.memory.arguments == pytest.approx(weights + 64 * 64 * 4, rel=0.02)
    assert made.memory.outputs == 64 * one.config.model.bits * 4


@pytest.mark.parametrize(
    ("name", "rows"), [("v5e:1x1", 512), ("h200:8", 64), ("h200:3", 512), ("v5e:16x16", 2)]
)
def test_rows_of_the_encoder_are_those_of_an_evaluation(name, rows):
    assert encoder_rows(parse_target(name)) == rows


def test_a_batch_that_cannot_be_spread_names_the_divisor():
    with pytest.raises(UserError, match="`batch_size=4`.*divisible by 8"):
        compile_step(experiment(batch_size=4), TARGET)


@pytest.mark.parametrize(
    ("message", "needed"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (18.50G) exceeds available HBM (15.75G).",
            18.5 * 2**30,
        ),
        (
            "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 1.5T of 15.75G hbm. "
            "Exceeded hbm capacity by 1520.25G.",
            1.5 * 2**40,
        ),
        ("RESOURCE_EXHAUSTED: out of memory", 15.75 * 2**30),
    ],
)
def test_what_does_not_fit_says_how_much_it_needs(message, needed):
    with pytest.raises(DoesNotFitError, match="training step.*v5e:2x4") as error:
        compile_lowered(lambda: Refused(message), TARGET, name="training step")
    assert error.value.needed == needed and error.value.available == 15.75 * 2**30


def test_other_errors_of_the_compiler_are_not_hidden():
    with pytest.raises(jax.errors.JaxRuntimeError):
        compile_lowered(lambda: Refused("INTERNAL: a bug"), TARGET, name="training step")


class Refused:
    """A lowered function that the compiler refuses."""

    def __init__(self, message):
        self.message = message

    def compile(self):
        raise jax.errors.JaxRuntimeError(self.message)
