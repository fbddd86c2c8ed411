"""Errors that end a command in one line, and how their text is made printable."""


def printable(text: str) -> str:
    r"""Returns a text in one line, with characters that a terminal does not print escaped.

    Names of files may hold such characters.

    Example:
        >>> print(printable("a\nb"))
        a\nb
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def first_line(error: Exception) -> str:
    r"""Returns the first line of the message of another library's error, cut at 200 characters.

    An error without a message gives the name of its type.

    Example:
        >>> first_line(ValueError("no such tree\nat line 3"))
        'no such tree'
    """
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


class UserError(Exception):
    r"""An error that the user can correct; its message is one line that says what is wrong and how to.

    Arguments are named in backticks, as in `` `batch_size` ``. The command prints the message with flags
    in their place, without a traceback, and exits with status 2.

    Example:
        >>> print(UserError("class new\nline (0) has 1 items"))
        class new\nline (0) has 1 items
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class Stopped(Exception):
    """Training has stopped on request, and the same command continues it.

    The command prints that and exits with status 75 (EX_TEMPFAIL of sysexits.h), by which a scheduler
    knows that it may start the command again.
    """
