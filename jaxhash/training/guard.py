"""A process beside each one of several, for what a process cannot tell of its own end.

When one of them is gone, JAX's client ends the others from within, by an abort and a trace of its
stack. So the process of the command line forks, before anything is loaded: the child does the work, and
the parent passes signals on, holds back what the client says, and tells in one line who is gone.
"""

import os
import re
import signal
import sys
import threading

from jaxhash.training import stop

#: Status by which a scheduler may start the command again.
RESTARTABLE_STATUS = stop.EXIT_STATUS[signal.SIGTERM]

#: From the first line like this on, what the worker says beside Python is about its end.
_ABOUT_THE_END = re.compile(rb"coordination_service|preemption_sync|PollForError|Check failure")


def supervise() -> None:
    """To be called first in the process of the command line; of several, it goes on in a child."""
    if stop.handles_signals():
        return
    while (opened := os.open(os.devnull, os.O_RDWR)) < 3:
        pass  # a standard file that is closed: the next that is opened would get what is printed
    os.close(opened)
    if "--distributed" in sys.argv[1:]:
        _fork()
    else:
        stop.handle_signals()


def _fork() -> None:
    """Return in the child alone; the parent ends with it."""
    said, says = os.pipe()
    lifeline, held = os.pipe()
    worker = os.fork()
    if worker:
        os.close(says)
        os.close(lifeline)
        stop.handle_signals(worker)
        os._exit(_watch(worker, said))
    os.close(said)
    os.close(held)
    stop.ignore_signals()
    # Python goes on to say things where they are read; the libraries below it say them to the parent.
    sys.stderr = open(os.dup(2), "w", buffering=1)  # noqa: SIM115
    os.dup2(says, 2)
    threading.Thread(target=_end_with_parent, args=(lifeline,), daemon=True).start()


def _end_with_parent(lifeline: int) -> None:
    os.read(lifeline, 1)  # ends when nobody holds the other side any more
    os._exit(1)


def _watch(worker: int, said: int) -> int:
    """Wait for the worker; its status, or that of what it could not tell."""
    last: list[bytes] = []
    listener = threading.Thread(target=_pass_on, args=(said, last), daemon=True)
    listener.start()
    status = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    if stop.ending.is_set():
        threading.Event().wait()  # until the thread that killed the worker ends this process too
    listener.join(1.0)
    if status >= 0:
        return status
    text = b"".join(last).decode(errors="replace")
    if gone := lost_processes(text):
        line, status = f"{gone} is gone; start all again", RESTARTABLE_STATUS
    else:
        os.write(2, text.encode())
        name = signal.Signals(-status).name
        line, status = f"the process was ended by {name}; start all again", 128 - status
    os.write(2, f"jaxhash: {line}\n".encode())
    return status


def _pass_on(said: int, last: list[bytes]) -> None:
    with open(said, "rb") as lines:
        for line in lines:
            if last or _ABOUT_THE_END.search(line):
                last.append(line)
            elif b"SIGTERM caught" not in line:  # as it should be
                os.write(2, line)


def lost_processes(text: str) -> str | None:
    r"""Which processes JAX's client says are gone, in words; None if it says nothing of the kind.

    Example:
        >>> lost_processes("tasks are unhealthy (stopped sending heartbeats):\n1\n3\nThe tasks have ...")
        'process 1, 3'
        >>> lost_processes("Failed to send RPC to coordination service. Either the leader task was ...")
        'process 0'
    """
    found = re.search(r"tasks are unhealthy.*\n((?:.*\d+\n)+)", text)
    if found:
        numbers = re.findall(r"(\d+)$", found[1], re.MULTILINE)
        return f"process {', '.join(numbers)}"
    if "leader task" in text or "PollForError" in text:
        return "process 0"
    return "another process" if "another task died" in text else None
