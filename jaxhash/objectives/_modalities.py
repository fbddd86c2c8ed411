"""Methods of one modality on codes of several: `cross_modal`."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree, Shaped

from jaxhash.objectives._base import Batch, Objective, Setup, TableSharding

__all__ = ["cross_modal"]


def cross_modal(objective: Objective, *, modalities: int = 2) -> Objective:
    """Returns an objective of one modality as an objective of several, whose codes are a tuple.

    The rows of all modalities are one batch: the body of a document and its title are two rows of the
    same labels. A pairwise method thus compares each item with every other in its own and in the other
    modality, and with itself in the other one; a method of centers or of a classifier brings all
    modalities to the same centers. Tables of items have a row for each modality of an item. An
    objective of two views takes two modalities as the views. What accepts any number of views, such
    as a quantizer, is returned as it is.

    The row of item i in modality m is row ``modalities * i + m``, so the order of the rows, which ties
    are broken by, is the same on any number of devices. This reading is ours: no paper of a method of
    one modality says it.

    Args:
        objective: the objective; one that reads the inputs is refused when it is first used.
        modalities: number of modalities.

    Raises:
        ValueError: if the objective compares another number of views.

    Example:
        >>> from jaxhash.objectives import combine, dch, hswd, weighted
        >>> both = combine(cross_modal(dch()), weighted(0.1, hswd()))
    """
    if objective.any_views:
        return objective
    if objective.views > 1:
        if objective.views != modalities:
            raise ValueError(
                f"it compares {objective.views} views, and {modalities} modalities are no such views"
            )
        return _views_of_modalities(objective)

    def init(key, setup: Setup):
        similarity = setup.class_similarity
        if similarity.embeddings is not None:
            embeddings = jnp.repeat(jnp.asarray(similarity.embeddings), modalities, axis=0)
            similarity = similarity._replace(embeddings=embeddings)
        return objective.init(
            key,
            setup._replace(
                items=modalities * setup.items,
                inputs=_NoInputs(),
                class_similarity=similarity,
                table_sharding=_of_rows(setup.table_sharding, modalities),
            ),
        )

    def loss(variables, codes, batch: Batch, context):
        def row_of(item):
            rows = modalities * item + jnp.arange(modalities)[None, :]
            return jnp.where(item < 0, -1, rows).reshape(-1)  # -1 is padding

        merged = batch._replace(
            inputs=_NoInputs(),
            labels=None if batch.labels is None else _repeat(batch.labels, modalities),
            index=None if batch.index is None else row_of(jnp.asarray(batch.index)[:, None]),
            mask=_repeat(batch.mask, modalities),
        )
        sharding = _of_rows(context.table_sharding, modalities)
        return objective.loss(
            variables, merge_rows(codes), merged, context._replace(table_sharding=sharding)
        )

    return Objective(init, loss)


def merge_rows(codes: PyTree[Float[Array, "n bits"]]) -> Float[Array, "m bits"]:
    """Returns the codes of all modalities as one batch, the modalities of an item beside one another.

    Example:
        >>> merge_rows((jnp.array([[1.0], [2.0]]), jnp.array([[3.0], [4.0]]))).ravel().tolist()
        [1.0, 3.0, 2.0, 4.0]
    """
    stacked = jnp.stack(jax.tree.leaves(codes), axis=1)
    return stacked.reshape(-1, stacked.shape[2])


def _views_of_modalities(objective: Objective) -> Objective:
    """Returns an objective of several views of the codes as one of as many modalities."""

    def init(key, setup):
        return objective.init(key, setup._replace(inputs=_NoInputs()))

    def loss(variables, codes, batch, context):
        return objective.loss(variables, codes, batch._replace(inputs=_NoInputs()), context)

    return Objective(init, loss)


def _repeat(rows: Shaped[Any, "n ..."], times: int) -> Shaped[Array, "m ..."]:
    """Returns each row so many times in succession, without an index that a mesh would have to move."""
    rows = jnp.asarray(rows)
    repeated = jnp.broadcast_to(rows[:, None], (len(rows), times, *rows.shape[1:]))
    return repeated.reshape(-1, *rows.shape[1:])


def _of_rows(sharding: TableSharding, modalities: int) -> TableSharding:
    items = sharding.items
    return sharding._replace(items=None if items is None else modalities * items)


@jax.tree_util.register_pytree_node_class
class _NoInputs:
    """Inputs that a method must not read, since those of two modalities are no rows of one array."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ValueError("it reads the inputs, and those of several modalities are no single array")

    def tree_flatten(self) -> tuple[tuple, None]:
        """Returns that there are no arrays."""
        return (), None

    @classmethod
    def tree_unflatten(cls, aux: None, children: tuple) -> "_NoInputs":
        """Returns such inputs again."""
        return cls()
