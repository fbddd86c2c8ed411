"""What makes a training step fit the memory of a chip: each option that saves memory is compiled."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax

from jaxhash.bench.compile.program import DoesNotFitError, compile_step
from jaxhash.bench.compile.targets import Target
from jaxhash.objectives import sharded_leaves
from jaxhash.runs.config import Config
from jaxhash.runs.experiment import Experiment
from jaxhash.utils.errors import UserError


@dataclasses.dataclass(frozen=True)
class Remedy:
    """Options that were tried, and the memory of the step with them.

    Attributes:
        options: fields of the configuration and their values.
        needed: bytes that a chip needs with them; None if they do not apply.
        available: bytes that a chip has.
        reason: why they do not apply, or "".
    """

    options: dict[str, Any]
    needed: int | None
    available: int
    reason: str = ""

    @property
    def fits(self) -> bool:
        """Whether the step fits a chip with them."""
        return self.needed is not None and self.needed <= self.available


def find_remedies(
    experiment: Experiment,
    target: Target,
    open_experiment: Callable[[Config], Experiment],
    report: Callable[[str], None] = lambda line: None,
) -> list[Remedy]:
    """Compiles a step that does not fit with each option that saves memory.

    If none of them suffices, all that apply are tried together.

    Args:
        experiment: the experiment whose step does not fit.
        target: what to compile for.
        open_experiment: makes the experiment of another configuration; it raises a `UserError` for
            options that do not go with it.
        report: called with a line before each compilation, which may take minutes.
    """
    found = []

    def attempt(options: dict[str, Any]) -> Remedy:
        report(f"compiling with {', '.join(options)}")
        found.append(try_options(experiment, options, target, open_experiment))
        return found[-1]

    best: dict[str, Any] = {}
    for choices in _choices(experiment.config, target):
        for options in choices:
            tried = attempt(options)
            if tried.needed is None:
                break
            best |= options
            if tried.fits:
                break
    if len(best) > 1 and not any(tried.fits for tried in found):
        attempt(best)
    return found


def try_options(
    experiment: Experiment,
    options: dict[str, Any],
    target: Target,
    open_experiment: Callable[[Config], Experiment],
) -> Remedy:
    """Compiles the step of an experiment with other options, and returns the memory that it needs."""
    available = target.chip.memory_bytes
    try:
        changed = open_experiment(experiment.config.replace(**options))
        if options == {"spread_banks": "always"}:
            _check_tables(changed, experiment)
        program = compile_step(changed, target)
    except DoesNotFitError as error:
        return Remedy(options, error.needed, available)
    except UserError as error:
        return Remedy(options, None, available, reason=str(error))
    return Remedy(options, program.memory.total, available)


def _check_tables(changed: Experiment, experiment: Experiment) -> None:
    """Raises a `UserError` if an experiment has no other tables spread than before."""
    state = jax.eval_shape(changed.initial_state).objective_state
    spread, before = (
        jax.tree.leaves(sharded_leaves(state, one.sharding)) for one in (changed, experiment)
    )
    if not any(spread):
        raise UserError("the objective has no bank, codes or codebook to spread")
    if spread == before:
        raise UserError("they are spread already")


def _choices(config: Config, target: Target) -> Iterator[list[dict[str, Any]]]:
    """Yields the options to try, by kind, each list from the fastest step to the smallest."""
    if not config.model.remat:
        yield [{"remat": True}]
    rows = -(-config.optimizer.batch_size // target.devices)
    sizes = sorted({-(-rows // parts) for parts in (4, 16)}, reverse=True)
    smaller = [size for size in sizes if size < (config.run.chunk_size or rows)]
    if smaller:
        yield [{"chunk_size": size} for size in smaller]
    if target.devices > 1 and not config.run.shard_params:
        yield [{"parallel": "jit", "shard_params": True}]
    if target.devices > 1 and config.run.spread_banks != "always":
        yield [{"spread_banks": "always"}]
