"""The base of errors that need no traceback."""


class ExplainedError(RuntimeError):
    """Something could not be done. The message is a sentence that says why and what to do, which
    the command line prints without a traceback."""
