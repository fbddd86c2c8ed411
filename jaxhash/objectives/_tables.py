"""Tables with a row for each training image or class, which may be sharded over devices."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, PyTree, Shaped

from jaxhash.objectives._base import Batch, Context, TableSharding
from jaxhash.ops.codebooks import sum_over_labels
from jaxhash.ops.collectives import row_indices
from jaxhash.ops.meshes import replicate
from jaxhash.similarity import UNLABELLED

#: The number of rows of a sharded table is a multiple of this, and so of 2, 4, 6, 8, 12 ...
#: devices, and checkpoints do not depend on their number.
ROW_MULTIPLE = 3 * 1024


class ItemTable(NamedTuple):
    """A table with one row per training image."""

    rows: Shaped[Array, "items columns"]


class ClassTable(NamedTuple):
    """A table with one row per class."""

    rows: Shaped[Array, "classes columns"]


class Bank(NamedTuple):
    """A table of items with the last code and the labels of each training image."""

    codes: Float[Array, "items bits"]
    labels: Shaped[Array, " items *classes"]
    seen: Bool[Array, " items"]


Table = ItemTable | ClassTable | Bank


def padded_size(number: int, sharded_size: int | None) -> int:
    """Returns the number of rows of a table, with the padding of a sharded one."""
    return number if sharded_size is None else number + -number % ROW_MULTIPLE


def pad_rows(rows: Shaped[Array, "n ..."], sharded_size: int | None) -> Shaped[Array, "rows ..."]:
    """Returns the rows of a table, followed by rows of zeros if it is sharded."""
    missing = padded_size(len(rows), sharded_size) - len(rows)
    return jnp.pad(rows, ((0, missing), *((0, 0),) * (rows.ndim - 1)))


def sharded_leaves(state: PyTree, sharding: TableSharding) -> PyTree[bool]:
    """Returns, per leaf of an objective's state, whether its rows are sharded over devices.

    Example:
        >>> import numpy as np
        >>> state = {"codes": ItemTable(np.zeros((8, 4))), "centers": ClassTable(np.zeros((3, 4)))}
        >>> sharded_leaves(state, TableSharding(items=8))
        {'centers': ClassTable(rows=False), 'codes': ItemTable(rows=True)}
    """

    def of_node(node):
        is_table = isinstance(node, Table)
        return jax.tree.map(lambda _: is_table and _sharded_size(node, sharding) is not None, node)

    return jax.tree.map(of_node, state, is_leaf=lambda node: isinstance(node, Table))


def table_axis(table: Table, context: Context) -> str | None:
    """Returns the mapped axis over which a table is sharded; None if each device has all rows."""
    return None if _sharded_size(table, context.table_sharding) is None else context.axis_name


def num_rows(table: Table, context: Context) -> int:
    """Returns the number of rows of a table on all devices, without padding."""
    number = _sharded_size(table, context.table_sharding)
    return len(jax.tree.leaves(table)[0]) if number is None else number


def row_mask(table: Table, context: Context) -> Bool[Array, " rows"]:
    """Returns which of this device's rows of a table are not padding."""
    rows = len(jax.tree.leaves(table)[0])
    return row_indices(rows, table_axis(table, context)) < num_rows(table, context)


def gather_for_table(
    table: Table, codes: Float[Array, "n bits"], batch: Batch, context: Context
) -> tuple[Float[Array, "m bits"], Batch]:
    """Returns the rows of the batch that this device compares with its rows of a table.

    They are its own rows, or those of all devices if the table is sharded: each pair is then on one
    device, and the gradient of a row returns to the device of the row. Labels are class ids within
    this device's rows of a table of classes.
    """
    axis_name = table_axis(table, context)
    if axis_name is None:
        if _sharded_size(table, context.table_sharding) is None:
            return codes, batch
        codes, labels, mask = replicate((codes, jnp.asarray(batch.labels), jnp.asarray(batch.mask)))
        return codes, batch._replace(labels=labels, mask=mask)
    rows = codes, jnp.asarray(batch.labels), jnp.asarray(batch.mask)
    codes, labels, mask = lax.all_gather(rows, axis_name, tiled=True)
    if isinstance(table, ClassTable):
        labels = _local_labels(labels, len(table.rows), axis_name)
    return codes, batch._replace(labels=labels, mask=mask)


def look_up(
    table: ItemTable | ClassTable, labels: Shaped[ArrayLike, " n *rows"], context: Context
) -> Float[Array, "n columns"]:
    """Returns, for each row of the batch, the sum of the table's rows that its labels name.

    Args:
        table: the table, a constant.
        labels: row numbers of the table, where -1 names none; or multi-hot rows.
        context: how the table is sharded.
    """
    rows, axis_name = lax.stop_gradient(table.rows), table_axis(table, context)
    if axis_name is None:
        return sum_over_labels(labels, rows)
    labels = lax.all_gather(jnp.asarray(labels), axis_name, tiled=True)
    sums = sum_over_labels(_local_labels(labels, len(rows), axis_name), rows)
    return lax.psum_scatter(sums, axis_name, tiled=True)


def _sharded_size(table: Table, sharding: TableSharding) -> int | None:
    """Returns the number of images or classes of a sharded table; None if it is not sharded."""
    return sharding.classes if isinstance(table, ClassTable) else sharding.items


def _local_labels(
    labels: Shaped[Array, " n *classes"], rows: int, axis_name: str
) -> Shaped[Array, " n *rows"]:
    """Returns the labels relative to this device's rows of a table, without those of others."""
    first = row_indices(rows, axis_name)[0]
    if labels.ndim == 2:
        missing = lax.axis_size(axis_name) * rows - labels.shape[1]
        return lax.dynamic_slice_in_dim(jnp.pad(labels, ((0, 0), (0, missing))), first, rows, 1)
    local = labels - first
    return jnp.where((local >= 0) & (local < rows), local, UNLABELLED)
