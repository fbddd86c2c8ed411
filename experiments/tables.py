"""Draws the tables and the sentences with figures of the README and the pages from the results.

    python experiments/tables.py

Each table stands between a pair of comments. The first names the file under experiments/results/ and,
after a dot, the table, if the file holds several. The table of the methods is drawn from the code.
"""

import itertools
import json
import re
import statistics
from pathlib import Path

import bench_tables
import compiled_tables
import cross_modal_tables
import few_labels_tables
import grid_tables
import hierarchy_tables

from jaxhash.metrics import mean_over_seeds
from jaxhash.report import METHOD_COLUMNS, method_rows

HERE = Path(__file__).parent
README = HERE.parent / "README.md"

#: Scripts by the names that stored commands have.
RENAMED_SCRIPTS = {
    "chunks.py": "gradient_cache.py",
    "kills.py": "kill_and_resume.py",
    "method_rates.py": "learning_rates.py",
    "spread.py": "table_sharding.py",
}

PAGES = (
    README,
    *(
        HERE / f"{name}.md"
        for name in (
            "methods",
            "hierarchy",
            "why_your_map_differs",
            "costs",
            "quantizer_grid",
            "cross_modal",
            "class_structure",
            "graph_hashing",
            "few_labels",
        )
    ),
)

COLUMNS = {
    "map": "mAP",
    "precision_at_radius_2": "P@H≤2",
    "bit_balance": "bit balance",
    "quantization_error": "quantization error",
}

#: Columns of a table of cells of `methods.py`.
CELL_COLUMNS = {
    "map": "mAP",
    "precision_at_radius_2": "P@H≤2",
    "distinct_codes": "distinct codes",
    "bit_correlation": "bit correlation",
    "quantization_error": "quantization error",
}


def comparison_table(content: dict) -> str:
    """Draws the results of one comparison: mean and standard deviation over seeds."""
    runs = content["runs"]
    rows = {}
    for run in runs:
        name = f"{run['objective']}, rate {run['learning_rate']:.0e}"
        rows.setdefault(name, []).append(run)
    first, *_ = runs
    run_per_seed = list({run["seed"]: run for run in runs}.values())  # baselines have no objective
    for name in first["baselines"]:
        rows[name] = [run["baselines"][name] for run in run_per_seed]
    rows["input features, cosine"] = [first["float_rankings"]["input features"]]
    lines = [
        f"| {first['dataset']}, {first['bits']} bits | " + " | ".join(COLUMNS.values()) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    for name, scores in rows.items():
        lines.append(f"| {name} | " + " | ".join(_cell(scores, key) for key in COLUMNS) + " |")
    seeds = len({run["seed"] for run in runs})
    items, hardware, versions = first["items"], first["hardware"], first["versions"]
    lines += [
        "",
        f"{seeds} seeds, mean ± standard deviation; {items['query']:,} queries, "
        f"{items['database']:,} items in the database, split `{first['split']}` "
        f"({first['split_sha256'][:12]}). On {hardware['devices']} x {hardware['kind']}, "
        f"jax {versions['jax']}, by `{content['command']}`.",
    ]
    return "\n".join(lines)


def bench_table(content: dict) -> str:
    """Draws the times of a benchmark, forward and backward, relative to the first loss."""
    points = [point for point in content["points"] if point["which"] == "forward+backward"]
    first, *others = dict.fromkeys(point["loss"] for point in points)
    lines = [
        f"| batch | {first} | " + " | ".join(f"{other} / {first}" for other in others) + " |",
        "|---:|" + "---:|" * (1 + len(others)),
    ]
    for batch in dict.fromkeys(point["batch"] for point in points):
        median = {p["loss"]: p["median_seconds"] for p in points if p["batch"] == batch}
        ratios = (f"{median[other] / median[first]:.3g}" for other in others)
        lines.append(f"| {batch:,} | {1e6 * median[first]:,.0f} µs | {' | '.join(ratios)} |")
    hardware, versions = content["hardware"], content["versions"]
    torch = f", torch {versions['torch']}" if "torch" in versions else ""
    lines += [
        "",
        f"Medians, {points[0]['bits']} bits, {points[0]['dtype']}, forward + backward, on "
        f"{hardware['cpu_cores_used']} cores of {hardware['cpu']}, jax {versions['jax']}{torch}, by "
        f"`{content['command'].split(' --output')[0]}`.",
    ]
    return "\n".join(lines)


def ratio_line(content: dict) -> str:
    """Returns a sentence about what HSWD adds to a training step."""
    median = {name: 1e3 * times["median"] for name, times in content["seconds"].items()}
    return (
        f"A training step of `{content['preset']}` takes {median['hswd']:.1f} ms, without HSWD "
        f"{median['none']:.1f} ms: {100 * (content['ratio'] - 1):+.1f} % "
        f"(jax {content['versions']['jax']}, by `{content['command']}`)."
    )


def sweep_line(content: dict) -> str:
    """Returns a sentence about what several seeds cost, compared with one."""
    one, many = (
        {kind: seconds[count] for kind, seconds in content["seconds"].items()}
        for count in ("1", str(content["seeds"]))
    )
    ratios, hardware, versions = content["ratios"], content["hardware"], content["versions"]
    return (
        f"`jaxhash train {content['preset']}`, {content['epochs']} epochs and the evaluation, takes "
        f"{one['command']:.1f} s ({one['training']:.1f} s of it training), with `--seeds "
        f"{content['seeds']}` {many['command']:.1f} s ({many['training']:.1f} s): "
        f"{ratios['command']:.2f} times as long, the training alone {ratios['training']:.2f} times. "
        f"Medians, on {hardware['cpu_cores_used']} cores of {hardware['cpu']}, jax "
        f"{versions['jax']}, by `{content['command']}`."
    )


def input_table(content: dict) -> str:
    """Draws the images a second of each stage of the input, for each data set."""
    names = list(dict.fromkeys(rate["data"] for rate in content["rates"]))
    stages = {}
    for rate in content["rates"]:
        stage = rate["what"], rate["augment_on"], rate["workers"]
        stages.setdefault(stage, {})[rate["data"]] = rate["images_per_second"]
    lines = [f"| images a second | {' | '.join(names)} |", f"|---|{'---:|' * len(names)}"]
    for what, where, workers in sorted(stages, key=lambda stage: (stage[0], stage[2] or 0)):
        title = what + (f", augmented on the {where}" if what == "pipeline" else "")
        title += f" on the {where}" if what == "augment" else ""
        if workers is not None:
            title += ", threads" if not workers else f", {workers} worker{'s' * (workers > 1)}"
        rates = (stages[what, where, workers].get(name) for name in names)
        cells = ("-" if rate is None else f"{rate:,.0f}" for rate in rates)
        lines.append(f"| {title} | {' | '.join(cells)} |")
    hardware, settings = content["hardware"], content["settings"]
    return "\n".join(lines) + (
        f"\n\nCrop {settings['crop']} and flip in batches of {settings['batch_size']}, the pipeline "
        f"to the device. Medians, on {hardware['cpu_cores_used']} cores of {hardware['cpu']}, "
        f"shared at a load of {content['load_average'][0]:.1f}, by `{content['command']}`."
    )


def retrieval_table(content: dict) -> str:
    """Draws the seconds of evaluations, and how many times as long an argsort per query takes."""
    lines = [
        "| queries × database, labels | jaxhash | first call | argsort per query | the same, float32 "
        "labels | peak memory |",
        "|---|" + "---:|" * 5,
    ]
    for size in content["sizes"]:
        seconds, ratios = size["seconds"], size["ratios"]
        cells = [
            f"{size['name']}: {size['queries']:,} × {size['items']:,}, {size['classes']}",
            f"{seconds['jaxhash']:.2f} s",
            f"{seconds['first call']:.2f} s",
            *(f"{ratios[name]:.0f} x" for name in ("argsort", "argsort, float32 labels")),
            f"{size['peak_bytes'] / 2**30:.2f} GiB",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    hardware, versions = content["hardware"], content["versions"]
    return "\n".join(
        [
            *lines,
            "",
            f"{content['bits']} bits, all metrics at k = {content['k']:,}, random codes of these "
            f"sizes; medians, on {hardware['cpu_cores_used']} cores of {hardware['cpu']}, jax "
            f"{versions['jax']}, numpy {versions['numpy']}, by `{content['command']}`. The first "
            "call compiles.",
        ]
    )


def cells_table(content: dict) -> str:
    """Draws cells of `methods.py`, one a row: mean and standard deviation over the seeds."""
    lines = [f"| bits | {' | '.join(['objective', *CELL_COLUMNS.values()])} |"]
    lines += ["|---:|---|" + "---:|" * len(CELL_COLUMNS)]
    for row in content["rows"]:
        members = [member["scores"] for member in row.get("members", [])]
        cells = (_cell(members, key) if members and all(members) else "-" for key in CELL_COLUMNS)
        lines.append(f"| {row['bits']} | {row['objective']} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", made_line(content)])


#: Titles of the quantizers of `methods.py`.
VARIANTS = {"none": "no quantizer", "own": "its own", "l2": "L2", "hswd": "HSWD"}


def methods_table(content: dict, bits: int) -> str:
    """Draws mAP of every method with every quantizer at one length: mean and standard deviation."""
    cells = _scores_of_cells(content)
    lines = [
        f"| {bits} bits | {' | '.join(VARIANTS.values())} |",
        "|---|" + "---:|" * len(VARIANTS),
    ]
    for method in dict.fromkeys(row["method"] for row in content["rows"]):
        found = (cells.get((method, variant, bits)) for variant in VARIANTS)
        words = ("-" if members is None else _cell(members, "map") for members in found)
        lines.append(f"| `{method}` | {' | '.join(words)} |")
    return "\n".join(lines)


def quantizers_table(content: dict) -> str:
    """Draws what each quantizer changes, averaged over methods, against the methods without one.

    The quantization error is left out: a few methods whose codes grow without bound would dominate
    its mean.
    """
    cells = _scores_of_cells(content)
    columns = {key: title for key, title in CELL_COLUMNS.items() if key != "quantization_error"}
    lines = [
        f"| bits | quantizer | methods | {' | '.join(columns.values())} | mAP higher | lower |",
        "|---:|---|" + "---:|" * (len(columns) + 3),
    ]
    lengths = dict.fromkeys(row["bits"] for row in content["rows"])
    for bits, (variant, words) in itertools.product(lengths, VARIANTS.items()):
        pairs = [
            (of_seeds, cells[method, "none", bits])
            for (method, name, length), of_seeds in cells.items()
            if (name, length) == (variant, bits) and (method, "none", bits) in cells
        ]
        if variant == "none" or not pairs:
            continue
        moved = (
            _signed(statistics.fmean(_mean(a, key) - _mean(b, key) for a, b in pairs), key)
            for key in columns
        )
        apart = [_clear_difference(*pair) for pair in pairs]
        counts = f"{apart.count(1)} | {apart.count(-1)}"
        lines.append(f"| {bits} | {words} | {len(pairs)} | {' | '.join(moved)} | {counts} |")
    return "\n".join(lines)


def rates_table(content: dict) -> str:
    """Draws validation mAP of each method at each rate, the chosen one in bold."""
    rates = list(next(iter(content["methods"].values()))["validation_map"])
    lines = [f"| method | {' | '.join(rates)} |", "|---|" + "---:|" * len(rates)]
    for method, found in content["methods"].items():
        words = []
        for rate in rates:
            mean = found["validation_map"].get(rate)
            cell = "diverged" if mean is None else f"{mean['mean']:.4f}"
            words.append(f"**{cell}**" if float(rate) == found["best"] else cell)
        lines.append(f"| `{method}` | {' | '.join(words)} |")
    return "\n".join(lines)


def made_line(content: dict) -> str:
    """Returns a sentence with seeds, data, split and command of the cells."""
    seeds, epochs = len(content["rows"][0]["members"]), content["rows"][0]["epochs"]
    return (
        f"{content['dataset']}, {seeds} seeds, {epochs} epochs; "
        f"{content['items']['query']:,} queries, {content['items']['database']:,} items in the "
        f"database, split `{content['split']}` ({content['split_sha256'][:12]}). jax "
        f"{content['versions']['jax']}, by `{content['command']}`."
    )


def objectives_table() -> str:
    """Draws the methods of the library, as `jaxhash train --objective help` prints them."""
    lines = [f"| {' | '.join(METHOD_COLUMNS)} |", "|---" * len(METHOD_COLUMNS) + "|"]
    lines += [f"| `{name}` | {' | '.join(rest)} |" for name, *rest in method_rows()]
    return "\n".join(lines)


def named_table(content: dict, name: str) -> str:
    """Draws one table of a file that holds several, columns and rows as stored."""
    columns, rows = (content["tables"][name][part] for part in ("columns", "rows"))
    align = "|---|" if isinstance(rows[0][0], str) else "|---:|"
    lines = [f"| {' | '.join(columns)} |", align + "---:|" * (len(columns) - 1)]
    lines += [f"| {' | '.join(map(_value, row))} |" for row in rows]
    return "\n".join(lines)


def origin_line(content: dict) -> str:
    """Returns a sentence with what made the tables of a file."""
    hardware, versions = content["hardware"], content["versions"]
    return (
        f"All tables: jax {versions['jax']}, numpy {versions['numpy']}, "
        f"{hardware['cpu_cores_used']} cores of {hardware['cpu']}, by `{content['command']}`."
    )


def _value(cell: str | int | float | dict) -> str:
    match cell:
        case {"low": low, "high": high}:
            return f"{low:.4f} to {high:.4f}"
        case {"mean": mean, "deviation": deviation}:
            return f"{mean:.4f} ± {deviation:.4f}"
        case float():
            return f"{cell:.4f}"
        case int():
            return f"{cell:,}"
    return cell


def _cell(scores: list[dict], key: str) -> str:
    if key not in scores[0]:
        return "-"
    mean, deviation, _ = mean_over_seeds([float(score[key]) for score in scores])
    if key == "distinct_codes":
        return f"{mean:,.0f} ± {deviation or 0:,.0f}"
    return f"{mean:.4f}" + (f" ± {deviation:.4f}" if (deviation or 0) > 5e-5 else "")


def _scores_of_cells(content: dict) -> dict[tuple[str, str, int], list[dict]]:
    """Returns the scores of the members of each trained cell, by method, quantizer and bits."""
    scores = {
        (row["method"], row["quantizer"], row["bits"]): [
            member["scores"] for member in row.get("members", [])
        ]
        for row in content["rows"]
    }
    return {cell: members for cell, members in scores.items() if members and all(members)}


def _mean(members: list[dict], key: str) -> float:
    return statistics.fmean(member[key] for member in members)


def _signed(value: float, key: str) -> str:
    return f"{value:+,.0f}" if key == "distinct_codes" else f"{value:+.4f}"


def _clear_difference(members: list[dict], others: list[dict]) -> int:
    """Returns 1 or -1 if mAP is higher or lower by more than the sum of both deviations, else 0."""
    first, second = (
        mean_over_seeds([member["map"] for member in each]) for each in (members, others)
    )
    difference = first.mean - second.mean
    if abs(difference) <= first.deviation + second.deviation:
        return 0
    return 1 if difference > 0 else -1


def gradient_cache_table(content: dict) -> str:
    """Draws memory and time of a step, whole and in chunks."""
    whole = content["steps"][0]
    lines = ["| chunk | memory | update apart | time |", "|---:|---:|---:|---:|"]
    for step in content["steps"]:
        size = step["chunk_size"] or f"whole batch of {content['batch_size']}"
        lines.append(
            f"| {size} | {step['temporary_bytes'] / 2**20:.1f} MiB | {step['update_apart']:.0e} | "
            f"{step['seconds'] / whole['seconds']:.1f} |"
        )
    made = (
        "A ResNet-20 with frozen normalization: bytes beside the arguments, as compiled for a CPU; "
        "distance of the update from that of the whole batch, relative to it; time as a multiple "
        "of the whole batch's, on a CPU, whose convolutions are slow in a loop"
    )
    return "\n".join([*lines, "", f"{made}. {_made_by(content)}"])


def table_sharding_table(content: dict) -> str:
    """Draws memory and time with tables replicated on each device and sharded over them."""
    lines = [
        "| method | tables | on a device | process | step | first step of an epoch |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for row in content["spread"]:
        lines.append(
            f"| {row['method']} | {'spread' if row['spread'] else 'whole'} | "
            f"{row['table_bytes'] / 2**20:.0f} MiB | {row['peak_bytes'] / 2**30:.1f} GiB | "
            f"{row['step_seconds']:.2f} s | {row['epoch_step_seconds']:.2f} s |"
        )
    made = (
        f"{content['items']:,} images, codes of {content['bits']} bits, batches of "
        f"{content['batch_size']}, {content['devices']} devices of one CPU, which share its cores: "
        "bytes of an objective's tables on each, the most memory of the process, seconds of a step; "
        "when an epoch begins, DSDH and ADSH find the codes of all images"
    )
    return "\n".join([*lines, "", f"{made}. {_made_by(content)}"])


def kill_and_resume_line(content: dict) -> str:
    """Returns a sentence about a training that was killed many times."""
    kills, ends = content["kills"], content["ends"]
    saves = sum(kill["during_save"] for kill in kills)
    same = "the same bits" if content["identical"] else "OTHER BITS"
    return (
        f"A training of {ends['war']['steps']} steps, killed {len(kills)} times by SIGKILL, {saves} of "
        f"them during a save, ended with {same} as one that was left in peace: states, metrics of "
        f"all steps, results. {_made_by(content)}"
    )


def _made_by(content: dict) -> str:
    """Returns the version of JAX and the command, by the script's name of today."""
    command = content["command"]
    for old, new in RENAMED_SCRIPTS.items():
        command = command.replace(f"experiments/{old}", f"experiments/{new}")
    return f"jax {content['versions']['jax']}, by `{command}`."


#: The function that draws the table of a file, by a key that only such a file holds.
DRAWERS = {
    "tables": origin_line,
    "methods": rates_table,
    "rows": cells_table,
    "points": bench_table,
    "rates": input_table,
    "sizes": retrieval_table,
    "ratios": sweep_line,
    "ratio": ratio_line,
    "runs": comparison_table,
    "steps": gradient_cache_table,
    "spread": table_sharding_table,
    "kills": kill_and_resume_line,
}


def draw(file: str, name: str | None) -> str:
    """Draws the table of a file of results, or its table of that name."""
    if file == "objectives":
        return objectives_table()
    content = json.loads((HERE / "results" / f"{file}.json").read_text())
    if file == "hierarchy":
        return hierarchy_tables.draw(content, name)
    if file == "cross_modal":
        return cross_modal_tables.draw(content)
    if file == "few_labels":
        return few_labels_tables.draw(content)
    if file == "iterative_affinity":
        return few_labels_tables.draw_pixels(content)
    if file == "bench_related_cpu":
        return bench_tables.draw(content)
    if file == "quantizer_grid":
        return grid_tables.draw(content, name)
    if file == "hierarchy_search":
        return hierarchy_tables.draw_search(content)
    if "target" in content:
        return compiled_tables.draw(content)
    if name is None:
        return next(draw for key, draw in DRAWERS.items() if key in content)(content)
    if "tables" in content:
        return named_table(content, name)
    if name == "made":
        return made_line(content)
    if name == "quantizers":
        return quantizers_table(content)
    return methods_table(content, int(name.removeprefix("bits")))


def render(text: str) -> str:
    """Returns a page with its tables drawn again."""
    return re.sub(
        r"(<!-- table (\w+)(?:\.(\w+))? -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{draw(match[2], match[3])}\n{match[4]}",
        text,
        flags=re.S,
    )


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(render(page.read_text()))
