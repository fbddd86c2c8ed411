"""Measures the deviation of the estimators of the gradient through random bits, on documents.

    python experiments/estimators.py --data-dir TEXT_FOLDER

PSH trains on Reuters-21578 with ARM, as in `documents.py`. At the start and at the end the gradient of its
loss in the outputs of the network is drawn many times, for one batch, with each estimator: only the random
bits differ. All three have the same mean, so the one that deviates less learns as from a larger batch. The
results, experiments/results/estimators.json, are drawn by `tables.py`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from documents import SETS, keep_words

from jaxhash.data.load import load_source
from jaxhash.losses import Estimator
from jaxhash.objectives import Batch, Context, Variables
from jaxhash.runs.config import Config
from jaxhash.runs.experiment import Experiment
from jaxhash.runs.presets import PRESETS
from jaxhash.training.devices import hardware
from jaxhash.training.state import TrainState
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import versions

PATH = Path(__file__).parent / "results" / "estimators.json"


def main(
    data_dir: Path,
    bits: int = 32,
    words: int = 2_000,
    epochs: int = 30,
    draws: int = 200,
    output: Path = PATH,
) -> None:
    """Measures all estimators and writes the table.

    Args:
        data_dir: folder of the file of counts.
        bits: length of a code.
        words: number of the most frequent words of the training documents that are kept.
        epochs: epochs of the training.
        draws: gradients of each estimator.
        output: path of the result file.
    """
    source = keep_words(load_source(f"counts:{SETS['Reuters']}", data_dir), words)
    config = PRESETS["reuters-pairwise-supervised-hashing"]().replace(bits=bits, epochs=epochs)
    experiment = Experiment.open(config, source=source)
    rows: dict[str, list[str | float]] = {name: [name] for name in get_args(Estimator)}
    for state, batch in states(experiment):
        for name, row in rows.items():
            row.append(deviation(config, name, experiment, state, batch, draws))
            print(name, row[-1], flush=True)
    columns = ["estimator", "untrained", f"after {experiment.total_steps:,} steps"]
    content = {
        "command": "python experiments/estimators.py --data-dir DIR",
        "tables": {"deviation": {"columns": columns, "rows": list(rows.values())}},
        "draws": draws,
        "bits": bits,
        "words": words,
        "hardware": hardware(),
        "versions": versions(("jaxhash", "jax", "flax", "optax", "numpy")),
    }
    write_json(output, content)


def states(experiment: Experiment) -> Iterator[tuple[TrainState, Batch]]:
    """Yields the state before and after the training, both with the first batch."""
    step, batches = jax.jit(experiment.step_function()), experiment.batches()
    state = experiment.initial_state()
    first = batch = next(batches)
    yield state, first
    for _ in range(experiment.total_steps):
        state, _ = step(state, batch)
        batch = next(batches)
    yield state, first


def deviation(
    config: Config,
    estimator: Estimator,
    experiment: Experiment,
    state: TrainState,
    batch: Batch,
    draws: int,
) -> float:
    """Returns the deviation of the gradient in an output, the root of its mean square over outputs."""
    objective = config.replace(objective_options=(f"gradient={estimator}",)).objective.make()
    variables = Variables(state.params["objective"], state.objective_state)
    codes = experiment.model.apply(state.variables, batch.inputs)

    def slope(key: jax.Array) -> jax.Array:
        def loss(codes):
            context = Context(key, jnp.float32(1), jnp.bool_(False), None, None, None)
            return objective.loss(variables, codes, batch, context).value

        return len(codes) * jax.grad(loss)(codes)  # the loss is a mean over documents

    slopes = jax.lax.map(slope, jax.random.split(jax.random.key(0), draws))
    return float(np.sqrt(np.var(slopes, axis=0, ddof=1).mean()))


if __name__ == "__main__":
    tyro.cli(main)
