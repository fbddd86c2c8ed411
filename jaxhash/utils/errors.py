"""What is meant for the person at the keyboard, or for the scheduler that stands in for one."""


def printable(text: str) -> str:
    r"""A text in one line: what a terminal does not print, as names of files may hold, is written out.

    Example:
        >>> print(printable("a\nb"))
        a\nb
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def first_line(error: Exception) -> str:
    r"""The first line of what an error of somebody else's says, cut short; its name if it is silent.

    Example:
        >>> first_line(ValueError("no such tree\nat line 3"))
        'no such tree'
    """
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


class UserError(Exception):
    r"""Something the user can mend; its message is one line that says what and how.

    The command line prints it without a traceback and exits with status 2.

    Example:
        >>> print(UserError("class new\nline (0) has 1 items"))
        class new\nline (0) has 1 items
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class Stopped(Exception):
    """Training has stopped because it was asked to, and goes on by the same command.

    The command line says so and exits with status 75, by which a scheduler knows that it may start
    the command again (EX_TEMPFAIL of sysexits.h).
    """
