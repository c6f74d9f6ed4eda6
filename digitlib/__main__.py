"""``python -m digitlib``."""

from digitlib.cli import main

main()
