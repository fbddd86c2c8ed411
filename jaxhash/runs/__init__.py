"""A training as a folder: its configuration, the experiment it determines, and what is done with it.

Read first `jaxhash.runs.config`, all that can be chosen, and `jaxhash.runs.train_run`, one run from its
first to its last line. Users start from the names below, which are loaded when they are used:

- ``Config``: a configuration; `jaxhash.runs.presets` has some.
- ``Experiment``: a configuration with data, model, objective and optimizer.
- ``train``: train, evaluate, and write the folder of a run.
- ``sweep``: the same for several seeds and settings together.
- ``evaluate``: compute the numbers of a finished run or sweep again.

`jaxhash.load` (``load``) reads the hash function of a finished run, or one that was saved.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers; at run time `__getattr__` imports the same names
    from jaxhash.runs.config import Config as Config
    from jaxhash.runs.evaluate_run import evaluate as evaluate
    from jaxhash.runs.experiment import Experiment as Experiment
    from jaxhash.runs.train_run import train as train
    from jaxhash.runs.train_sweep import sweep as sweep

_MODULES = {
    "Config": "config",
    "Experiment": "experiment",
    "train": "train_run",
    "sweep": "train_sweep",
    "evaluate": "evaluate_run",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    """Imports one of the names above; the command stays quick without them."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
