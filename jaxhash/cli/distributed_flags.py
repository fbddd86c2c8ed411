"""The flags of a command that several hosts run together."""

import dataclasses
from typing import Annotated

import tyro
from rich.console import Console

from jaxhash.cli.output import make_console
from jaxhash.utils.errors import UserError


@dataclasses.dataclass(frozen=True)
class _Distributed:
    """Who takes part, as flags."""

    distributed: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Work on several hosts, each of which runs this command; those that train a sweep share its members."""
    coordinator: str | None = None
    """HOST:PORT of the first process; JAX_COORDINATOR_ADDRESS or the cluster if not given."""
    processes: int | None = None
    """How many processes there are; JAX_NUM_PROCESSES or the cluster if not given."""
    process: int | None = None
    """Number of this process, from 0; JAX_PROCESS_ID or the cluster if not given."""
    heartbeat: int | None = None
    """Seconds after which a process that is not heard of is gone, and the others end; 30 if not given."""

    def check(self) -> None:
        """Raises a `UserError` if two of the flags do not go together."""
        for name in ("coordinator", "processes", "process", "heartbeat"):
            if getattr(self, name) is not None and not self.distributed:
                raise UserError(f"--{name} is for work on several hosts; it needs --distributed")
        if self.heartbeat is not None and self.heartbeat < 2:
            raise UserError(f"--heartbeat must be at least 2 seconds, got {self.heartbeat}")

    def join(self, console: Console) -> Console:
        """Joins the distributed job, if there is one; returns the console, which prints in process 0 only."""
        if not self.distributed:
            return console
        from jaxhash.training import distributed

        distributed.initialize_distributed(
            self.coordinator, self.processes, self.process, heartbeat=self.heartbeat
        )
        return make_console(quiet=not distributed.is_main_process())

    def number(self) -> tuple[int, int]:
        """Returns the number of processes, which need not join one another, and the index of this one."""
        if not self.distributed:
            return 1, 0
        from jaxhash.training.distributed import number_process

        return number_process(self.processes, self.process)


#: A field of a command's dataclass that has these flags.
DistributedFlags = Annotated[_Distributed, tyro.conf.arg(name=""), tyro.conf.OmitArgPrefixes]

#: The processes of a command that is not told of any.
ONE_PROCESS = _Distributed()
