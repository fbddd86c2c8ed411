"""Ctrl-C and SIGTERM: noted in somebody's program, heard by a thread in the process of the command."""

import signal
import subprocess
import sys
import threading

import pytest

from jaxhash.training.guard import lost_processes
from jaxhash.training.stop import StopRequest, defer_signals, raise_if_stop_requested
from jaxhash.utils.errors import Stopped

GOES_ON = "the same command goes on from the last checkpoint"
KINDS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Stopped}


@pytest.fixture
def handlers():
    """Handlers of a program that uses the library, and the signals that they have got."""
    got = []
    before = {number: signal.getsignal(number) for number in KINDS}
    for number in KINDS:
        signal.signal(number, lambda number, frame: got.append(number))
    yield got
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", list(KINDS))
def test_a_signal_is_noted_and_followed_where_that_is_asked(handlers, number):
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
    raise_if_stop_requested()  # it is over
    signal.raise_signal(number)
    assert handlers == [number]


def test_a_second_signal_is_the_programs(handlers):
    with defer_signals():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert handlers == [signal.SIGINT]


def test_a_thread_takes_no_signals(handlers):
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
    """What a process of the command line, which is ready, does and says: status, output, errors."""
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
    """Also where Python's main thread is not asked; what has been printed is not lost."""
    code = f"""
print("said before")
os.kill(os.getpid(), signal.{number})
while True: time.sleep(100)
"""
    ended, said, errors = process(code, "train")
    assert ended == status and said == "said before\n"
    assert errors.count("\n") == 1 and errors.startswith("jaxhash: ") and "goes on" in errors


def test_in_the_loop_the_first_is_noted_and_the_second_ends_the_process():
    code = """
with stop.StopRequest():
    os.kill(os.getpid(), signal.SIGINT)
    while not stop._shared[stop._SIGNAL]: time.sleep(0.01)
    print("noted", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    while True: time.sleep(100)
"""
    assert process(code) == (75, "noted\n", "jaxhash: stopped by SIGTERM\n")


def test_a_request_in_the_loop_that_is_over_is_followed():
    code = """
with stop.StopRequest():
    os.kill(os.getpid(), signal.SIGINT)
    while not stop._shared[stop._SIGNAL]: time.sleep(0.01)
try: stop.raise_if_stop_requested()
except KeyboardInterrupt as end: print(end)
"""
    assert process(code) == (0, f"interrupted; {GOES_ON}\n", "")


def test_who_ignores_ctrl_c_goes_on_doing_so():
    """As a shell has it of what it puts behind."""
    code = "os.kill(os.getpid(), signal.SIGINT); time.sleep(0.2); print('here')"
    ignore = dict(preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    assert process(code, **ignore) == (0, "here\n", "")


ABORT = """
os.write(2, b"something of a library's\\n")
os.write(2, b"E1129 coordination_service.cc: The following tasks are unhealthy (stopped):\\n1\\n")
os.write(2, b"The tasks have crashed.\\n" + 70 * b"    @ 0x7f4908040634  absl::lts\\n")
os.abort()
"""


def test_an_abort_of_one_of_several_is_one_line():
    status, _, errors = process(ABORT, "train", "--distributed")
    assert status == 75
    assert errors.splitlines()[0] == "something of a library's"
    assert errors.splitlines()[1:] == ["jaxhash: process 1 is gone; start all again"]


def test_a_crash_that_has_another_reason_is_told_whole():
    code = "os.write(2, b'Check failure stack trace\\n'); os.kill(os.getpid(), signal.SIGSEGV)"
    status, _, errors = process(code, "train", "--distributed")
    assert status == 128 + signal.SIGSEGV
    assert errors.splitlines()[0] == "Check failure stack trace" and "SIGSEGV" in errors


@pytest.mark.parametrize("loop", [False, True])
def test_signals_of_one_of_several(loop):
    """The parent gets them. In the loop the worker, which JAX would stop, is told; else it is ended."""
    code = """
from contextlib import nullcontext
if LOOP: signal.signal(signal.SIGTERM, lambda *_: (print("told", flush=True), os._exit(75)))
with stop.StopRequest() if LOOP else nullcontext():
    os.kill(os.getppid(), signal.SIGTERM)
    while True: time.sleep(0.01)
""".replace("LOOP", str(loop))
    status, said, errors = process(code, "train", "--distributed")
    assert status == 75
    assert (said, errors.count("\n")) == (("told\n", 0) if loop else ("", 1))


def test_a_worker_ends_with_its_parent():
    """However that ends, here by a kill: nobody holds the output any more, which is read to its end."""
    code = "os.kill(os.getppid(), signal.SIGKILL)\nwhile True: time.sleep(100)"
    status, _, _ = process(code, "train", "--distributed")
    assert status == -signal.SIGKILL


@pytest.mark.parametrize(
    ("said", "gone"),
    [
        ("tasks are unhealthy (x):\n/job:jax_worker/replica:0/task:2\nThe tasks", "process 2"),
        ("RPC: /xla.coordination.CoordinationService/PollForError: Socket closed", "process 0"),
        ("most likely indicates that another task died", "another process"),
        ("Segmentation fault", None),
    ],
)
def test_who_is_gone(said, gone):
    assert lost_processes(said) == gone
