"""What is meant for the person at the keyboard, or for the scheduler that stands in for one."""


def first_line(error: Exception) -> str:
    r"""The first line of what an error of somebody else's says, cut short; its name if it is silent.

    Example:
        >>> first_line(ValueError("no such tree\nat line 3"))
        'no such tree'
    """
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


class UserError(Exception):
    """Something the user can mend; its message is one line that says what and how.

    The command line prints it without a traceback and exits with status 2.
    """


class Stopped(Exception):
    """Training has stopped because it was asked to, and goes on by the same command.

    The command line says so and exits with status 75, by which a scheduler knows that it may start
    the command again (EX_TEMPFAIL of sysexits.h).
    """
