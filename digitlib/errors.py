"""Errors a user can mend. Each message is one line: the value, what is allowed, the remedy."""


def plain(text: str, most: int = 600) -> str:
    """`text` as a terminal may show it: on one line, short, without control characters."""
    text = f"{text[: most // 2]} ... {text[-most // 2 :]}" if len(text) > most else text
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


class DigitlibError(ValueError):
    """Base of every error that the command line prints as one line and answers with exit code 2."""


class DataError(DigitlibError):
    """The digits could not be had, or are not what they should be."""


class ParameterError(DigitlibError):
    """A parameter is unknown, of the wrong type, out of range or without effect."""


class RunError(DigitlibError):
    """A run folder is missing, incomplete or does not fit together."""


class NotebookFailed(Exception):
    """A notebook did not run to its end; the message names notebook, cell and error in one line.
    Exit code 1.
    """


class ImageError(DigitlibError):
    """This is no picture of a digit: not readable, too large, blank."""
