"""The training step, a pure function of a state and a batch."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.errors import ModifyScopeVariableError
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxhash.models._base import rows_argument
from jaxhash.objectives import Batch, Context, Objective, TableSharding, Variables
from jaxhash.ops.meshes import on_any_mesh, row_groups, specs_of
from jaxhash.training.collapse import code_metrics
from jaxhash.training.gradient_cache import gradient_cache
from jaxhash.training.state import TrainState


def _output_shardings(state: TrainState, batch: Batch, **options) -> tuple[PyTree, PartitionSpec]:
    """Returns the shardings of a step's results: those of the state, and replicated metrics."""
    return specs_of(state), PartitionSpec()


def _leave_rows(codes: PyTree, batch: Batch) -> tuple[PyTree, Batch]:
    """Leaves codes and batch where they are."""
    return codes, batch


@on_any_mesh(out_specs=_output_shardings)
def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: nn.Module,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    steps_per_epoch: int,
    total_steps: int,
    skip_broken: bool = False,
    prepare: Callable[[PyTree], PyTree] = lambda inputs: inputs,
    micro_batch_size: int | None = None,
    axis_name: str | None = None,
    table_sharding: TableSharding = TableSharding(),  # noqa: B008
    gathered: Callable[[Callable], Callable] = lambda loss_fn: loss_fn,
    place_rows: Callable[[PyTree, Batch], tuple[PyTree, Batch]] = _leave_rows,
) -> tuple[TrainState, dict[str, Array]]:
    """Encodes a batch, differentiates the objective, and updates the state.

    With ``axis_name`` the batch holds the rows of one device and the state is the same on all
    devices; the new state equals that of a single-device step on the whole batch. Each device
    differentiates its share of the loss, and the gradients are summed over devices, not averaged.
    Only ``jax.pmap`` or ``jax.shard_map(..., check_vma=False)`` may map this function: with the
    default ``check_vma`` JAX sums the gradients itself, and each device would count them once more.

    Args:
        state: state before the step.
        batch: batch of n rows; rows with ``mask`` False are padding.
        model: module from inputs to codes, with an attribute ``axis_name``. If its ``__call__``
            takes ``rows``, it receives the item numbers of the batch, so that random draws such as
            dropout can depend on the item only, not on the devices or micro-batches that hold the
            batch. (``flax.linen.Dropout`` depends on both.)
        objective: objective to minimize.
        optimizer: transformation whose state is ``state.opt_state``.
        steps_per_epoch: number of steps of an epoch.
        total_steps: number of steps of the training, the denominator of the progress.
        skip_broken: whether to drop an update with a loss or gradient that is not finite; then only
            ``step`` changes.
        prepare: function from the inputs of the batch to those of the model, such as an
            augmentation.
        micro_batch_size: number of rows to encode at a time, see
            `jaxhash.training.gradient_cache.gradient_cache`; None for all.
        axis_name: mapped axis over which the batch is sharded.
        table_sharding: tables of the objective of which a device holds its own rows only.
        gathered: turns a loss of whole parameters into one of sharded parameters, see
            `jaxhash.training.parallel.gathered`.
        place_rows: moves codes and batch to where the objective needs them, see
            `jaxhash.training.parallel.class_tables`.

    Returns:
        The next state, and metrics of the whole batch: the loss, its terms, the norm of the
        gradient, and the `jaxhash.training.collapse.code_metrics` of the codes or of the first
        view or modality. With ``skip_broken`` also ``skipped``, 1 if the update was dropped and 0
        otherwise.

    Raises:
        ValueError: if a term of the objective has the name of another metric; or if
            ``micro_batch_size`` is given and the model computes statistics of the batch.
    """
    model = model.clone(axis_name=axis_name)
    batch = batch._replace(inputs=prepare(batch.inputs))
    schedule = _schedule_fields(state, steps_per_epoch, total_steps)

    def loss_fn(params):
        variables = {"params": params["model"], "batch_stats": state.batch_stats}
        codes, batch_stats = _encode(model, variables, batch, schedule["key"], micro_batch_size)
        context = Context(
            variables=variables,
            encode=model.apply,
            axis_name=axis_name,
            table_sharding=table_sharding,
            **schedule,
        )
        objective_variables = Variables(params["objective"], state.objective_state)
        loss = objective.loss(objective_variables, *place_rows(codes, batch), context)
        return loss.value, (loss, codes, batch_stats)

    grads, (loss, codes, batch_stats) = jax.grad(gathered(loss_fn), has_aux=True)(state.params)
    if axis_name is not None:
        grads = lax.psum(grads, axis_name)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    metrics = {
        "loss": loss.value,
        "grad_norm": optax.global_norm(grads),
        **code_metrics(
            codes[0] if isinstance(codes, tuple) else codes, batch.mask, axis_name=axis_name
        ),
    }
    is_finite = jnp.isfinite(loss.value) & jnp.isfinite(metrics["grad_norm"])
    if skip_broken:
        metrics["skipped"] = 1 - is_finite.astype(jnp.int32)
    clashes = sorted(metrics.keys() & loss.terms.keys())
    if clashes:
        raise ValueError(f"terms of the objective have names of metrics of the step: {clashes}")
    metrics |= loss.terms
    new_state = {
        "params": optax.apply_updates(state.params, updates),
        "batch_stats": batch_stats,
        "objective_state": loss.state,
        "opt_state": opt_state,
    }
    if skip_broken:
        before = {name: getattr(state, name) for name in new_state}
        new_state = jax.tree.map(lambda new, old: jnp.where(is_finite, new, old), new_state, before)
    return state.replace(step=state.step + 1, **new_state), metrics


def loss_step(
    state: TrainState,
    batch: Batch,
    *,
    objective: Objective,
    bits: int,
    encode: Callable[..., PyTree],
    steps_per_epoch: int,
    total_steps: int,
    modalities: int = 0,
    prepare: Callable[[PyTree], PyTree] = lambda inputs: inputs,
    axis_name: str | None = None,
    table_sharding: TableSharding = TableSharding(),  # noqa: B008
    gathered: Callable[[Callable], Callable] = lambda loss_fn: loss_fn,
    place_rows: Callable[[PyTree, Batch], tuple[PyTree, Batch]] = _leave_rows,
) -> tuple[TrainState, dict[str, Array]]:
    """Computes the objective and its gradient without the model, so that they can be timed.

    The gradient is taken with respect to random codes and the parameters of the objective. Only
    ``state.objective_state`` changes. XLA removes the preparation of inputs that the objective does
    not use.

    Args:
        state: state before the step.
        batch: batch of n rows.
        objective: objective to time.
        bits: length of a code.
        encode: ``apply`` of the model, for objectives that encode by themselves.
        steps_per_epoch: number of steps of an epoch.
        total_steps: number of steps of the training.
        modalities: number of codes of an item, where the model has several modalities.
        prepare: function from the inputs of the batch to those of the model.
        axis_name: mapped axis over which the batch is sharded.
        table_sharding: tables of the objective of which a device holds its own rows only.
        gathered: see `train_step`; for the parameters of the objective.
        place_rows: see `train_step`.

    Returns:
        The next state, and ``loss`` and ``grad_sum``, the sum of all entries of the gradient.
    """
    batch = batch._replace(inputs=prepare(batch.inputs))
    schedule = _schedule_fields(state, steps_per_epoch, total_steps)
    context = Context(
        variables=state.variables,
        encode=encode,
        axis_name=axis_name,
        table_sharding=table_sharding,
        **schedule,
    )
    keys = jax.random.split(context.key, max(objective.views, modalities))
    codes = tuple(_normal_codes(key, jnp.asarray(batch.index), bits) for key in keys)

    def loss_fn(codes, params):
        codes = codes if len(codes) > 1 else codes[0]

        def of_params(params):
            objective_variables = Variables(params["objective"], state.objective_state)
            loss = objective.loss(objective_variables, *place_rows(codes, batch), context)
            return loss.value, loss

        return gathered(of_params)({"objective": params})

    grads, loss = jax.grad(loss_fn, argnums=(0, 1), has_aux=True)(codes, state.params["objective"])
    total = jax.tree.reduce(lambda total, grad: total + jnp.sum(grad), grads, jnp.float32(0))
    if axis_name is not None:
        total = lax.psum(total, axis_name)
    return state.replace(objective_state=loss.state), {"loss": loss.value, "grad_sum": total}


def _normal_codes(
    key: Key[Array, ""], index: Int[Array, " n"], bits: int
) -> Float[Array, "n bits"]:
    """Draws a normal code per item; devices draw different codes, since items differ."""
    return jax.vmap(lambda item: jax.random.normal(jax.random.fold_in(key, item), (bits,)))(index)


def _schedule_fields(state: TrainState, steps_per_epoch: int, total_steps: int) -> dict[str, Array]:
    """Returns the fields of `Context` that depend on the step."""
    return {
        "key": jax.random.fold_in(state.key, state.step),
        "progress": state.step / total_steps,
        "new_epoch": (state.step > 0) & (state.step % steps_per_epoch == 0),
    }


def _encode(
    model: nn.Module,
    variables: dict[str, PyTree],
    batch: Batch,
    key: Key[Array, ""],
    micro_batch_size: int | None,
) -> tuple[PyTree, PyTree]:
    """Encodes a batch in training mode; returns codes and updated batch statistics.

    Linen folds the path of a module into the dropout key, so modules share no draws. A model
    without ``rows`` draws by position in the batch, so each micro-batch needs a key of its own.
    """
    rows = len(batch.mask)
    if micro_batch_size is None or micro_batch_size * row_groups(rows) >= rows:
        codes, updates = model.apply(
            variables,
            batch.inputs,
            train=True,
            mask=batch.mask,
            mutable=["batch_stats"],
            rngs={"dropout": key},
            **rows_argument(model, batch.index),
        )
        return codes, updates.get("batch_stats", {})

    def encode_micro_batch(number, rows):
        inputs, mask, index = rows
        arguments = rows_argument(model, index)
        rngs = {"dropout": key if arguments else jax.random.fold_in(key, number)}
        return model.apply(variables, inputs, train=True, mask=mask, rngs=rngs, **arguments)

    try:
        codes = gradient_cache(
            encode_micro_batch, (batch.inputs, batch.mask, batch.index), micro_batch_size
        )
    except ModifyScopeVariableError as error:
        raise ValueError(
            "batch normalization needs statistics of the whole batch, which micro-batches do not "
            "have; freeze it"
        ) from error
    return codes, variables["batch_stats"]
