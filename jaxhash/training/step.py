"""One step of training, as a pure function of state and batch."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax.errors import ModifyScopeVariableError
from jax import lax
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int, Key, PyTree

from jaxhash.models._base import of_rows
from jaxhash.objectives import Batch, Context, Objective, TableSharding, Variables
from jaxhash.ops.meshes import on_any_mesh, specs_of
from jaxhash.training.collapse import code_metrics
from jaxhash.training.gradient_cache import gradient_cache
from jaxhash.training.state import TrainState


def _as_before(state: TrainState, batch: Batch, **options) -> tuple[PyTree, PartitionSpec]:
    """How the results of a step lie: the state where it lay, the metrics whole everywhere."""
    return specs_of(state), PartitionSpec()


@on_any_mesh(out_specs=_as_before)
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
) -> tuple[TrainState, dict[str, Array]]:
    """Encode the batch, differentiate the objective, update parameters and memory.

    With ``axis_name`` the batch is one device's rows and the state is the same on all devices; the
    new state then equals that of a single step on the whole batch. The gradient taken is that of
    this device's share of the loss, and shares are summed, never averaged. Only ``jax.pmap``, or
    ``jax.shard_map(..., check_vma=False)``, may map this function: under the default ``check_vma``
    JAX sums the gradients by itself and they would be counted once more for each device.

    Args:
        state: the state before the step.
        batch: rows, of which those with ``mask`` False are padding.
        model: module from inputs to codes with an attribute ``axis_name``. If its call has an
            argument ``rows``, it gets the items of the batch, on which random draws such as dropout
            are to depend, and on nothing of the devices or chunks that hold the batch. (That of
            ``flax.linen.Dropout`` depends on them.)
        objective: what is minimized.
        optimizer: the transformation that ``state.opt_state`` belongs to.
        steps_per_epoch: length of an epoch.
        total_steps: length of the training, which progress is measured against.
        skip_broken: drop an update whose loss or gradient is not finite: all but the number of the
            step stays as it is.
        prepare: from the inputs of the batch to those of the model, such as an augmentation.
        micro_batch_size: rows that are encoded at a time; see `jaxhash.training.gradient_cache.gradient_cache`.
        axis_name: mapped axis that the batch is spread over.
        table_sharding: of which of the objective's tables a device has its own rows only.

    Returns:
        The next state; and of the whole batch the loss, its terms, the norm of the gradient and, of
        codes that are one array, or of the first of several views, the
        `jaxhash.training.collapse.code_metrics`. With ``skip_broken`` also ``skipped``, 1 where the
        update is dropped.

    Raises:
        ValueError: if the objective logs a term of a name that is used here; or if the model takes
            statistics of the batch, which chunks do not have.
    """
    model = model.clone(axis_name=axis_name)
    batch = batch._replace(inputs=prepare(batch.inputs))
    moment = _moment(state, steps_per_epoch, total_steps)

    def loss_fn(params):
        variables = {"params": params["model"], "batch_stats": state.batch_stats}
        codes, batch_stats = _encode(model, variables, batch, moment["key"], micro_batch_size)
        context = Context(
            variables=variables,
            encode=model.apply,
            axis_name=axis_name,
            table_sharding=table_sharding,
            **moment,
        )
        mine = Variables(params["objective"], state.objective_state)
        loss = objective.loss(mine, codes, batch, context)
        return loss.value, (loss, codes, batch_stats)

    grads, (loss, codes, batch_stats) = jax.grad(loss_fn, has_aux=True)(state.params)
    if axis_name is not None:
        grads = lax.psum(grads, axis_name)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    metrics = {
        "loss": loss.value,
        "grad_norm": optax.global_norm(grads),
        **code_metrics(
            codes if objective.views == 1 else codes[0], batch.mask, axis_name=axis_name
        ),
    }
    sound = jnp.isfinite(loss.value) & jnp.isfinite(metrics["grad_norm"])
    if skip_broken:
        metrics["skipped"] = 1 - sound.astype(jnp.int32)
    taken = sorted(metrics.keys() & loss.terms.keys())
    if taken:
        raise ValueError(f"the objective logs {taken}, names of metrics of the step")
    metrics |= loss.terms
    changed = {
        "params": optax.apply_updates(state.params, updates),
        "batch_stats": batch_stats,
        "objective_state": loss.state,
        "opt_state": opt_state,
    }
    if skip_broken:
        before = {name: getattr(state, name) for name in changed}
        changed = jax.tree.map(lambda new, old: jnp.where(sound, new, old), changed, before)
    return state.replace(step=state.step + 1, **changed), metrics


def loss_step(
    state: TrainState,
    batch: Batch,
    *,
    objective: Objective,
    bits: int,
    encode: Callable[..., PyTree],
    steps_per_epoch: int,
    total_steps: int,
    prepare: Callable[[PyTree], PyTree] = lambda inputs: inputs,
    axis_name: str | None = None,
    table_sharding: TableSharding = TableSharding(),  # noqa: B008
) -> tuple[TrainState, dict[str, Array]]:
    """The objective and its gradient in codes and in its own parameters, to be timed by itself.

    Codes are random, and of the state only the objective's changes. The arguments are those of
    `train_step`; inputs that the objective does not look at are not prepared, for XLA leaves out
    what nobody needs.
    """
    batch = batch._replace(inputs=prepare(batch.inputs))
    moment = _moment(state, steps_per_epoch, total_steps)
    context = Context(
        variables=state.variables,
        encode=encode,
        axis_name=axis_name,
        table_sharding=table_sharding,
        **moment,
    )
    keys = jax.random.split(context.key, objective.views)
    codes = tuple(_normal_of_items(key, jnp.asarray(batch.index), bits) for key in keys)

    def loss_fn(codes, params):
        codes = codes if objective.views > 1 else codes[0]
        mine = Variables(params, state.objective_state)
        loss = objective.loss(mine, codes, batch, context)
        return loss.value, loss

    grads, loss = jax.grad(loss_fn, argnums=(0, 1), has_aux=True)(codes, state.params["objective"])
    total = jax.tree.reduce(lambda total, grad: total + jnp.sum(grad), grads, jnp.float32(0))
    if axis_name is not None:
        total = lax.psum(total, axis_name)
    return state.replace(objective_state=loss.state), {"loss": loss.value, "grad_sum": total}


def _normal_of_items(
    key: Key[Array, ""], index: Int[Array, " n"], bits: int
) -> Float[Array, "n bits"]:
    """Normal codes, of which no two devices have the same."""
    return jax.vmap(lambda item: jax.random.normal(jax.random.fold_in(key, item), (bits,)))(index)


def _moment(state: TrainState, steps_per_epoch: int, total_steps: int) -> dict[str, Array]:
    """What a `Context` says of the time of the step."""
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
    """The codes of a batch in training, and the statistics of batch normalization after it.

    Linen hashes a module's path into the key of dropout: no draw is shared. A model that does not
    know its rows draws by their place, so that each chunk needs another key.
    """
    if micro_batch_size is None or micro_batch_size >= len(batch.mask):
        codes, updates = model.apply(
            variables,
            batch.inputs,
            train=True,
            mask=batch.mask,
            mutable=["batch_stats"],
            rngs={"dropout": key},
            **of_rows(model, batch.index),
        )
        return codes, updates.get("batch_stats", {})

    def of_chunk(number, rows):
        inputs, mask, index = rows
        known = of_rows(model, index)
        rngs = {"dropout": key if known else jax.random.fold_in(key, number)}
        return model.apply(variables, inputs, train=True, mask=mask, rngs=rngs, **known)

    try:
        codes = gradient_cache(of_chunk, (batch.inputs, batch.mask, batch.index), micro_batch_size)
    except ModifyScopeVariableError as error:
        raise ValueError(
            "batch normalization takes statistics of the whole batch, which chunks do not have; it "
            "can be frozen"
        ) from error
    return codes, variables["batch_stats"]
