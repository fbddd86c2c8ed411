"""Measures on a GPU or TPU all that this project claims of one, in one command.

    python experiments/accelerator.py

It times all losses, HSWD against a copy and against the elementwise penalty, training steps of ResNet-50
and ViT-B/16 in bfloat16, encoding, an evaluation at the size of COCO, and sweeps of 8 and 64 members. The
results are written after each part, as JSON and as a page; the same command goes on where it was stopped,
and tries again what failed. After 25 minutes it begins no other part. `--toy` runs all of it on a CPU at toy sizes, to test the command; its results
are not those of an accelerator, and say so.
"""

import dataclasses
import json
import math
import re
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import accelerator_page
import accelerator_parts
import jax
import tyro
from rich.console import Console

from jaxhash.cli.flags import with_flags
from jaxhash.training.devices import hardware
from jaxhash.utils.errors import UserError, first_line
from jaxhash.utils.files import write_json
from jaxhash.utils.hardware import versions

#: Value of the key ``format`` of a result file.
FORMAT = "jaxhash accelerator 1"
FOLDER = Path(__file__).parent / "results"


def main(output: Path | None = None, toy: bool = False, minutes: float = 25) -> None:
    """Measures every part that the result file lacks, and draws the page.

    Args:
        output: JSON file, with the page beside it; named after the device if not given.
        toy: toy sizes, on any device.
        minutes: time after which no part begins.
    """
    try:
        failed = measure(output, Console(), toy=toy, seconds=60 * minutes)
    except UserError as error:
        sys.exit(f"accelerator.py: {with_flags(str(error))}")
    sys.exit(f"accelerator.py: failed: {', '.join(failed)}" if failed else 0)


def measure(
    output: Path | None, console: Console, *, toy: bool, seconds: float = math.inf
) -> list[str]:
    """Measures, writes the result file and the page, and returns the names of the parts that failed.

    Args:
        output: JSON file; None for that of the device.
        console: where it is told.
        toy: whether the sizes are toy ones.
        seconds: time after which no part begins.

    Raises:
        UserError: if there is no accelerator, or the file is that of another one.
    """
    device = jax.local_devices()[0]
    if device.platform == "cpu" and not toy:
        raise UserError("JAX finds no GPU or TPU here; `toy` tests the command on a CPU")
    if jax.process_count() > 1:
        raise UserError("it measures the devices of one process, not of a job of several")
    sizes = accelerator_parts.TOY if toy else accelerator_parts.Sizes()
    kind = re.sub(r"\W+", "_", device.device_kind.lower())
    output = output or FOLDER / f"accelerator_{kind}{'_toy' * toy}.json"
    content = _open(output, sizes, is_result=device.platform != "cpu" and not toy)
    command = shlex.join(["python", "experiments/accelerator.py", *["--toy"] * toy])
    failed, begun = [], time.monotonic()
    for name, part in accelerator_parts.parts(sizes, output, console, command):
        if name in content["parts"]:
            console.print(f"{name}: measured before", highlight=False)
            continue
        if time.monotonic() - begun > seconds:
            console.print(f"{name}: left for another call, the time is spent", highlight=False)
            continue
        console.print(f"{name} ...", highlight=False)
        started = time.monotonic()
        try:
            content["parts"][name] = part()
        except Exception as error:  # the other parts are worth having
            failed.append(name)
            console.print(f"{name} failed: {first_line(error)}", highlight=False, markup=False)
            content["failures"][name] = f"{type(error).__name__}: {first_line(error)}"
        else:
            content["failures"].pop(name, None)
        content["seconds"][name] = time.monotonic() - started
        content["targets"] = find_targets(content)
        write_json(output, content)
        accelerator_page.write(output.with_suffix(".html"), content)
    for target in content["targets"]:
        console.print(accelerator_page.describe(target), highlight=False, soft_wrap=True)
    console.print(
        f"results are in {output}, the page is beside it", highlight=False, soft_wrap=True
    )
    return failed


def _open(output: Path, sizes: accelerator_parts.Sizes, *, is_result: bool) -> dict[str, Any]:
    """Returns the results so far, or new ones without a part.

    Raises:
        UserError: if the file holds something else, or results of another machine, version or size.
    """
    fresh = {
        "format": FORMAT,
        "is_accelerator_result": is_result,
        "hardware": hardware(),
        "versions": versions(["jax", "jaxlib", "flax", "optax", "jaxhash"]),
        "sizes": json.loads(json.dumps(dataclasses.asdict(sizes))),
    }
    rest = {"parts": {}, "failures": {}, "seconds": {}, "targets": []}
    if not output.exists():
        output.parent.mkdir(parents=True, exist_ok=True)
        return fresh | rest
    try:
        content = json.loads(output.read_text())
        changed = [name for name in fresh if content[name] != fresh[name]]
        content = {name: content[name] for name in fresh | rest}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{output} is no result of this command; choose another `output`"
        ) from error
    if changed:
        raise UserError(
            f"{output} was measured with another {', '.join(changed)}; choose another `output`"
        )
    return content


def find_targets(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns what was aimed at, what was measured, and whether it was met.

    Nothing is met or missed where the sizes are toy ones: ``is_met`` is None.
    """
    parts, sizes, found = content["parts"], content["sizes"], []

    def add(what, value, limit, *, at_least=False):
        is_met = value >= limit if at_least else value <= limit
        judged = is_met if content["is_accelerator_result"] else None
        target = {"what": what, "value": value, "limit": limit, "at_least": at_least}
        found.append(target | {"is_met": judged})

    times = {
        (name, point["loss"], point["batch"]): point
        for name in ("hswd", "kernel")
        for point in parts.get(name, {}).get("points", ())
    }
    large, small = sizes["copy_batch"], sizes["elementwise_batch"]
    if select := times.get(("hswd", "select", large)):
        what = f"bandwidth of HSWD at {large:,} x {sizes['bits']} over that of a copy"
        add(what, select["copy_share"], 0.3, at_least=True)
    if (select := times.get(("hswd", "select", small))) and ("hswd", "l2", small) in times:
        elementwise = times["hswd", "l2", small]["median_seconds"]
        what = f"time of HSWD at {small:,} x {sizes['bits']} over that of the elementwise penalty"
        add(what, select["median_seconds"] / elementwise, 3.0)
    for name, part in parts.items():
        if name.startswith("step "):
            add(
                f"time of the loss over that of a step of {part['model']}", part["loss_share"], 0.02
            )
    return found


if __name__ == "__main__":
    tyro.cli(main)
