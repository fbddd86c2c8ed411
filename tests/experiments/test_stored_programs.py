"""Steps of large models that `jaxhash compile` compiled for a TPU slice, as they are stored."""

import json
from pathlib import Path

import pytest

RESULTS = Path(__file__).parents[2] / "experiments" / "results"
FILES = sorted(RESULTS.glob("compile_*.json"))


def test_there_are_some():
    assert {"compile_resnet50_v5e", "compile_vit_b16_v5e"} <= {file.stem for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_step_fits_and_gathers_what_is_meant(file):
    """Codes, labels and masks of the batch, and parameters that are sharded; no activations."""
    content = json.loads(file.read_text())
    step, encoder = content["programs"]
    assert step["fits"] and encoder["fits"]
    memory = step["memory"]
    assert memory["total"] < content["target"]["chip"]["memory_bytes"]
    assert memory["aliased"] > 0.9 * memory["outputs"]  # the state is donated
    rows, bits = content["config"]["batch_size"], content["config"]["bits"]
    for collective in step["collectives"]:
        if collective["kind"] in ("all-gather", "all-to-all", "collective-permute"):
            own = [size for size in collective["shape"] if size != 1]
            is_of_batch = own in ([rows, bits], [rows])
            assert is_of_batch or (content["config"]["shard_params"] and rows not in own)
    kinds = {found["kind"] for found in step["slow_operations"]}
    assert kinds <= {"loop"}  # that of HSWD's search
