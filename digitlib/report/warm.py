"""What processes of a report need, imported once, in the process that they are copies of."""

import ipykernel.kernelapp
import torch

from digitlib import checks, own, plots
from digitlib.compare import competitors
from digitlib.report import forks

__all__ = ["checks", "competitors", "forks", "ipykernel", "own", "plots"]

# The first optimizer of a process imports torch's compiler, for more than a second.
torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
