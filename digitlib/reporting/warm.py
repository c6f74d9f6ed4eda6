"""What processes of a report need, imported once, in the process that they are copies of."""

import ipykernel.kernelapp

from digitlib import checks, compare, own, plots
from digitlib.reporting import forks

__all__ = ["checks", "compare", "forks", "ipykernel", "own", "plots"]
