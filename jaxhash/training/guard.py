"""A parent process beside each process of a distributed job, to report how the job ended.

When a process of the job is lost, JAX's client aborts the others from within and prints a stack
trace. The process of the command line therefore forks before anything is loaded. The child does the
work. The parent passes signals on, holds back the output of the client, and prints one line that
names the lost process.
"""

import os
import re
import signal
import sys
import threading

from jaxhash.training import stop

#: Exit status that tells a scheduler to start the command again.
RESTARTABLE_STATUS = stop.EXIT_STATUS[signal.SIGTERM]

#: Matches the first line below Python, in the worker's output, that belongs to its end.
_CLIENT_FAILURE = re.compile(rb"coordination_service|preemption_sync|PollForError|Check failure")


def supervise() -> None:
    """Sets up signals in the process of the command line; call it first.

    A process of a distributed job forks: this returns in the child only, and the parent exits with
    the child's status.
    """
    if stop.handles_signals():
        return
    while (opened := os.open(os.devnull, os.O_RDWR)) < 3:
        pass  # fill closed standard streams, or the next file opened would receive printed text
    os.close(opened)
    if "--distributed" in sys.argv[1:]:
        _fork()
    else:
        stop.handle_signals()


def _fork() -> None:
    """Returns in the child only; the parent exits when the child has."""
    stderr_reader, stderr_writer = os.pipe()
    lifeline_reader, lifeline_writer = os.pipe()
    worker = os.fork()
    if worker:
        os.close(stderr_writer)
        os.close(lifeline_reader)
        stop.handle_signals(worker)
        os._exit(_wait_for(worker, stderr_reader))
    os.close(stderr_reader)
    os.close(lifeline_writer)
    stop.ignore_signals()
    # Python keeps its standard error; the libraries below Python write to the parent.
    sys.stderr = open(os.dup(2), "w", buffering=1)  # noqa: SIM115
    os.dup2(stderr_writer, 2)
    threading.Thread(target=_exit_with_parent, args=(lifeline_reader,), daemon=True).start()


def _exit_with_parent(lifeline: int) -> None:
    os.read(lifeline, 1)  # returns when the parent no longer holds the other end
    os._exit(1)


def _wait_for(worker: int, stderr: int) -> int:
    """Waits for the worker and returns the exit status, with a line if it ended by a signal."""
    held_back: list[bytes] = []
    forwarder = threading.Thread(target=_forward, args=(stderr, held_back), daemon=True)
    forwarder.start()
    status = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    if stop.ending.is_set():
        threading.Event().wait()  # the thread that killed the worker ends this process too
    forwarder.join(5.0)  # longer, and a process that the worker started holds the pipe
    if status >= 0:
        return status
    text = b"".join(held_back).decode(errors="replace")
    if lost := lost_processes(text):
        line, status = f"{lost} is gone; start all again", RESTARTABLE_STATUS
    else:
        os.write(2, text.encode())
        name = signal.Signals(-status).name
        line, status = f"the process was ended by {name}; start all again", 128 - status
    os.write(2, f"jaxhash: {line}\n".encode())
    return status


def _forward(stderr: int, held_back: list[bytes]) -> None:
    """Forwards the worker's output, up to the lines about a failure of JAX's client."""
    with open(stderr, "rb") as lines:
        for line in lines:
            if held_back or _CLIENT_FAILURE.search(line):
                held_back.append(line)
            elif b"SIGTERM caught" not in line:  # expected, and not worth a line
                os.write(2, line)


def lost_processes(text: str) -> str | None:
    r"""Names the processes that JAX's client reports as lost; None if it reports none.

    Example:
        >>> lost_processes("tasks are unhealthy (stopped sending heartbeats):\n1\n3\nThe tasks ...")
        'process 1, 3'
        >>> lost_processes("Failed to send RPC to coordination service. Either the leader task ...")
        'process 0'
    """
    found = re.search(r"tasks are unhealthy.*\n((?:.*\d+\n)+)", text)
    if found:
        numbers = re.findall(r"(\d+)$", found[1], re.MULTILINE)
        return f"process {', '.join(numbers)}"
    if "leader task" in text or "PollForError" in text:
        return "process 0"
    return "another process" if "another task died" in text else None
