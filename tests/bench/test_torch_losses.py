"""Plain forms of losses in PyTorch against the losses of the library."""

import numpy as np
import pytest

from jaxhash.bench.config import Setting
from jaxhash.bench.losses import LOSSES, TORCH_FORMS
from jaxhash.bench.prepare import prepare_loss, random_codes

pytest.importorskip("torch", reason="PyTorch, the extra [compare], is not installed")


@pytest.fixture
def module():
    from jaxhash.bench import torch_losses

    return torch_losses


def test_each_named_form_is_there(module):
    assert tuple(module.FORMS) == TORCH_FORMS


@pytest.mark.parametrize("name", TORCH_FORMS)
def test_a_form_has_the_value_and_gradient_of_the_loss(module, name):
    codes, key = random_codes(Setting(48, 8))
    value, gradient = prepare_loss(LOSSES[name], "forward+backward", codes, key).call()
    prepared = module.prepare_torch_loss(name, "forward+backward", codes, key)
    for _ in range(2):  # the second call is not added to the first
        found, slope = prepared.call()
        np.testing.assert_allclose(found, value, rtol=1e-5)
        np.testing.assert_allclose(slope, gradient, rtol=1e-4, atol=1e-6)
