"""The page of experiments/accelerator.py."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jaxhash.bench.compare import to_machine_results
from jaxhash.bench.plot import plot_points
from jaxhash.bench.report import format_bytes, format_seconds
from jaxhash.report.html.page import html_table, paragraph, plot_element, section, write_page
from jaxhash.report.plots.style import to_svg

#: What the numbers of a table are.
_NOTES = {
    "Training steps in bfloat16": "The batch lies on the devices. MFU: three forward passes of "
    "multiply-adds by jaxhash.models.summary, over the published peak in bfloat16. The loss alone is "
    "the objective with its gradient in the codes.",
}

#: Titles of the benchmarks of losses, by the names of their parts.
_BENCHES = {
    "hswd": "HSWD beside the elementwise penalty",
    "kernel": "HSWD by selection and by its kernel",
    "losses": "All losses",
}


def write(path: Path, content: dict[str, Any]) -> None:
    """Writes the page of the results so far."""
    machine = content["hardware"]
    title = f"jaxhash on {machine['devices']} x {machine['kind']}"
    if not content["is_accelerator_result"]:
        title = f"Test of the command on {machine['kind']}: no result of an accelerator"
    with write_page(path, title) as add:
        versions = ", ".join(f"{name} {text}" for name, text in content["versions"].items())
        total = format_seconds(sum(content["seconds"].values()))
        add(paragraph(f"{versions}; {machine['cpu']}; measured in {total}."))
        add(section("Targets", _targets(content["targets"])))
        for title, titles, rows in _tables(content["parts"]):
            note = paragraph(_NOTES[title]) if title in _NOTES else ""
            add(section(title, html_table(titles, rows), note))
        for name, title in _BENCHES.items():
            if name in content["parts"]:
                add(_bench_section(title, content["parts"][name]))
        if content["failures"]:
            rows = [list(item) for item in content["failures"].items()]
            add(section("Failed", html_table(["part", "reason"], rows, left=2)))


def describe(target: dict[str, Any]) -> str:
    """Returns a target, what was measured, and whether it was met, as a line.

    Example:
        >>> target = {"what": "time of A over that of B", "value": 2.5, "limit": 3.0, "at_least": False}
        >>> describe(target | {"is_met": True})
        'time of A over that of B: 2.50 x, at most 3.00 x: met'
    """
    bound = "at least" if target["at_least"] else "at most"
    value, limit = (_ratio(target[name], target["limit"]) for name in ("value", "limit"))
    return f"{target['what']}: {value}, {bound} {limit}: {_verdict(target['is_met'])}"


def _ratio(ratio: float, limit: float) -> str:
    """Returns a ratio as a share where its limit is below 1, and as a multiple where it is not."""
    return f"{100 * ratio:.1f} %" if limit < 1 else f"{ratio:.2f} x"


def _verdict(is_met: bool | None) -> str:
    return {True: "met", False: "missed", None: "not judged"}[is_met]


def _targets(targets: list[dict[str, Any]]) -> str:
    rows = [
        [
            target["what"],
            _ratio(target["value"], target["limit"]),
            f"{'≥' if target['at_least'] else '≤'} {_ratio(target['limit'], target['limit'])}",
            _verdict(target["is_met"]),
        ]
        for target in targets
    ]
    return html_table(["target", "measured", "aim", ""], rows)


def _tables(parts: dict[str, Any]) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Yields the title, the titles of the columns and the rows of each table."""
    steps = [part for name, part in parts.items() if name.startswith("step ")]
    if steps:
        titles = "model, batch, step, images/s, MFU, loss alone, of a step, first step, peak memory"
        yield "Training steps in bfloat16", titles.split(", "), [_step_row(each) for each in steps]
    encodings = [part for name, part in parts.items() if name.startswith("encode ")]
    if encodings:
        rows = [
            [
                part["model"],
                f"{part['batch_size']:,}",
                f"{part['network_images_per_second']:,.0f}",
                f"{part['encode_images_per_second']:,.0f}",
            ]
            for part in encodings
        ]
        titles = ["model", "batch", "images/s on the device", "images/s from the host"]
        yield "Encoding in bfloat16", titles, rows
    if "evaluation" in parts:
        part = parts["evaluation"]
        sizes = [f"{part[name]:,}" for name in ("queries", "database", "bits", "labels")]
        row = [*sizes, format_seconds(part["first_seconds"]), format_seconds(part["seconds"])]
        titles = ["queries", "database", "bits", "labels", "first call", "later calls"]
        yield "Evaluation", titles, [row]
    if "sweep" in parts:
        part = parts["sweep"]
        rows = [
            [
                f"{point['members']:,}",
                format_seconds(point["step_seconds"]),
                f"{point['times_one']:.2f}",
                f"{point['member_steps_per_second']:,.0f}",
            ]
            for point in part["points"]
        ]
        titles = ["members", "step", "times one", "steps of members a second"]
        yield f"Sweeps of an {part['model']} by {part['mapping']}", titles, rows


def _step_row(part: dict[str, Any]) -> list[str]:
    peak = part["peak_device_bytes"]
    return [
        part["model"],
        f"{part['batch_size']:,}",
        format_seconds(part["step_seconds"]),
        f"{part['images_per_second']:,.0f}",
        "-" if part["mfu"] is None else f"{part['mfu']:.1%}",
        format_seconds(part["loss_seconds"]),
        f"{part['loss_share']:.2%}",
        format_seconds(part["first_step_seconds"]),
        "-" if peak is None else format_bytes(peak),
    ]


def _bench_section(title: str, content: dict[str, Any]) -> str:
    """Returns the table of a benchmark, what was not measured, and the plot where a size varies."""
    result = to_machine_results(content)
    rows = [
        [
            point.loss,
            f"{point.batch:,} x {point.bits}",
            format_seconds(point.median_seconds),
            "-" if point.copy_share is None else f"{point.copy_share:.1%}",
            "-" if point.compile_seconds is None else format_seconds(point.compile_seconds),
        ]
        for point in result.points
    ]
    titles = ["loss", "codes", "median", "bandwidth of a copy's", "compilation"]
    elements = [html_table(titles, rows)]
    elements += [
        paragraph(f"{stop['loss']} ends before {stop['batch']:,} rows: {stop['reason']}")
        for stop in content["stopped"]
    ]
    if rows:
        svg = to_svg(plot_points([result], result.machine))
        elements.append(plot_element(svg, "seconds of each loss"))
    return section(title, *elements)
