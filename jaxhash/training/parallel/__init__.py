"""The data-parallel step over the devices of all processes; the only user of pmap, shard_map and jit.

`layout` says where the leaves of a state and the rows of a batch lie, `programs` maps the step
over the devices by one of the three, and `data_parallel` moves states and batches and runs the step.
`member_parallel` does so for a sweep whose devices have members of their own in place of rows.

A state has two forms. In the *global* form, which checkpoints have, each leaf is one array over the
devices of all processes: replicated, or sharded along one of its axes. The *local* form is what the
step takes and returns. Under ``shard_map`` and ``jit`` it equals the global form. Under ``pmap`` it
is the part of this process only: replicated leaves unchanged, and sharded tables [local devices,
rows per device, ...].
"""

from jaxhash.training.parallel.class_tables import find_class_axes
from jaxhash.training.parallel.data_parallel import DataParallel, Mapping, split_batch
from jaxhash.training.parallel.layout import check_model_parallel
from jaxhash.training.parallel.member_parallel import MemberParallel

__all__ = [
    "DataParallel",
    "Mapping",
    "MemberParallel",
    "check_model_parallel",
    "find_class_axes",
    "split_batch",
]
