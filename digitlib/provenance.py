"""Provenance: which code, libraries and machine made a run, and what was changed in the code."""

import base64
import hashlib
import os
import platform
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import digitlib

PACKAGE = Path(digitlib.__file__).parent
LIBRARIES = ["torch", "torchmetrics", "numpy", "pandas", "scikit-learn", "scipy", "matplotlib"]
LIBRARIES += ["seaborn", "papermill", "nbconvert"]


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
        sources; ``changed``, see :func:`state_of_code`).
    """
    commit, changed, _ = state_of_code()
    versions = {"digitlib": digitlib.__version__, "python": platform.python_version()}
    versions |= {name: library_version(name) for name in LIBRARIES}
    machine = {"system": platform.system(), "processor": platform.machine()}
    machine |= {"cores": os.cpu_count(), "engine": engine}
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions,
        "machine": machine,
        "commit": commit,
        "code": {"sha256": code_hash(), "changed": changed},
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
    made_by = f"digitlib {digitlib.__version__}, Python {platform.python_version()}"
    commit = (state_of_code()[0] or "unknown")[:9]
    return f"{made_by}, torch {library_version('torch')}, commit {commit}"


def notebook_folder():
    """Where the notebooks are: beside the package in a checkout, inside it in a wheel."""
    beside = PACKAGE.parent / "notebooks"
    return beside if (beside / "1_eda.ipynb").is_file() else PACKAGE / "notebooks"


# ---- the code ------------------------------------------------------------------------------------


def sources():
    """Text of the package's sources: name -> text."""
    # Hidden files are no modules: an editor's lock, what macOS leaves, Jupyter's checkpoints.
    found = [*PACKAGE.rglob("*.py"), *PACKAGE.glob("*.toml"), *PACKAGE.glob("handwriting/*.toml")]
    names = sorted(f"digitlib/{path.relative_to(PACKAGE).as_posix()}" for path in found)
    if (PACKAGE.parent / ".git").exists():  # nor is what somebody left there
        with suppress(OSError, subprocess.CalledProcessError):
            tracked = _git("ls-files", "-z").split("\0")
            names = [name for name in names if name in tracked]
    return {n: (PACKAGE.parent / n).read_text("utf-8") for n in names if "/." not in n}


@cache
def code_hash():
    """SHA-256 over the sources of the package: any change of code gives another one."""
    digest = hashlib.sha256()
    for name, text in sources().items():
        digest.update(f"{name}\0{text}\0".encode())
    return digest.hexdigest()


def state_of_code():
    """The commit, and the sources that are not as committed or, if installed, as released.

    Returns
    -------
    commit : str or None
        With "-dirty" if any file differs from it; None outside a git checkout.
    changed : list of str or None
        Such as ``["digitlib/model.py"]``; None if it cannot be told.
    refusal : str
        What git says where it does not tell the commit of this checkout, with its remedy.
    """
    if not (PACKAGE.parent / ".git").exists():
        return None, _changed_since_release(), ""
    try:
        commit = _git("rev-parse", "HEAD").strip()
        changed = set(_git("diff", "--name-only", "-z", "HEAD").split("\0")) - {""}
    except (OSError, subprocess.CalledProcessError) as error:  # no git here, or it will not
        return None, None, " ".join((getattr(error, "stderr", None) or str(error)).split())
    return commit + ("-dirty" if changed else ""), sorted(changed & sources().keys()), ""


def _git(*words):
    """What git answers about the folder around the package, whatever its variables name."""
    # GIT_DIR and its like go, settings stay. Nor does git ask a folder further up.
    mine = {k: v for k, v in os.environ.items() if k[:4] != "GIT_" or k.startswith("GIT_CONFIG")}
    mine["GIT_CEILING_DIRECTORIES"] = str(PACKAGE.parents[1])
    command = ["git", "-C", PACKAGE.parent, *words]
    done = subprocess.run(command, capture_output=True, check=True, env=mine, errors="replace")
    return done.stdout


def _changed_since_release():
    """Sources that differ from what the installed package lists; None if it lists none."""
    try:
        listed = distribution("digitlib").files or ()
    except PackageNotFoundError:
        return None
    texts = sources()
    released = {str(path): path.hash.value for path in listed if path.hash and str(path) in texts}
    changed = sorted(name for name in released if released[name] != _as_listed(texts[name]))
    return changed if released else None


def _as_listed(text):
    """The hash of a file as a package's list of its files writes it."""
    digest = hashlib.sha256(text.encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
