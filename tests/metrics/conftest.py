"""What the tests of all metrics share."""

import jaxtyping
import pytest


@pytest.fixture
def unchecked(monkeypatch):
    """Without the type checks of the test run, which would speak before the library does."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
