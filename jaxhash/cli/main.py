"""The command line: ``jaxhash train``, ``evaluate``, ``data`` and ``bench``."""

import contextlib
import dataclasses
import difflib
import io
import logging
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from jaxhash import __version__
from jaxhash.cli.flags import FlagConsole, with_flags
from jaxhash.training import guard, stop
from jaxhash.utils.errors import Stopped, UserError, first_line

if TYPE_CHECKING:  # a command imports what it needs: codes are evaluated without Flax
    from rich.console import Console

    from jaxhash.bench.config import BenchConfig, DataConfig
    from jaxhash.runs.config import Config, TrainArguments

T = TypeVar("T")

#: Status of a training that was stopped by SIGTERM: the same command goes on.
RESUME_ME = stop.EXIT_STATUS[signal.SIGTERM]

#: Names of files and classes are printed as they are, whatever they hold.
_PLAIN = {"markup": False, "emoji": False}

_DATA_COMMANDS = """\
  jaxhash data check --OPTION VALUE ...         sizes, overlaps and labels of a split; 1 if it leaks
  jaxhash data features --OPTION VALUE ...      a data set's features by a published backbone, as a file
  jaxhash data captions --OPTION VALUE ...      embeddings of captions, as such a file
"""

USAGE = f"""usage: jaxhash COMMAND ...

Learn binary hash codes for image retrieval.

  jaxhash train [PRESET] [--OPTION VALUE ...]   train, or go on with a run; --help lists all options
  jaxhash train --objective help                the methods, as a table
  jaxhash evaluate RUN [--data-dir DIR]         compute a finished run's metrics again
  jaxhash evaluate CODES [--OPTION VALUE ...]   evaluate codes made by anything, a .npz or .npy file
{_DATA_COMMANDS}\
  jaxhash bench [--OPTION VALUE ...]            time the losses on this machine; --help lists all options
  jaxhash bench --compare FILE ...              what several machines measured, in one table and plot
  jaxhash bench --data [NAME ...]               images a second: decoding, augmentation, the whole input
  jaxhash --version

presets of train (the first is the default):
"""

USAGE_OF_DATA = f"""usage: jaxhash data COMMAND ...

{_DATA_COMMANDS}
--help after a command lists all its options"""


@dataclasses.dataclass(frozen=True)
class CompareArguments:
    """Merge results of jaxhash bench, from one machine or several, into one table and one plot."""

    compare: tuple[Path, ...]
    """Files that jaxhash bench wrote."""
    output: Path = Path("runs", "bench", "compare.png")
    """The plot."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; a mistake of the user's ends in one line and status 2.

    Args:
        arguments: those of this process if not given, which is then the command's alone: signals end
            it wherever it is.
    """
    own = arguments is None
    arguments = list(sys.argv[1:] if own else arguments)
    if own:
        guard.supervise()
        _open_output()
    try:
        try:
            _dispatch(arguments)
        finally:
            _flush()
    except BrokenPipeError:  # whoever read the output has seen enough
        _exit(1)
    except (UserError, OSError) as error:  # OSError: a full disk, a folder that cannot be written
        _exit(2, error)
    except Stopped as stopped:
        _exit(RESUME_ME, stopped)
    except KeyboardInterrupt as interrupt:
        said = interrupt if interrupt.args else stop.signal_message(signal.SIGINT)
        _exit(stop.EXIT_STATUS[signal.SIGINT], said)
    except Exception as error:
        if _is_of_a_backend(error):
            named = os.environ.get("JAX_PLATFORMS")
            said = (
                first_line(error)
                if str(error)
                else "there is none here; leave it out, or choose cpu"
            )
            _exit(2, UserError(f"JAX_PLATFORMS is {named!r}: {said}"))
        if not _is_one_of_several():
            raise
        from jaxhash.training import distributed

        distributed.exit_with_error(error)


def _is_of_a_backend(error: Exception) -> bool:
    """Whether JAX could not begin to use a backend: some of its errors say so, one says nothing."""
    if isinstance(error, RuntimeError):
        return bool(re.search("(?i)(initialize|unknown) backend", f"{error}"))
    if not isinstance(error, AssertionError) or str(error) or "jax" not in sys.modules:
        return False
    try:
        return not (_is_one_of_several() or sys.modules["jax"].devices())
    except AssertionError:
        return True


def _is_one_of_several() -> bool:
    """Whether this process has joined others."""
    return "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized()


def _open_output() -> None:
    """Standard output, under its name; it must be there."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if sys.stdout is None:
        _exit(2, "standard output is closed")
    same = {name: getattr(sys.stdout, name) for name in ("encoding", "errors", "line_buffering")}
    sys.stdout = io.TextIOWrapper(io.BufferedWriter(_Output(1, "w", closefd=False)), **same)


class _Output(io.FileIO):
    """Standard output, whose errors name it."""

    def write(self, content: bytes) -> int | None:
        try:
            return super().write(content)
        except OSError as error:
            raise OSError(error.errno, error.strerror, "standard output") from None


def _flush() -> None:
    """Write what has been printed, or drop it, as it would be tried once more at the end."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise


def _exit(status: int, said: object = None) -> NoReturn:
    """End with a line, if there is one; of several processes with the others, or by itself."""
    several = _is_one_of_several()
    if several:
        from jaxhash.training import distributed
    if several and isinstance(said, Exception):
        distributed.wait_if_peer_failed(said)
    if said is not None:
        with contextlib.suppress(OSError):
            print(f"jaxhash: {with_flags(str(said))}", file=sys.stderr, flush=True)
    if several:
        distributed.shut_down(status)
    sys.exit(status)


def _dispatch(arguments: list[str]) -> None:
    console = FlagConsole(width=None if sys.stdout.isatty() else 120, **_PLAIN)
    command, *rest = arguments or ["--help"]
    if command in ("-h", "--help"):
        from jaxhash.runs.presets import PRESETS

        print(USAGE + _preset_list(PRESETS))
    elif command == "--version":
        print(f"jaxhash {__version__}")
    elif command == "train" and _value_of(rest, "--objective") == "help":
        from jaxhash.report.methods import print_methods

        print_methods(console)
    elif command == "train":
        parsed = _parse_train(rest)
        _quiet()
        parsed.check()
        if parsed.distributed:
            console = _join(parsed)
        from jaxhash.runs import train as run  # after parsing: --help and mistakes stay quick

        if parsed.dry_run:
            run.dry_run(parsed.config, console)
        elif parsed.is_sweep:
            from jaxhash.runs import sweep

            sweep.train(parsed.config, parsed.axes, console, seeds=parsed.seeds)
        else:
            run.train(parsed.config, console, profile=parsed.profile)
    elif command == "evaluate":
        _quiet()
        from jaxhash.retrieval import code_files

        parsed = _parse(code_files.EvaluateArguments, rest, prog="jaxhash evaluate")
        if parsed.names_codes:
            code_files.evaluate(parsed, console, shlex.join(["jaxhash", *arguments]))
        else:
            parsed.check_run()
            from jaxhash.runs import sweep
            from jaxhash.runs import train as run

            kind = sweep if sweep.is_sweep(parsed.path) else run
            kind.evaluate(parsed.path, console, parsed.data_dir)
    elif command == "data":
        _data(rest, console, shlex.join(["jaxhash", *arguments]))
    elif command == "bench":
        parsed = _parse_bench(rest)
        _quiet()
        from jaxhash.bench import run
        from jaxhash.bench.config import BenchConfig

        if isinstance(parsed, CompareArguments):
            run.compare_results(parsed.compare, parsed.output, console)
        elif isinstance(parsed, BenchConfig):
            run.run_benchmark(parsed, console, shlex.join(["jaxhash", *arguments]))
        else:
            from jaxhash.bench import input_pipeline

            input_pipeline.benchmark_input(parsed, console, shlex.join(["jaxhash", *arguments]))
    else:
        raise UserError(f"unknown command {command!r}; there are train, evaluate, data and bench")


def _parse_train(arguments: list[str]) -> "TrainArguments":
    """The preset named first, or the default one, with the flags' values in it."""
    from jaxhash.runs.config import TrainArguments
    from jaxhash.runs.presets import PRESETS

    named = bool(arguments) and not arguments[0].startswith("-")
    name = arguments[0] if named else next(iter(PRESETS))
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"unknown preset {name!r}; {hint}presets: {', '.join(PRESETS)}")
    parsed = _parse(
        TrainArguments,
        arguments[named:],
        prog=f"jaxhash train {name}",
        default=TrainArguments(PRESETS[name]()),
        description=f"{PRESETS[name].__doc__}\n\npresets:\n{_preset_list(PRESETS)}",
    )
    config = _of_other_split(parsed.config, PRESETS[name](), arguments)
    for flag, values, example in (
        ("--sweep", parsed.sweep, "quantizer-weight=0.01,0.1,1"),
        ("--objective-options", config.objective_options, "pairs=batch"),
        ("--quantizer-options", config.quantizer_options, "target=balanced"),
    ):
        if flag in arguments and not values:
            raise UserError(f"{flag} needs values, as in {flag} {example}")
    if config.run_dir is None:
        folder = Path("runs") / f"{_folder(name, config)}-{config.bits}bit-{parsed.folder}"
        config = dataclasses.replace(config, run_dir=folder)
    return dataclasses.replace(parsed, config=config)


def _of_other_split(config: "Config", preset: "Config", arguments: Sequence[str]) -> "Config":
    """Without what a preset says of its split, where other data or another protocol are named.

    Its protocol is that of its own data, and its counts are those of its protocol.
    """
    unnamed = {"protocol", "queries_per_class", "train_per_class"}
    unnamed -= {argument.split("=")[0].lstrip("-").replace("-", "_") for argument in arguments}
    if config.dataset == preset.dataset:
        unnamed -= {"protocol"}
        if config.protocol == preset.protocol:
            return config
    fields = {field.name: field.default for field in dataclasses.fields(config)}
    return dataclasses.replace(config, **{name: fields[name] for name in unnamed})


def _join(parsed: "TrainArguments") -> "Console":
    """Become one of several processes, of which the first has a screen."""
    from jaxhash.training import distributed

    distributed.initialize_distributed(
        parsed.coordinator, parsed.processes, parsed.process, heartbeat=parsed.heartbeat
    )
    width = None if sys.stdout.isatty() else 120
    return FlagConsole(width=width, quiet=not distributed.is_main_process(), **_PLAIN)


def _folder(preset: str, config: "Config") -> str:
    """The preset, and the objective where it is another than the preset's."""
    from jaxhash.runs.presets import PRESETS

    if config.objective_name == PRESETS[preset]().objective_name:
        return preset
    return f"{preset}-{re.sub(r'[^a-z0-9.]+', '-', config.objective_name).strip('-')}"


def _data(arguments: list[str], console: "Console", command: str) -> None:
    """The commands about data."""
    name, *rest = arguments or ["--help"]
    if name == "check":
        from jaxhash.data.checks.split_report import CheckArguments, check

        parsed = _parse(CheckArguments, rest, prog="jaxhash data check")
        _quiet()
        if check(parsed, console)["leaks"]:
            sys.exit(1)
    elif name == "features":
        from jaxhash.data.writers.feature_files import FeatureArguments, write_features

        parsed = _parse(FeatureArguments, rest, prog="jaxhash data features")
        _quiet()
        write_features(parsed, console, command)
    elif name == "captions":
        from jaxhash.data.writers.caption_embeddings import CaptionArguments, write_captions

        parsed = _parse(CaptionArguments, rest, prog="jaxhash data captions")
        _quiet()
        write_captions(parsed, console, command)
    elif name in ("-h", "--help"):
        print(USAGE_OF_DATA)
    else:
        raise UserError(
            f"unknown command 'data {name}'; there are data check, data features and data captions"
        )


def _parse_bench(arguments: list[str]) -> "BenchConfig | CompareArguments | DataConfig":
    """The preset named, or the default one, with the flags' values in it; files, or data sets."""
    from jaxhash.bench.config import PRESETS, BenchConfig, DataConfig

    for flag, kind in (("--compare", CompareArguments), ("--data", DataConfig)):
        if any(argument.split("=")[0] == flag for argument in arguments):
            return _parse(kind, arguments, prog="jaxhash bench")
    name = _value_of(arguments, "--preset")
    name = name if name in PRESETS else next(iter(PRESETS))
    return _parse(
        BenchConfig,
        arguments,
        prog="jaxhash bench",
        default=PRESETS[name](),
        description="Time losses on this machine, and write a JSON file, a table and a plot; or\n"
        "jaxhash bench --compare FILE ... [--output PLOT.png]: merge such files, of one machine\n"
        "or several; or\njaxhash bench --data [NAME ...]: measure the input; --data --help lists its "
        f"options.\n\npresets:\n{_preset_list(PRESETS)}",
    )


def _parse(kind: Callable[..., T], arguments: list[str], **options) -> T:
    """Parse by tyro; a mistake becomes one line instead of a box."""
    import tyro

    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(kind, args=arguments, **options)
    except SystemExit as exit:
        if not exit.code:
            raise
        raise UserError(
            f"{_one_line(box.getvalue())}; {options['prog']} --help lists what is allowed"
        ) from None


def _one_line(box: str) -> str:
    """What tyro's error box says, up to its first ruled line, and what it thinks was meant.

    The box is drawn in Unicode or, for a terminal of another encoding, in ASCII.
    """
    lines = [line.strip("│| ") for line in box.splitlines()[1:-1]]
    text = " ".join("\n" if re.fullmatch("─+|-{4,}", line) else line for line in lines)
    said, *rest = (part.strip() for part in text.split("\n") if part.strip())
    hint = re.search(r"Perhaps you meant:.*?(--[\w-]+)", " ".join(rest))
    return said.rstrip(".") + (f", did you mean {hint[1]}?" if hint else "")


def _value_of(arguments: list[str], flag: str) -> str | None:
    """The first value of a flag that is looked at before the parser."""
    found = re.search(rf"(?<!\S){flag}[ =](\S+)", " ".join(arguments))
    return found and found[1]


def _preset_list(presets: Mapping[str, Callable]) -> str:
    width = max(map(len, presets))
    return "\n".join(f"  {name:<{width}}  {make.__doc__}" for name, make in presets.items())


def _quiet() -> None:
    """Keep the libraries' chatter (missing GPU, missing OpenCV) from between our lines."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # errors are told by us, in a line
    logging.getLogger("jax").setLevel(logging.ERROR)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    sys.unraisablehook = _tell_unraisable


def _tell_unraisable(raised: Any) -> None:
    """As Python does, but for threads that write a checkpoint on after its write has failed."""
    if str(raised.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(raised)
