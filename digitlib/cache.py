"""What need not be computed twice: small arrays in the user's cache folder, found again by
everything that decided them.
"""

import hashlib
import json
import os
import sys
import tempfile
import zipfile
import zlib
from pathlib import Path

import numpy as np


def folder():
    """The cache folder: what ``DIGITLIB_CACHE`` says, else the platform's folder for this user."""
    from platformdirs import user_cache_path

    override = os.environ.get("DIGITLIB_CACHE")
    return Path(override) if override else user_cache_path("digitlib")


def remembered(kind, facts, compute):
    """What ``compute()`` gives, from the cache if it was computed before under the same facts.

    Parameters
    ----------
    kind : str
        Start of the file's name.
    facts : dict
        Everything that decides the result, anything JSON can say. A fact left out here is a wrong
        result later.
    compute : callable
        Takes nothing, returns a dict of arrays.

    Returns
    -------
    tuple
        The dict of arrays, and whether it came from the cache. A damaged file counts as none; a
        full disk costs only the cache.
    """
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    path = folder() / f"{kind}-{key[:32]}.npz"
    try:
        with np.load(path, allow_pickle=False) as kept:
            return dict(kept), True
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error):
        arrays = compute()
    _save(path, arrays)
    return arrays, False


def _save(path, arrays):
    """Under a temporary name first, so that a reader never sees half a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            np.savez_compressed(file, **arrays)
        os.replace(file.name, path)
    except OSError as error:
        print(
            f"digitlib: the result could not be cached in {path.parent} ({error})", file=sys.stderr
        )
