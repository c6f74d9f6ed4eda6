"""``python -m digitlib``."""

from digitlib.cli import main

if __name__ == "__main__":  # a kernel's process imports this module under another name
    main()
