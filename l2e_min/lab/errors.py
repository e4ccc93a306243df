"""The one exception whose message is meant for the person at the keyboard."""


class UserError(Exception):
    """Bad input from a user. The message is one line: what was wrong, and what to do about it.

    The command line prints it without a traceback and exits with status 2.
    """
