"""What processes of a report need, imported once, in the process that they are copies of."""

import ipykernel.kernelapp

from digitlib import checks, own, plots
from digitlib.compare import competitors
from digitlib.report import forks

__all__ = ["checks", "competitors", "forks", "ipykernel", "own", "plots"]
