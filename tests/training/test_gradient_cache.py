"""Micro-batches give the loss and the gradient of the whole batch."""

from functools import partial

import jax
import pytest
from steps import (
    BITS,
    assert_close,
    batches,
    make_parts,
    train,
)

from jaxhash.models import CNN, Encoder
from jaxhash.objectives import combine, dhn, hashnet, hswd, weighted


@pytest.mark.parametrize("devices", [None, jax.devices], ids=["one", "eight"])
@pytest.mark.parametrize(
    "size",
    [
        pytest.param(1, marks=pytest.mark.slow),
        2,
        *(pytest.param(n, marks=pytest.mark.slow) for n in (5, 22)),
    ],
)
def test_metrics_and_states_equal_those_of_the_whole_batch(devices, size):
    """HashNet's bank, HSWD and pairs need all 22 rows; a mean over micro-batches fails."""
    devices = devices and devices()
    parts = make_parts() | {
        "model": Encoder(partial(CNN, widths=(4, 8), freeze_norm=True), BITS),
        "objective": combine(hashnet(), dhn(), weighted(0.1, hswd())),
    }
    rows = list(batches(padding=7))
    whole, losses = train(parts, devices, rows)
    cached, cached_metrics = train(parts | {"micro_batch_size": size}, devices, rows)
    assert_close(losses, cached_metrics)
    assert_close(whole, cached)


def test_batch_statistics_are_refused():
    with pytest.raises(ValueError, match="statistics of the whole batch"):
        train(make_parts() | {"micro_batch_size": 2}, None, batches())
