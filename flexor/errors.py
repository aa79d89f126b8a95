"""The one error tree of flexor. Every message names the thing, the value, the expected, and the way out."""


class FlexorError(Exception):
    """A failure that a user can act on; the command line prints it without a traceback and exits with 1."""
