"""Everything that changes during training, as one tree."""

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
    """Parameters, statistics, memory, optimizer state and randomness: all that a checkpoint holds.

    As JAX maps over it, its leaves may also be shapes, shardings or paths, so they have no type.

    Attributes:
        step: steps done.
        key: where the randomness of all steps comes from.
        params: ``model`` and ``objective``, both trained by the optimizer.
        batch_stats: statistics of batch normalization.
        objective_state: memory of the objective.
        opt_state: memory of the optimizer.
    """

    step: Any
    key: Any
    params: Any
    batch_stats: Any
    objective_state: Any
    opt_state: Any

    @property
    def variables(self) -> dict[str, PyTree]:
        """The model's variables, as Linen's ``apply`` takes them."""
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
    """The state before the first step.

    Args:
        key: all randomness of the training comes from here.
        inputs: a batch of inputs, for their shapes.
        model: from inputs to codes; see `jaxhash.models.Encoder`.
        objective: what is minimized.
        optimizer: any optax transformation.
        items: size of the training set.
        classes: number of classes.
        multi_label: whether labels are multi-hot rows.
        class_similarity: what is known of the meaning of classes or images.
        pretrained: variables of the backbone of an `Encoder`, by `jaxhash.models.load_weights`;
            drawn at random if not given.
        table_sharding: which of the objective's tables have rows of padding, to be spread over devices.
    """
    model_key, objective_key, run_key = jax.random.split(key, 3)
    codes, variables = model.init_with_output(model_key, inputs)
    for collection, weights in (pretrained or {}).items():
        variables[collection] |= {"backbone": weights}
    bits = jax.tree.leaves(codes)[0].shape[-1]
    made = objective.init(
        objective_key,
        Setup(
            bits, items, classes, multi_label, inputs, variables, class_similarity, table_sharding
        ),
    )
    params = {"model": variables["params"], "objective": made.params}
    return TrainState(
        step=jnp.int32(0),
        key=run_key,
        params=params,
        batch_stats=variables.get("batch_stats", {}),
        objective_state=made.state,
        opt_state=optimizer.init(params),
    )
