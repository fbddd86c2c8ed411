"""The numbers of processes that share no devices."""

import jax
import pytest

from jaxhash.training.distributed import number_process
from jaxhash.utils.errors import UserError

SLURM = {"JOB_ID": "7", "STEP_NODELIST": "a,b", "NTASKS": "4", "PROCID": "2", "LOCALID": "1"}
SLURM |= {"JOB_NUM_NODES": "2", "STEP_NUM_TASKS": "4", "STEP_NUM_NODES": "2"}


@pytest.fixture
def updates(monkeypatch):
    """What is changed in JAX's configuration; nothing is."""
    for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"):
        monkeypatch.delenv(name, raising=False)
    found = {}
    monkeypatch.setattr(jax.config, "update", found.__setitem__)
    return found


def test_numbers_are_taken_from_arguments_environment_and_cluster(updates, monkeypatch):
    assert number_process(3, 1) == (3, 1) and updates == {}
    monkeypatch.setenv("JAX_NUM_PROCESSES", "5")
    assert number_process(None, 4) == (5, 4)
    monkeypatch.delenv("JAX_NUM_PROCESSES")
    for name, value in SLURM.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert number_process(None, None) == (4, 2)
    assert updates["jax_cuda_visible_devices"] == "1"  # else both processes of a host take all GPUs


def test_without_numbers_it_is_refused(updates, monkeypatch):
    with pytest.raises(UserError, match="`processes=N` and `process=I`"):
        number_process(2, None)
    monkeypatch.setenv("JAX_PROCESS_ID", "one")
    with pytest.raises(UserError, match="JAX_PROCESS_ID must be a whole number, got 'one'"):
        number_process(2, None)
