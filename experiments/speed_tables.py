"""Draws the tables and sentences of times, memory and kills, for `tables.py`."""

from jaxhash.bench.losses import TORCH_PREFIX

#: Scripts by the names that stored commands have.
RENAMED_SCRIPTS = {
    "chunks.py": "gradient_cache.py",
    "kills.py": "kill_and_resume.py",
    "method_rates.py": "learning_rates.py",
    "spread.py": "table_sharding.py",
}


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
    return "\n".join([*lines, "", _timed_by(content)])


def torch_table(content: dict) -> str:
    """Draws the time of each loss at each batch size, and how many times as long PyTorch takes."""
    points = content["points"]
    median = {(point["loss"], point["batch"]): point["median_seconds"] for point in points}
    batches = sorted({point["batch"] for point in points})
    titles = (f"batch {batch:,} | torch / jaxhash" for batch in batches)
    lines = [f"| loss | {' | '.join(titles)} |", "|---|" + "---:|" * (2 * len(batches))]
    for loss in dict.fromkeys(loss for loss, _ in median if not loss.startswith(TORCH_PREFIX)):
        cells = []
        for batch in batches:
            ours, theirs = (median.get((name, batch)) for name in (loss, TORCH_PREFIX + loss))
            cells.append("-" if ours is None else f"{1e6 * ours:,.0f} µs")
            cells.append("-" if ours is None or theirs is None else f"{theirs / ours:.2g} x")
        lines.append(f"| `{loss}` | {' | '.join(cells)} |")
    return "\n".join([*lines, "", _timed_by(content)])


def _timed_by(content: dict) -> str:
    """Returns a sentence with what was timed, on what, and by which command."""
    first, hardware = content["points"][0], content["hardware"]
    versions = content["versions"]
    torch = f", torch {versions['torch']}" if "torch" in versions else ""
    return (
        f"Medians, {first['bits']} bits, {first['dtype']}, forward + backward, on "
        f"{hardware['cpu_cores_used']} cores of {hardware['cpu']}, jax {versions['jax']}{torch}, by "
        f"`{content['command'].split(' --output')[0]}`."
    )


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
