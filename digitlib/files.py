"""Files: only plain ones are opened, each is written whole, and what a kill leaves is swept."""

import errno
import functools
import os
import shutil
import stat
import tempfile
import time
from contextlib import contextmanager, suppress
from multiprocessing.util import Finalize
from pathlib import Path

from digitlib.errors import ParameterError

try:
    import fcntl
    import resource
except ImportError:  # of Unix: elsewhere nothing is locked, and all but reports works
    fcntl = resource = None

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
LONGEST_TMPDIR = 44  # characters: with 20 of ours and a socket's, the system takes about 100
ROOM, OPEN_FILES = 20_000_000, 256  # bytes, and number, that a report needs
OLD = 60  # seconds after which an unused scratch folder is somebody's leftover


def check_file(path, error, remedy, most=None):
    """`path`, if it is a regular file: no folder, pipe, device or broken link is ever opened.

    Parameters
    ----------
    path : str or path-like
    error : type
        Of the exception to raise.
    remedy : str
        What to do, for the message.
    most : int or None
        Bytes that it may have.

    Returns
    -------
    Path
    """
    try:
        found = os.stat(os.fspath(path))
    except FileNotFoundError:
        what = "no such file"
    except (OSError, ValueError, TypeError) as problem:  # a loop of links, no path at all
        what = (getattr(problem, "strerror", None) or str(problem)).lower()
    else:
        what = "is a folder" if stat.S_ISDIR(found.st_mode) else "is no plain file"
        if stat.S_ISREG(found.st_mode):
            if most is None or found.st_size <= most:
                return Path(path)
            what = f"has {found.st_size / 1e6:,.0f} MB; takes at most {most / 1e6:,.0f}"
    raise error(f"{path}: {what}; {remedy}")


def check_target(path, name):
    """`path`, if a file can be written there: ParameterError, with the parameter's `name`, if not.

    Returns
    -------
    Path
    """
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise ParameterError(f"{name}={str(path)!r}: its folder does not exist; make it first")
    if os.path.lexists(path):
        check_file(path, ParameterError, f"{name} takes the name of a file to write")
    return path


def check_folder(path, name):
    """`path`, if it is a folder or can become one: ParameterError if something else is there.

    Returns
    -------
    Path
    """
    path = Path(path)
    there = next(filter(os.path.lexists, (path, *path.absolute().parents)))
    if not os.path.isdir(there):
        raise ParameterError(f"{name}={str(path)!r}: {there} is no folder; give another one")
    return path


def check_room(folder):
    """Whether kernels can work and a report fits into `folder`: ParameterError if not."""
    folder = folder.absolute()
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    if (free := shutil.disk_usage(there).free) < ROOM:
        raise ParameterError(
            f"{there}: {free / 1e6:.1f} MB free, a report needs {ROOM / 1e6:g}; make room, then the"
            " same command goes on"
        )
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1] if resource else OPEN_FILES
    if 0 < most < OPEN_FILES:
        raise ParameterError(f"{most} open files are allowed; set ulimit -n {OPEN_FILES}")


@contextmanager
def replacing(path):
    """A path beside `path` to write to, which takes its place when the block ends well.

    A reader never sees half a file; if the block raises, `path` is as it was before.
    """
    part = Path(path).with_name(f".{Path(path).name}.part")
    part.unlink(missing_ok=True)  # a link, in a folder that is a stranger's, would lead elsewhere
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path, text):
    """Write `text` to `path`, whole or not at all; return `path`."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def lock(file):
    """Take the lock of an open file until it is closed; OSError if another process has it."""
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


@functools.cache
def scratch():
    """This process's folder for temporary files; those of processes that were killed are removed.

    From now on all temporary files of this process lie in it, whichever library makes them.

    Returns
    -------
    Path

    Raises
    ------
    ParameterError
        The path would be too long for the sockets of kernels.
    """
    place = Path(tempfile.gettempdir())
    if len(str(place)) > LONGEST_TMPDIR:
        raise ParameterError(
            f"TMPDIR={str(place)!r}: too long for sockets; set TMPDIR to a path of at most"
            f" {LONGEST_TMPDIR} characters, such as /tmp"
        )
    for left in place.glob("digitlib-*/lock"):
        # Not ours: no permission. In use: locked, or so new that it is about to be.
        with suppress(OSError), open(left, "r+") as file:
            lock(file)
            if time.time() - left.stat().st_mtime > OLD:
                shutil.rmtree(left.parent)
    folder = Path(tempfile.mkdtemp(prefix="digitlib-"))
    held = open(folder / "lock", "w")  # noqa: SIM115 - for as long as this process lives
    lock(held)
    # After multiprocessing's own clean-up, at -100, which wants to find its folder.
    Finalize(None, _remove, (folder, held), exitpriority=-200)
    tempfile.tempdir = str(folder)
    return folder


def _remove(folder, held):
    held.close()
    shutil.rmtree(folder, ignore_errors=True)


def trouble(error, *folders):
    """What the system refused, as one line: where, why, and what to do.

    Parameters
    ----------
    error : OSError
    *folders : str or path-like
        Where room may be needed.
    """
    where = f"{error.filename}: " if error.filename else ""
    said, remedy = (error.strerror or str(error)).lower(), "check that folder and its permissions"
    if error.errno in NO_ROOM:
        free = [f"{shutil.disk_usage(f).free / 1e6:.1f} MB in {f}" for f in map(str, folders)]
        remedy = f"free are {' and '.join(free)}; make room, then the same command goes on"
    elif error.errno == errno.EMFILE:
        remedy = "allow more open files: ulimit -n 1024"
    return f"{where}{said}; {remedy}"
