"""The training state: everything that changes during training, as one pytree."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Key, PyTree

from jaxhash.objectives import ClassSimilarity, Objective, Setup, TableSharding


@flax.struct.dataclass
class TrainState:
    """Parameters, batch statistics, objective state, optimizer state and random key.

    A checkpoint holds exactly this. The fields have no type, since JAX also maps the state to trees
    of shapes, shardings or paths.

    Attributes:
        step: number of steps done.
        key: random key from which each step derives its own.
        params: parameters of ``model`` and ``objective``, which the optimizer trains.
        batch_stats: running statistics of batch normalization.
        objective_state: state of the objective, such as a memory bank.
        opt_state: state of the optimizer.
    """

    step: Any
    key: Any
    params: Any
    batch_stats: Any
    objective_state: Any
    opt_state: Any

    @property
    def variables(self) -> dict[str, PyTree]:
        """The model's variables, as ``flax.linen.Module.apply`` takes them."""
        return {"params": self.params["model"], "batch_stats": self.batch_stats}


def create_state(
    key: Key[Array, ""],
    inputs: PyTree,
    *,
    model: nn.Module,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    items: int,
    classes: int,
    multi_label: bool = False,
    class_similarity: ClassSimilarity = ClassSimilarity(),  # noqa: B008
    pretrained: dict[str, PyTree] | None = None,
    table_sharding: TableSharding = TableSharding(),  # noqa: B008
) -> TrainState:
    """Creates the state before the first step.

    Args:
        key: random key of the whole training.
        inputs: a batch of inputs; only their shapes and dtypes matter.
        model: module from inputs to codes; see `jaxhash.models.Encoder`.
        objective: objective to minimize.
        optimizer: any optax transformation.
        items: number of training items.
        classes: number of classes.
        multi_label: whether labels are multi-hot rows.
        class_similarity: distances between classes, their hierarchy, or embeddings of images.
        pretrained: variables for the backbone of an `Encoder`, from `jaxhash.models.load_weights`;
            initialized at random if None.
        table_sharding: tables of the objective that get rows of padding, so that their rows can be
            sharded over devices.
    """
    model_key, objective_key, run_key = jax.random.split(key, 3)
    codes, variables = model.init_with_output(model_key, inputs)
    for collection, weights in (pretrained or {}).items():
        variables[collection] |= {"backbone": weights}
    bits = jax.tree.leaves(codes)[0].shape[-1]
    objective_variables = objective.init(
        objective_key,
        Setup(
            bits,
            items,
            classes,
            multi_label,
            inputs,
            variables,
            class_similarity,
            table_sharding,
            encode=model.apply,
        ),
    )
    params = {"model": variables["params"], "objective": objective_variables.params}
    return TrainState(
        step=jnp.int32(0),
        key=run_key,
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        objective_state=objective_variables.state,
        opt_state=optimizer.init(params),
    )
