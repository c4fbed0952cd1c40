"""The one exception that users are meant to see."""


class OdysseyError(Exception):
    """A problem that the user can mend.

    The message names the file, key or value at fault and the remedy. The command
    line prints it as one line and exits with status 1; from Python it is raised.
    """
