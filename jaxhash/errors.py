"""What is meant for the person at the keyboard, or for the scheduler that stands in for one."""


class UserError(Exception):
    """Something the user can mend; its message is one line that says what and how.

    The command line prints it without a traceback and exits with status 2.
    """


class Stopped(Exception):
    """Training has stopped because it was asked to, and goes on by the same command.

    The command line says so and exits with status 75, by which a scheduler knows that it may start
    the command again (EX_TEMPFAIL of sysexits.h).

    Args:
        step: steps that are done and saved.
    """

    def __init__(self, step: int):
        super().__init__(
            f"stopped by SIGTERM; step {step} is saved, and the same command goes on from there"
        )
