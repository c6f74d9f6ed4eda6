"""A report leaves the house and comes back: notebooks for Colab, hand-ins, verdicts for graders."""
