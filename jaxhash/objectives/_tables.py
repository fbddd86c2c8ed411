"""Tables with a row for each training image or class, whose rows may be spread over devices."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree, Shaped

from jaxhash.objectives._base import Batch, Context, TableSharding
from jaxhash.ops.codebooks import sum_over_labels
from jaxhash.ops.collectives import row_indices
from jaxhash.similarity import UNLABELLED

#: Rows of a spread table are a multiple of this, and so of 2, 4, 6, 8, 12 ... devices: checkpoints
#: do not depend on it.
ROWS = 3 * 1024


class ItemTable(NamedTuple):
    """A table with a row for each training image."""

    rows: Shaped[Array, "items columns"]


class ClassTable(NamedTuple):
    """A table with a row for each class."""

    rows: Shaped[Array, "classes columns"]


class Bank(NamedTuple):
    """The last code and the labels of each training image; a table of items."""

    codes: Float[Array, "items bits"]
    labels: Shaped[Array, " items *classes"]
    seen: Bool[Array, " items"]


Table = ItemTable | ClassTable | Bank


def table_rows(number: int, spread: int | None) -> int:
    """How many rows a table of so many images or classes has, with the padding of a spread one."""
    return number if spread is None else number + -number % ROWS


def padded(rows: Shaped[Array, "n ..."], spread: int | None) -> Shaped[Array, "rows ..."]:
    """The rows of a table, with rows of zeros after them where it is spread."""
    missing = table_rows(len(rows), spread) - len(rows)
    return jnp.pad(rows, ((0, missing), *((0, 0),) * (rows.ndim - 1)))


def sharded_leaves(state: PyTree, spread: TableSharding) -> PyTree[bool]:
    """Of each leaf of an objective's state whether its rows are spread over devices.

    Example:
        >>> import numpy as np
        >>> state = {"codes": ItemTable(np.zeros((8, 4))), "centers": ClassTable(np.zeros((3, 4)))}
        >>> sharded_leaves(state, TableSharding(items=8))
        {'centers': ClassTable(rows=False), 'codes': ItemTable(rows=True)}
    """

    def of_node(node):
        is_table = isinstance(node, Table)
        return jax.tree.map(lambda _: is_table and _number(node, spread) is not None, node)

    return jax.tree.map(of_node, state, is_leaf=lambda node: isinstance(node, Table))


def table_axis(table: Table, context: Context) -> str | None:
    """The mapped axis that the rows of a table are spread over; None where a device has them all."""
    return None if _number(table, context.table_sharding) is None else context.axis_name


def entries(table: Table, context: Context) -> int:
    """How many rows of a table, on all devices, are no padding."""
    number = _number(table, context.table_sharding)
    return len(jax.tree.leaves(table)[0]) if number is None else number


def row_mask(table: Table, context: Context) -> Bool[Array, " rows"]:
    """Which of this device's rows of a table are no padding."""
    rows = len(jax.tree.leaves(table)[0])
    return row_indices(rows, table_axis(table, context)) < entries(table, context)


def gather_for_table(
    table: Table, codes: Float[Array, "n bits"], batch: Batch, context: Context
) -> tuple[Float[Array, "m bits"], Batch]:
    """The rows of the batch that this device compares with a table, as the table knows their labels.

    They are its own, or all where the table is spread: so each pair is on one device, and the
    gradient of a row comes back to where the row is.
    """
    axis_name = table_axis(table, context)
    if axis_name is None:
        return codes, batch
    rows = codes, jnp.asarray(batch.labels), jnp.asarray(batch.mask)
    codes, labels, mask = lax.all_gather(rows, axis_name, tiled=True)
    if isinstance(table, ClassTable):
        labels = _own(labels, len(table.rows), axis_name)
    return codes, batch._replace(labels=labels, mask=mask)


def look_up(
    table: ItemTable | ClassTable, labels: Shaped[ArrayLike, " n *rows"], context: Context
) -> Float[Array, "n columns"]:
    """For each row of the batch the sum of those of the table that it names.

    Args:
        table: the table, a constant.
        labels: numbers of rows of the table, of which -1 names none; or multi-hot rows.
        context: how the table is spread.
    """
    rows, axis_name = lax.stop_gradient(table.rows), table_axis(table, context)
    if axis_name is None:
        return sum_over_labels(labels, rows)
    labels = lax.all_gather(jnp.asarray(labels), axis_name, tiled=True)
    sums = sum_over_labels(_own(labels, len(rows), axis_name), rows)
    return lax.psum_scatter(sums, axis_name, tiled=True)


def _number(table: Table, spread: TableSharding) -> int | None:
    return spread.classes if isinstance(table, ClassTable) else spread.items


def _own(
    labels: Shaped[Array, " n *classes"], rows: int, axis_name: str
) -> Shaped[Array, " n *rows"]:
    """Labels among this device's rows of a table, with the others left out."""
    first = row_indices(rows, axis_name)[0]
    if labels.ndim == 2:
        missing = lax.axis_size(axis_name) * rows - labels.shape[1]
        return lax.dynamic_slice_in_dim(jnp.pad(labels, ((0, 0), (0, missing))), first, rows, 1)
    own = labels - first
    return jnp.where((own >= 0) & (own < rows), own, UNLABELLED)
