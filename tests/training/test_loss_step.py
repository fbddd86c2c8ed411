"""The step without the model, which ``profile`` times."""

import jax
import numpy as np
import pytest

from jaxhash.runs.experiment import Experiment
from jaxhash.runs.presets import digits_hashnet_hswd


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["greedyhash-u", "cibhash"])
def test_loss_does_not_depend_on_where_inputs_are_augmented(objective):
    """For an objective that reads its inputs, and for one of two views."""
    found = []
    for where in ("host", "device"):
        config = digits_hashnet_hswd().replace(
            objective=objective, augment_on=where, crop=1, flip=True
        )
        experiment = Experiment.open(config)
        parallel_step = experiment.make_loss_step()
        state = experiment.initial_state()
        kernel = np.asarray(state.params["model"]["head"]["kernel"])
        batch = parallel_step.shard_batch(next(experiment.batches()))
        after, metrics = parallel_step(
            parallel_step.to_local(parallel_step.replicate(state)), batch
        )
        np.testing.assert_array_equal(after.params["model"]["head"]["kernel"], kernel)
        found.append(jax.device_get(metrics))
    assert np.isfinite(found[0]["loss"]) and found[0]["grad_sum"] != 0
    for name in found[0]:
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-5)
