"""What is minimised: a published method whole, with its trained parameters and its state.

An objective is a pair of pure functions; objectives add up::

    combine(hashnet(), weighted(0.1, hswd()))
"""

from jaxhash.objectives._base import Batch as Batch
from jaxhash.objectives._base import Context as Context
from jaxhash.objectives._base import Loss as Loss
from jaxhash.objectives._base import Objective as Objective
from jaxhash.objectives._base import Setup as Setup
from jaxhash.objectives._base import Variables as Variables
from jaxhash.objectives._base import combine as combine
from jaxhash.objectives._base import weighted as weighted
from jaxhash.objectives._hashnet import hashnet as hashnet
from jaxhash.objectives._pairs import Pairs as Pairs
from jaxhash.objectives._pairs import Unseen as Unseen
from jaxhash.objectives._quantizers import hswd as hswd

__all__ = [
    "Batch",
    "Context",
    "Loss",
    "Objective",
    "Pairs",
    "Setup",
    "Unseen",
    "Variables",
    "combine",
    "hashnet",
    "hswd",
    "weighted",
]
