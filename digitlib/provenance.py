"""Provenance: which code, libraries and machine made a run, and what was changed in the code."""

import base64
import hashlib
import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import digitlib

PACKAGE = Path(digitlib.__file__).parent
LIBRARIES = (
    *("torch", "torchmetrics", "numpy", "pandas", "scikit-learn", "scipy"),
    *("matplotlib", "seaborn", "papermill", "nbconvert"),
)


def provenance(engine=""):
    """Versions, machine, commit and code of this process, as a dictionary for JSON.

    Parameters
    ----------
    engine : str
        The cluster that did the work, in words; empty for this machine.

    Returns
    -------
    dict
        ``created`` (UTC, ISO 8601), ``versions``, ``machine``, ``commit`` (hash, "-dirty" appended
        if files differ; None outside a git checkout), ``code`` (``sha256`` of the package's
        sources; ``changed``, see :func:`changed_files`).
    """
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "digitlib": digitlib.__version__,
            "python": platform.python_version(),
            **{name: library_version(name) for name in LIBRARIES},
        },
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "engine": engine,
        },
        "commit": _commit(),
        "code": {"sha256": code_hash(), "changed": changed_files()},
    }


def library_version(name):
    """Installed version of a library, None if it is missing."""
    # With a local suffix such as "+cpu", which may explain differences in the last bit.
    try:
        return version(name)
    except PackageNotFoundError:
        return None  # papermill and nbconvert, where a notebook is run by hand as in Colab


def where_am_i():
    """One line for the top of a notebook: version, Python, torch, commit."""
    commit = (_commit() or "not from a git checkout")[:9]
    return (
        f"digitlib {digitlib.__version__}, Python {platform.python_version()}, torch"
        f" {library_version('torch')}, commit {commit}"
    )


def notebook_folder():
    """Where the notebooks are: beside the package in a checkout, inside it in a wheel."""
    beside = PACKAGE.parent / "notebooks"
    return beside if (beside / "1_eda.ipynb").is_file() else PACKAGE / "notebooks"


# ---- the code ------------------------------------------------------------------------------------


def sources():
    """Text of the package's sources: name -> text."""
    paths = sorted([*PACKAGE.rglob("*.py"), *PACKAGE.glob("*.toml")])
    return {f"digitlib/{p.relative_to(PACKAGE).as_posix()}": p.read_text("utf-8") for p in paths}


@cache
def code_hash():
    """SHA-256 over the sources of the package: any change of code gives another one."""
    digest = hashlib.sha256()
    for name, text in sorted(sources().items()):
        digest.update(f"{name}\0{text}\0".encode())
    return digest.hexdigest()


def changed_files():
    """Sources that are not as committed (in a git checkout) or as released (installed).

    Returns
    -------
    list of str or None
        Such as ``["digitlib/model.py"]``; None if neither can be told.
    """
    try:
        return _changed_since_commit() if _in_checkout() else _changed_since_release()
    except (OSError, ValueError, KeyError, subprocess.CalledProcessError, PackageNotFoundError):
        return None


def _changed_since_commit():
    lines = _git("status", "--porcelain", "--untracked-files=no", "-z").split("\0")
    return sorted({line[3:] for line in lines} & sources().keys())


def _changed_since_release():
    found, known = [], 0
    for path in distribution("digitlib").files:
        if path.suffix in (".py", ".toml") and path.parts[0] == "digitlib" and path.hash:
            digest = hashlib.new(path.hash.mode, path.locate().read_bytes()).digest()
            known += 1
            if base64.urlsafe_b64encode(digest).decode().rstrip("=") != path.hash.value:
                found.append(path.as_posix())
    return sorted(found) if known else None


def _in_checkout():
    return (PACKAGE.parent / ".git").exists()


def _commit():
    if not _in_checkout():
        return None
    try:
        differs = _git("status", "--porcelain", "--untracked-files=no")
        return _git("rev-parse", "HEAD").strip() + ("-dirty" if differs else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*words):
    command = ["git", "-C", PACKAGE.parent, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
