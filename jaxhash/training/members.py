"""The members of a sweep: many trainings, by setting and by seed, in one compiled program.

A stacked state has a leading axis [settings * seeds], with the seeds of a setting side by side. A
stacked batch has the shape [rows, seeds, ...], so that its rows, or its seeds, can be sharded over
devices; all settings on a device use the same batch of a seed, without a copy.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, Shaped

from jaxhash.objectives import Batch
from jaxhash.training.collapse import CollapseAlarm
from jaxhash.training.state import TrainState
from jaxhash.utils.errors import UserError

#: Error of a sweep without a member left to train; the argument is the step.
ALL_DIVERGED_ERROR = (
    "training stopped at step {}: every member of the sweep has diverged; a lower `learning_rate` "
    "or `clip_norm` may help"
)

#: How a step maps over the members; `best_mapping` chooses.
MemberMapping = Literal["vmap", "scan", "unroll"]


@dataclasses.dataclass(frozen=True)
class Member:
    """One training of a sweep."""

    seed: int
    setting: Mapping[str, float]

    @property
    def name(self) -> str:
        """Its seed and the values of its setting, for messages."""
        return ", ".join(filter(None, [f"seed {self.seed}", setting_name(self.setting)]))

    @property
    def folder(self) -> str:
        """The name of its folder inside that of the sweep.

        Example:
            >>> Member(3, {"quantizer_weight": 0.1, "clip_norm": 2.0}).folder
            'seed3-quantizer-weight0.1-clip-norm2.0'
        """
        numbers = [f"{name.replace('_', '-')}{float(v)!r}" for name, v in self.setting.items()]
        return "-".join([f"seed{self.seed}", *numbers])


def setting_name(values: Mapping[str, float]) -> str:
    """Formats the values of a setting for messages; empty if nothing is varied.

    Example:
        >>> setting_name({"quantizer_weight": 0.1, "learning_rate": 1e-3})
        'quantizer-weight 0.1, learning-rate 0.001'
    """
    return ", ".join(f"{name.replace('_', '-')} {value:g}" for name, value in values.items())


def stack_states(states: Iterable[TrainState], members: int) -> TrainState:
    """Stacks one state per seed into a state of all members; settings start from equal states."""

    @jax.jit
    def stack(states):
        of_members = [states[member % len(states)] for member in range(members)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *of_members)

    return stack(list(states))


def member_state(state: TrainState, number: int) -> TrainState:
    """Copies the state of one member to the host."""
    return jax.device_get(_index_jitted(state, number))


def drop_zero_penalty(state: TrainState, like: TrainState) -> TrainState:
    """Converts a member's state to that of its own run, which omits a penalty of weight 0.

    A sweep over the weight omits nothing. The member then has a state for the penalty too, and the
    state of its method lies one level deeper.

    Args:
        state: state of the member.
        like: initial state of the member's own run; leaves that the member lacks are taken from it.
    """
    found = {}
    leaves = jax.tree_util.tree_leaves_with_path(state)
    for depth in (None, *range(max(len(path) for path, _ in leaves))):
        for path, leaf in leaves:
            found.setdefault(path if depth is None else path[:depth] + path[depth + 1 :], leaf)

    def take(path, own):
        leaf = found.get(path, own)
        return leaf if leaf.shape == own.shape else own

    return jax.tree_util.tree_map_with_path(take, like)


def member_step(
    make_step: Callable[[Mapping[str, Float[Array, ""]]], Callable],
    numbers: Mapping[str, Float[np.ndarray, " members"]],
    *,
    mapping: MemberMapping,
) -> Callable:
    """Makes one step of members, which `DataParallel` runs over devices like a single step.

    `MemberParallel` has one for each device, of the members there.

    Args:
        make_step: function from the traced values of a member to ``step(state, batch,
            axis_name=...)``.
        numbers: value of each varied field, per member.
        mapping: transformation that maps over the members; see `best_mapping`.

    Returns:
        ``step(state, batch, axis_name=...)`` on stacked states and batches. Each metric has a
        leading axis over the members.
    """
    numbers = dict(numbers)

    def step(state: TrainState, batch: Batch, *, axis_name: str | None = None):
        members = jnp.arange(len(state.step))

        def of_member(state, member):
            own_batch = _index(batch, member % batch.mask.shape[1], axis=1)
            return make_step(_index(numbers, member))(state, own_batch, axis_name=axis_name)

        def scan_body(states, member):
            new, metrics = of_member(_index(states, member), member)
            return jax.tree.map(partial(_update, member), states, new), metrics

        if mapping == "vmap":
            # All members are at the same step, so branches on it need not become selects.
            axes = state.replace(**dict.fromkeys(vars(state), 0) | {"step": None})
            of_members = jax.vmap(of_member, in_axes=(axes, 0), out_axes=(axes, 0))
            new, metrics = of_members(state.replace(step=state.step[0]), members)
            return new.replace(step=jnp.broadcast_to(new.step, state.step.shape)), metrics
        return jax.lax.scan(scan_body, state, members, unroll=mapping == "unroll")

    return step


def best_mapping(platform: str, params: PyTree) -> MemberMapping:
    """Chooses how to map over members on devices of a platform.

    ``jax.vmap`` fills an accelerator. One member already occupies a CPU, and its arrays stay in the
    cache, while the arrays of all members would be allocated anew in each step; members therefore
    take turns, with ``jax.lax.scan``. XLA's convolutions are many times slower inside its loop, so
    the loop of a convolutional network is unrolled, and compiles that many times as long.

    Args:
        platform: ``"cpu"``, ``"gpu"`` or ``"tpu"``.
        params: parameters of the model.

    Example:
        >>> best_mapping("cpu", {"kernel": np.ones((3, 3, 1, 8))})
        'unroll'
    """
    if platform != "cpu":
        return "vmap"
    return "unroll" if any(leaf.ndim == 4 for leaf in jax.tree.leaves(params)) else "scan"


def _index(tree: PyTree, index: Int[Array, ""], axis: int = 0) -> PyTree:
    return jax.tree.map(
        lambda leaf: jax.lax.dynamic_index_in_dim(jnp.asarray(leaf), index, axis, keepdims=False),
        tree,
    )


_index_jitted = jax.jit(_index)


def _update(index: Int[Array, ""], leaf: Shaped[Array, "members ..."], new: Shaped[Array, "..."]):
    return jax.lax.dynamic_update_index_in_dim(leaf, new, index, 0)


class StackedBatches(Iterator[Batch]):
    """Stacks the batches of several seeds, [rows, seeds, ...].

    Args:
        batches: one iterator of batches per seed.
    """

    def __init__(self, batches: Sequence[Iterator[Batch]]):
        self._batches = batches

    def __next__(self) -> Batch:
        batches = [next(batches) for batches in self._batches]
        return jax.tree.map(lambda *rows: np.stack(rows, axis=1), *batches)


class MemberMonitor:
    """Detects members that diverge or collapse, from the records of the steps.

    The state follows from the records, so a resumed sweep passes the records it has.

    Args:
        members: the members, in the order of the lists in a record.
        bits: length of a code.
        rows: rows of a batch.
        stops: whether the training ends once every member has diverged.
        records: earlier records of the sweep's metrics.jsonl.

    Attributes:
        diverged: per member, the first step with a metric that is not finite, or None.
        alarms: per member, its collapse alarm.
        changed: as of `jaxhash.training.loop.Monitor`.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        bits: int,
        rows: int,
        stops: bool = True,
        records: Iterable[dict[str, Any]] = (),
    ):
        self.diverged: list[int | None] = [None] * len(members)
        self.alarms = [CollapseAlarm(bits=bits, rows=rows) for _ in members]
        self._members, self._stops, self.changed = members, stops, False
        for record in records:
            self(record["step"], record)

    def __call__(self, step: int, metrics: dict[str, Any]) -> str | None:
        """Returns one log line per member that diverged or collapsed at this step, or None.

        Raises:
            UserError: if every member has diverged, and that ends the training.
        """
        lists = {name: value for name, value in metrics.items() if isinstance(value, list)}
        lines = []
        self.changed = False
        for number, member in enumerate(self._members):
            if self.diverged[number] is not None:
                continue
            own = {name: values[number] for name, values in lists.items()}
            non_finite = [name for name, value in own.items() if value is None]
            if non_finite:
                self.diverged[number], self.changed = step, True
                lines.append(
                    f"warning: step {step}: {member.name} diverged: "
                    f"{', '.join(non_finite)} not finite"
                )
            elif warning := self.alarms[number].update(step, own):
                lines.append(f"{member.name}: warning: step {step}: {warning}")
            self.changed |= self.alarms[number].changed
        if self._stops and None not in self.diverged:
            raise UserError(ALL_DIVERGED_ERROR.format(step))
        return "\n".join(lines) or None
