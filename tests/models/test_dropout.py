"""Dropout depends on the item and the view, not on devices, micro-batches or positions."""

from functools import cache, partial

import jax
import optax
import pytest
from steps import (
    BITS,
    assert_close,
    batches,
    train,
)

from jaxhash.models import Encoder
from jaxhash.models._base import Backbone, Block
from jaxhash.objectives import cibhash, csq, dhd


class DropoutBlock(Block):
    def __call__(self, x, train, mask):
        return self.dropout(x.reshape(len(x), -1), 0.5, train)


class DropoutBackbone(Backbone):
    """Returns pixels after two stages of dropout."""

    def stages(self):
        yield [partial(DropoutBlock)]
        yield [partial(DropoutBlock)]


def dropout_parts(objective, remat=False, **options):
    model = Encoder(partial(DropoutBackbone, remat=remat), BITS)
    return options | {"model": model, "objective": objective, "optimizer": optax.sgd(0.1)}


def as_views(objective, batch):
    """Repeats the inputs for an objective of two views."""
    return batch._replace(inputs=(batch.inputs,) * 2 if objective.views == 2 else batch.inputs)


def reversed_rows(batch):
    """Reverses the order of the items."""
    return jax.tree.map(lambda array: array[::-1], batch)


OBJECTIVES = {"cibhash": cibhash(), "dhd": dhd(), "csq": csq()}


def two_batches(name):
    return [as_views(OBJECTIVES[name], batch) for batch in batches(padding=7)][:2]


@cache
def single_device_result(name):
    return train(dropout_parts(OBJECTIVES[name]), None, two_batches(name))


@pytest.mark.parametrize(
    "name, devices, mapping, options",
    [
        ("cibhash", 8, "pmap", {}),
        ("cibhash", 8, "shard_map", {"remat": True}),
        ("cibhash", None, "pmap", {"micro_batch_size": 5}),
        pytest.param("cibhash", 8, "pmap", {"micro_batch_size": 2}, marks=pytest.mark.slow),
        pytest.param("dhd", 3, "pmap", {}, marks=pytest.mark.slow),
        pytest.param("csq", 8, "pmap", {}, marks=pytest.mark.slow),
    ],
)
def test_a_draw_depends_only_on_item_and_view(name, devices, mapping, options):
    """Two equal views get different draws."""
    one, losses = single_device_result(name)
    parts, rows = (
        dropout_parts(OBJECTIVES[name], **options),
        map(reversed_rows, two_batches(name)),
    )
    other, other_metrics = train(parts, devices and jax.devices()[:devices], rows, mapping)
    assert_close(losses, other_metrics)
    assert_close(one.params, other.params)
