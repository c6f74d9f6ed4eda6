"""What processes of a report need, imported once, in the process that they are copies of."""

import gc

gc.disable()  # nothing of it is garbage: looking for some takes a fifth of the time

import ipykernel.kernelapp  # noqa: E402

from digitlib import checks, compare, own, plots  # noqa: E402
from digitlib.reporting import forks  # noqa: E402

__all__ = ["checks", "compare", "forks", "ipykernel", "own", "plots"]

gc.freeze()  # nor in the copies
gc.enable()
