"""The configuration of the optimizer: length of the training, batch, rates and schedule."""

import dataclasses
import sys

from jaxhash.utils.checks import check_numbers
from jaxhash.utils.errors import UserError


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """The optimizer and its schedule; every field is a flag of its name."""

    epochs: int = 30
    """Passes over the training items."""
    batch_size: int = 125
    """Images a step, over all devices. 125 divides the usual 5,000, so no batch is short."""
    batch_classes: int | None = None
    """Classes of a batch, each with as many items (P x K batches); any items if not given."""
    learning_rate: float = 1e-3
    """Peak rate of the hash head."""
    backbone_rate: float = 1.0
    """Rate of the backbone as a fraction of the head's."""
    weight_decay: float = 1e-4
    """Decoupled weight decay, of matrices and kernels."""
    clip_norm: float = 5.0
    """Largest norm of the gradient."""
    warmup_epochs: int = 1
    """Epochs of linear warm-up; a cosine to zero follows. One epoch alone has none."""

    @property
    def warmup(self) -> int:
        """Epochs of the warm-up that are done: at least one epoch of the cosine is left."""
        return min(self.warmup_epochs, self.epochs - 1)

    def check(self) -> None:
        """Raises a `UserError` that names the first argument whose value is not allowed."""
        many, finite = 10**6, sys.float_info.max
        allowed = {
            "epochs": (1, many),
            "batch_size": (1, many),
            "batch_classes": (1, many),
            "warmup_epochs": (0, many),
            "backbone_rate": (0, finite),
            "weight_decay": (0, finite),
        }
        check_numbers(self, allowed)
        for name in ("learning_rate", "clip_norm"):
            if not 0 < getattr(self, name) <= finite:
                found = getattr(self, name)
                raise UserError(f"`{name}` must be above 0 and finite, got {found}")
        if self.batch_classes is not None and self.batch_size % self.batch_classes:
            raise UserError(
                f"`batch_classes={self.batch_classes}` must divide `batch_size={self.batch_size}`"
            )
        if self.warmup_epochs >= max(self.epochs, 2):
            raise UserError(
                f"`warmup_epochs={self.warmup_epochs}` must be below `epochs={self.epochs}`"
            )
