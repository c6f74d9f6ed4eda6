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
except ImportError:  # of Unix: elsewhere nothing is locked, and all but reports works
    fcntl = None

LONGEST_TMPDIR = 50  # characters: with 50 of what lies below, a socket's path may have 103 on a Mac
ROOM = 20_000_000  # bytes that a report needs
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
        if stat.S_ISREG(found.st_mode):
            open(path, "rb").close()  # whether it may be read
    except FileNotFoundError:
        what = "no such file"
    except (OSError, ValueError, TypeError) as problem:  # a loop of links, no path at all
        what = (getattr(problem, "strerror", None) or str(problem)).lower()
    else:
        if stat.S_ISDIR(found.st_mode):
            what = "is a folder"
        elif not stat.S_ISREG(found.st_mode):
            what = "is no plain file"
        elif most is not None and found.st_size > most:
            what = f"has {found.st_size / 1e6:,.0f} MB; takes at most {most / 1e6:,.0f}"
        else:
            return Path(path)
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
    there = _nearest(path)
    if not there.is_dir():
        raise ParameterError(f"{name}={str(path)!r}: {there} is no folder; give another one")
    return Path(path)


def check_room(folder):
    """Whether a report fits into `folder`: ParameterError if not."""
    there = _nearest(folder)
    if (free := shutil.disk_usage(there).free) < ROOM:
        raise ParameterError(
            f"{there}: {free / 1e6:.1f} MB free, a report needs {ROOM / 1e6:g}; make room, then the"
            " same command goes on"
        )


def _nearest(path):
    """`path`, or the first thing above it that is there."""
    path = Path(path).absolute()
    return next(filter(os.path.lexists, (path, *path.parents)))


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
    """Take the lock of an open file until it is closed; whether this file system has locks.

    Raises
    ------
    BlockingIOError
        Another process has it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # some network drives have none: a report can be made there all the same
        return False
    return True


@functools.cache
def scratch():
    """This process's folder for temporary files; those of processes that were killed are removed.

    From now on all temporary files of this process lie in it, whichever library makes them.

    Returns
    -------
    Path
    """
    place = Path(tempfile.gettempdir())
    if len(str(place)) > LONGEST_TMPDIR:  # the sockets of kernels would not work there
        place = Path("/tmp")
    for left in place.glob("digitlib-*/lock"):
        # Not ours: no permission. In use: locked, or so new that it is about to be.
        with suppress(OSError), open(left, "r+") as file:
            if lock(file) and time.time() - left.stat().st_mtime > OLD:
                shutil.rmtree(left.parent)
    folder = Path(tempfile.mkdtemp(prefix="digitlib-", dir=place))
    lock(os.open(folder / "lock", os.O_CREAT | os.O_WRONLY))  # until this process ends
    # After multiprocessing's own clean-up, at -100, which wants to find its folder.
    Finalize(None, shutil.rmtree, (folder, True), exitpriority=-200)
    tempfile.tempdir = str(folder)
    return folder


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
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        remedy = f"make room in {' or '.join(map(str, folders))}, then the same command goes on"
    elif error.errno == errno.EMFILE:
        remedy = "allow more open files: ulimit -n 1024"
    return f"{where}{said}; {remedy}"
