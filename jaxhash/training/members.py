"""Many trainings in one compiled program: the members of a sweep, by setting and by seed.

A state of all members has a leading axis over them, [settings * seeds], the seeds of a setting side
by side. A batch of all seeds has its second axis over them, [rows, seeds, ...], so that its rows can
be spread over devices; the settings see the same batch of a seed, which is not copied for them.
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

#: What is said of a sweep that has nothing left to train.
ALL_DIVERGED_ERROR = (
    "training stopped at step {}: every member of the sweep has diverged; a lower --learning-rate "
    "or --clip-norm may help"
)

MemberMapping = Literal["vmap", "scan", "unroll"]


@dataclasses.dataclass(frozen=True)
class Member:
    """One training of a sweep."""

    seed: int
    setting: Mapping[str, float]

    @property
    def name(self) -> str:
        """Its seed and its numbers, in words."""
        return ", ".join(filter(None, [f"seed {self.seed}", setting_name(self.setting)]))

    @property
    def folder(self) -> str:
        """The name of its folder in that of the sweep.

        Example:
            >>> Member(3, {"quantizer_weight": 0.1, "clip_norm": 2.0}).folder
            'seed3-quantizer-weight0.1-clip-norm2.0'
        """
        numbers = [f"{name.replace('_', '-')}{float(v)!r}" for name, v in self.setting.items()]
        return "-".join([f"seed{self.seed}", *numbers])


def setting_name(values: Mapping[str, float]) -> str:
    """The numbers of a setting in words; nothing where nothing is varied.

    Example:
        >>> setting_name({"quantizer_weight": 0.1, "learning_rate": 1e-3})
        'quantizer-weight 0.1, learning-rate 0.001'
    """
    return ", ".join(f"{name.replace('_', '-')} {value:g}" for name, value in values.items())


def stack_states(states: Iterable[TrainState], settings: int) -> TrainState:
    """The state of all members, each setting of a seed with the seed's state."""

    @jax.jit
    def stack(states):
        return jax.tree.map(lambda *leaves: jnp.stack(leaves * settings), *states)

    return stack(list(states))


def member_state(state: TrainState, number: int) -> TrainState:
    """The state of one member, on the host; the others stay where they are."""
    return jax.device_get(_take(state, number))


def drop_zero_penalty(state: TrainState, like: TrainState) -> TrainState:
    """A member's state in the form of its own run, which leaves out a penalty of weight 0.

    A weight that is varied leaves nothing out, so the member has a state of the penalty too, and one
    that its method shares with no penalty lies a level deeper there.

    Args:
        state: the member's.
        like: the state of its own run before the first step; what the member has nothing of is its.
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
    """One step of all members, to be lifted over devices as the step of one is.

    Args:
        make_step: from the numbers of a member, traced, to ``step(state, batch, axis_name=...)``.
        numbers: of each name its value for each member.
        mapping: how the members are mapped over; see `best_mapping`.

    Returns:
        ``step(state, batch, axis_name=...)`` of states and batches as this module has them. Each
        metric has an axis over the members.
    """
    numbers = dict(numbers)

    def step(state: TrainState, batch: Batch, *, axis_name: str | None = None):
        members = jnp.arange(len(state.step))

        def of_member(state, member):
            mine = _at(batch, member % batch.mask.shape[1], axis=1)
            return make_step(_at(numbers, member))(state, mine, axis_name=axis_name)

        def in_turn(states, member):
            new, metrics = of_member(_at(states, member), member)
            return jax.tree.map(partial(_put, member), states, new), metrics

        if mapping == "vmap":
            # The members have done as many steps, and what hangs on that number is done for all.
            axes = state.replace(**dict.fromkeys(vars(state), 0) | {"step": None})
            of_members = jax.vmap(of_member, in_axes=(axes, 0), out_axes=(axes, 0))
            new, metrics = of_members(state.replace(step=state.step[0]), members)
            return new.replace(step=jnp.broadcast_to(new.step, state.step.shape)), metrics
        return jax.lax.scan(in_turn, state, members, unroll=mapping == "unroll")

    return step


def best_mapping(platform: str, params: PyTree) -> MemberMapping:
    """How to map over members on devices of a platform.

    ``jax.vmap`` fills an accelerator. A CPU is busy with one member already, whose arrays stay in
    its cache, while those of all members would have to be allocated anew in each step: there they
    take turns, by ``jax.lax.scan``. XLA's convolutions are many times slower in the loop that this
    becomes, so a network that has any is unrolled, and takes as many times as long to compile.

    Example:
        >>> best_mapping("cpu", {"kernel": np.ones((3, 3, 1, 8))})
        'unroll'
    """
    if platform != "cpu":
        return "vmap"
    return "unroll" if any(leaf.ndim == 4 for leaf in jax.tree.leaves(params)) else "scan"


def _at(tree: PyTree, index: Int[Array, ""], axis: int = 0) -> PyTree:
    return jax.tree.map(
        lambda leaf: jax.lax.dynamic_index_in_dim(jnp.asarray(leaf), index, axis, keepdims=False),
        tree,
    )


_take = jax.jit(_at)


def _put(index: Int[Array, ""], leaf: Shaped[Array, "members ..."], new: Shaped[Array, "..."]):
    return jax.lax.dynamic_update_index_in_dim(leaf, new, index, 0)


class StackedBatches(Iterator[Batch]):
    """The batches of several seeds side by side, [rows, seeds, ...].

    Args:
        batches: the batches of each seed.
    """

    def __init__(self, batches: Sequence[Iterator[Batch]]):
        self._batches = batches

    def __next__(self) -> Batch:
        batches = [next(batches) for batches in self._batches]
        return jax.tree.map(lambda *rows: np.stack(rows, axis=1), *batches)


class MemberMonitor:
    """Notices which members diverge or collapse, from the records of the steps.

    All there is to know follows from the records, so a sweep that goes on is given those it has.

    Args:
        members: the members, in the order of the records' lists.
        bits: length of a code.
        rows: rows of a batch.
        records: what is in the sweep's metrics.jsonl already.

    Attributes:
        diverged: of each member the first step with a metric that is not finite, or None.
        alarms: of each member its collapse alarm.

    Raises:
        UserError: by a call, if every member has diverged.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        bits: int,
        rows: int,
        records: Iterable[dict[str, Any]] = (),
    ):
        self.diverged: list[int | None] = [None] * len(members)
        self.alarms = [CollapseAlarm(bits=bits, rows=rows) for _ in members]
        self._members = members
        for record in records:
            self(record["step"], record)

    def __call__(self, step: int, metrics: dict[str, Any]) -> str | None:
        """What the log has to say of this step, a line for each member that something befell."""
        lists = {name: value for name, value in metrics.items() if isinstance(value, list)}
        lines = []
        for number, member in enumerate(self._members):
            if self.diverged[number] is not None:
                continue
            mine = {name: values[number] for name, values in lists.items()}
            broken = [name for name, value in mine.items() if value is None]
            if broken:
                self.diverged[number] = step
                lines.append(
                    f"warning: step {step}: {member.name} diverged: {', '.join(broken)} not finite"
                )
            elif warning := self.alarms[number].update(step, mine):
                lines.append(f"{member.name}: warning: step {step}: {warning}")
        if None not in self.diverged:
            raise UserError(ALL_DIVERGED_ERROR.format(step))
        return "\n".join(lines) or None
