"""jaxhash: learn binary hash codes for retrieval, in JAX and Flax.

The names that users start from; each is imported when it is used, so that ``import jaxhash`` is quick
and ``jaxhash.losses`` loads jax and numpy alone:

- `losses`, `metrics`, `similarity`: pure functions of arrays, for any training loop.
- `objectives`, `models`, `training`: published methods whole, backbones, and the training step.
- `data`, `retrieval`, `runs`: data sets, codes and rankings, and a training as a folder.
- `load` reads a hash function, a `Hasher`, from a finished run: it encodes new images or vectors.
- `train`, `sweep` and `evaluate` with a `Config`, as the command ``jaxhash`` does; `presets` are
  configurations that were measured, and an `Experiment` is all that a configuration determines.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers; at run time `__getattr__` imports the same names
    from jaxhash import data as data
    from jaxhash import losses as losses
    from jaxhash import metrics as metrics
    from jaxhash import models as models
    from jaxhash import objectives as objectives
    from jaxhash import ops as ops
    from jaxhash import report as report
    from jaxhash import retrieval as retrieval
    from jaxhash import runs as runs
    from jaxhash import similarity as similarity
    from jaxhash import training as training
    from jaxhash.retrieval.hasher import Hasher as Hasher
    from jaxhash.runs import presets as presets
    from jaxhash.runs.config import Config as Config
    from jaxhash.runs.evaluate_run import evaluate as evaluate
    from jaxhash.runs.experiment import Experiment as Experiment
    from jaxhash.runs.load import load as load
    from jaxhash.runs.train_run import train as train
    from jaxhash.runs.train_sweep import sweep as sweep

__version__ = "0.2.0"

_PACKAGES = (
    "data",
    "losses",
    "metrics",
    "models",
    "objectives",
    "ops",
    "report",
    "retrieval",
    "runs",
    "similarity",
    "training",
)
_RUN_NAMES = ("Config", "Experiment", "evaluate", "presets", "sweep", "train")
_MODULE_OF = {"Hasher": "jaxhash.retrieval.hasher", "load": "jaxhash.runs.load"}

__all__ = [*_PACKAGES, *_RUN_NAMES, *_MODULE_OF]


def __getattr__(name: str) -> Any:
    """Imports one of the public names."""
    if name in _PACKAGES or name == "presets":
        parent = "jaxhash.runs" if name == "presets" else "jaxhash"
        return importlib.import_module(f"{parent}.{name}")
    if name in _MODULE_OF:
        return getattr(importlib.import_module(_MODULE_OF[name]), name)
    if name in _RUN_NAMES:
        return getattr(importlib.import_module("jaxhash.runs"), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message, name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    """Lists the public names, imported or not."""
    return sorted({*globals(), *__all__})
