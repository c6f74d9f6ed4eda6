"""Handwritten-digit recognition with reports that can be recomputed. Start with ``README.md``."""

import importlib

__version__ = "1.0.0"

# Loaded on first use, so that `import digitlib` costs milliseconds and torch is imported only where
# it is needed.
_HOMES = {
    "load_digits": "data",
    "DigitClassifier": "classifier",
    "cross_validate": "crossval",
    "load_model": "runs",
    "prepare_image": "handwriting.find",
    "find_digits": "handwriting.find",
}
__all__ = [*_HOMES, "__version__"]


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(f"digitlib.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'digitlib' has no attribute {name!r}")
