"""Ctrl-C and SIGTERM, in a program that uses the library and in the process of the command."""

import signal
import subprocess
import sys
import threading

import pytest

from jaxhash.training.guard import lost_processes
from jaxhash.training.stop import StopRequest, defer_signals, raise_if_stop_requested
from jaxhash.utils.errors import Stopped

RESUME_MESSAGE = "the same command goes on from the last checkpoint"
KINDS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Stopped}


@pytest.fixture
def handlers():
    """Installs handlers, and returns the list of signals that they receive."""
    received = []
    before = {number: signal.getsignal(number) for number in KINDS}
    for number in KINDS:
        signal.signal(number, lambda number, frame: received.append(number))
    yield received
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", list(KINDS))
def test_a_signal_is_recorded_and_raised_on_request(handlers, number):
    with defer_signals():
        raise_if_stop_requested()
        with StopRequest() as stop:
            assert not stop.should_stop(1)
            signal.raise_signal(number)  # raises nothing
            assert stop.should_stop(2)
            with pytest.raises(KINDS[number], match="step 2 is saved"):
                stop.raise_stopped(2)
        with pytest.raises(KINDS[number]):
            raise_if_stop_requested()
        assert handlers == []
    raise_if_stop_requested()  # raises nothing after the context
    signal.raise_signal(number)
    assert handlers == [number]


def test_a_second_signal_goes_to_the_program(handlers):
    with defer_signals():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert handlers == [signal.SIGINT]


def test_a_thread_receives_no_signals(handlers):
    ended = []

    def work():
        with defer_signals(), StopRequest() as stop:
            ended.append(stop.should_stop(1))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ended == [False]
    signal.raise_signal(signal.SIGINT)
    assert handlers == [signal.SIGINT]


def process(code, *arguments, **options):
    """Runs code in a process of the command line; returns status, output and errors."""
    begin = "import os, signal, sys, time\nfrom jaxhash.training import guard, stop\nguard.supervise()\n"
    done = subprocess.run(
        [sys.executable, "-c", begin + code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(("number", "status"), [("SIGINT", 130), ("SIGTERM", 75)])
def test_the_process_of_the_command_ends_at_once(number, status):
    """Even if the main thread is blocked; printed text is not lost."""
    code = f"""
print("printed before")
os.kill(os.getpid(), signal.{number})
while True: time.sleep(100)
"""
    ended, printed, errors = process(code, "train")
    assert ended == status and printed == "printed before\n"
    assert errors.count("\n") == 1 and errors.startswith("jaxhash: ") and "goes on" in errors


def test_in_the_loop_the_second_signal_ends_the_process():
    code = """
with stop.StopRequest():
    os.kill(os.getpid(), signal.SIGINT)
    while not stop._shared[stop._SIGNAL]: time.sleep(0.01)
    print("recorded", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    while True: time.sleep(100)
"""
    assert process(code) == (75, "recorded\n", "jaxhash: stopped by SIGTERM\n")


def test_a_request_in_the_loop_is_raised_after_it():
    code = """
with stop.StopRequest():
    os.kill(os.getpid(), signal.SIGINT)
    while not stop._shared[stop._SIGNAL]: time.sleep(0.01)
try: stop.raise_if_stop_requested()
except KeyboardInterrupt as end: print(end)
"""
    assert process(code) == (0, f"interrupted; {RESUME_MESSAGE}\n", "")


def test_an_ignored_signal_stays_ignored():
    """A shell ignores SIGINT for background processes."""
    code = "os.kill(os.getpid(), signal.SIGINT); time.sleep(0.2); print('here')"
    ignore = dict(preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert process(code, **ignore) == (0, "here\n", "")


ABORT = """
os.write(2, b"a line of a library\\n")
os.write(2, b"E1129 coordination_service.cc: The following tasks are unhealthy (stopped):\\n1\\n")
os.write(2, b"The tasks have crashed.\\n" + 70 * b"    @ 0x7f4908040634  absl::lts\\n")
os.abort()
"""


def test_an_abort_after_a_lost_process_prints_one_line():
    status, _, errors = process(ABORT, "train", "--distributed")
    assert status == 75
    assert errors.splitlines()[0] == "a line of a library"
    assert errors.splitlines()[1:] == ["jaxhash: process 1 is gone; start all again"]


def test_another_crash_is_printed_whole():
    code = "os.write(2, b'Check failure stack trace\\n'); os.kill(os.getpid(), signal.SIGSEGV)"
    status, _, errors = process(code, "train", "--distributed")
    assert status == 128 + signal.SIGSEGV
    assert errors.splitlines()[0] == "Check failure stack trace" and "SIGSEGV" in errors


@pytest.mark.parametrize("loop", [False, True])
def test_signals_of_a_distributed_process(loop):
    """The parent receives them. It forwards SIGTERM to a worker in the loop, and kills another."""
    code = """
from contextlib import nullcontext
if LOOP: signal.signal(signal.SIGTERM, lambda *_: (print("received", flush=True), os._exit(75)))
with stop.StopRequest() if LOOP else nullcontext():
    os.kill(os.getppid(), signal.SIGTERM)
    while True: time.sleep(0.01)
""".replace("LOOP", str(loop))
    status, printed, errors = process(code, "train", "--distributed")
    assert status == 75
    assert (printed, errors.count("\n")) == (("received\n", 0) if loop else ("", 1))


def test_a_worker_ends_with_its_parent():
    """The parent is killed; the output, which the worker also holds, is closed."""
    code = "os.kill(os.getppid(), signal.SIGKILL)\nwhile True: time.sleep(100)"
    status, _, _ = process(code, "train", "--distributed")
    assert status == -signal.SIGKILL


@pytest.mark.parametrize(
    ("text", "processes"),
    [
        ("tasks are unhealthy (x):\n/job:jax_worker/replica:0/task:2\nThe tasks", "process 2"),
        ("RPC: /xla.coordination.CoordinationService/PollForError: Socket closed", "process 0"),
        ("most likely indicates that another task died", "another process"),
        ("Segmentation fault", None),
    ],
)
def test_lost_processes(text, processes):
    assert lost_processes(text) == processes
