"""The one error that is meant for the person at the keyboard."""


class UserError(Exception):
    """Something the user can mend; its message is one line that says what and how.

    The command line prints it without a traceback and exits with status 2.
    """
