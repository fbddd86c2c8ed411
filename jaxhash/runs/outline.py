"""Experiments of which shapes alone are asked: the values of their data are not read, and may not exist."""

import dataclasses

import numpy as np
import optax

from jaxhash.data.checks.training_data import open_split
from jaxhash.data.load import load_source
from jaxhash.data.readers.class_similarity import read_class_similarity
from jaxhash.data.sources import Source
from jaxhash.data.splits import Split
from jaxhash.runs.config import Config
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.model_inputs import check_interactions, file_resize, make_model
from jaxhash.utils.errors import UserError

#: Largest numbers of items and classes, as items are counted in 32 bits.
_MOST = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class DataShape:
    """The shape of training data that are not here.

    Attributes:
        items: number of training items.
        classes: number of classes.
        input_shape: height, width and channels of images of bytes, or dimensions of float32 vectors.
        is_multi_label: whether an item may have several classes.
    """

    items: int
    classes: int
    input_shape: tuple[int, ...]
    is_multi_label: bool = False

    def check(self) -> None:
        """Raises a `UserError` that names the first number that is not allowed."""
        for name in ("items", "classes"):
            if not 1 <= getattr(self, name) <= _MOST:
                raise UserError(f"`{name}` must be from 1 to {_MOST:,}, got {getattr(self, name)}")
        if len(self.input_shape) not in (1, 3) or min(self.input_shape) < 1:
            given = "x".join(map(str, self.input_shape))
            raise UserError(
                f"`input_shape={given}` must be HEIGHTxWIDTHxCHANNELS of images, or the dimensions of "
                "vectors"
            )

    def make_source(self) -> tuple[Source, Split]:
        """Returns data of this shape, all zeros, that take no memory.

        Raises:
            UserError: if a number is not allowed.
        """
        self.check()
        kind = np.uint8 if len(self.input_shape) == 3 else np.float32
        columns = (self.classes,) if self.is_multi_label else ()
        source = Source(
            "described",
            inputs=np.broadcast_to(kind(0), (self.items, *self.input_shape)),
            labels=np.broadcast_to(np.int8(0) if columns else np.int32(0), (self.items, *columns)),
            class_names=tuple(map(str, range(self.classes))),
        )
        zeros = np.broadcast_to(np.int64(0), (self.items,))
        return source, Split("described", zeros, query=zeros[:0], database=zeros[:0])


def open_data(config: Config, shape: DataShape | None = None) -> tuple[Source, Split]:
    """Opens the data of a configuration, or makes data of a shape.

    Args:
        config: the configuration.
        shape: what to make; if not given the data are opened, to be counted.

    Raises:
        UserError: if the data are not here, or a number is not allowed.
    """
    config.check()
    if shape is not None:
        return shape.make_source()
    try:
        source = load_source(
            config.data.dataset, config.data.data_dir, file_resize(config, model=None)
        )
    except UserError as error:
        raise UserError(
            f"{error}; data that are not here are described by `items`, `classes` and `input_shape`"
        ) from error
    return source, open_split(config.data, source)


def outline_experiment(config: Config, source: Source, split: Split) -> Experiment:
    """Returns an experiment that can be lowered and compiled, but not trained.

    Its inputs are not checked or measured, and no weights are read: they change no shape.

    Args:
        config: the configuration.
        source: its data, or data of the same shape.
        split: how they are split.

    Raises:
        UserError: if the configuration is not allowed, or does not go with the data.

    Example:
        >>> source, split = DataShape(10**8, classes=1000, input_shape=(512,)).make_source()
        >>> experiment = outline_experiment(Config().replace(model="mlp"), source, split)
        >>> experiment.steps_per_epoch, experiment.abstract_batch().inputs.shape
        (800000, (125, 512))
    """
    config = config.replace(weights=None, image_size=config.model.input_size)
    config.check()
    config.check_split(split)
    example = source.inputs[:1]
    config.check_inputs(example, f"`dataset={config.data.dataset}`", takes_any=False)
    check_interactions(config, source)
    model = make_model(config, source)
    experiment = Experiment(
        config,
        source,
        split,
        model,
        config.objective.make(),
        optimizer=optax.identity(),
        class_similarity=read_class_similarity(
            config.data.similarity, source, config.data.data_dir
        ),
    ).with_hyperparams()
    return dataclasses.replace(experiment, sharding=experiment.choose_sharding())
