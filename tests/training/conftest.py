"""A training that nobody disturbs."""

import jax
import pytest
from rich.console import Console


@pytest.fixture
def console():
    return Console(quiet=True)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory):
    from trainings import config  # not above: first the library is put under type checks

    from jaxhash.runs import train_run as run

    whole = config(tmp_path_factory.mktemp("whole") / "run")
    least = jax.config.jax_persistent_cache_min_compile_time_secs
    # Programs are kept however fast this machine is.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    run.train(whole, Console(quiet=True))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", least)
    return whole
