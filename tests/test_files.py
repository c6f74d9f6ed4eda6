"""What may be opened, how it is written and locked, and where temporary files lie."""

import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import ROOT

from digitlib import files
from digitlib.errors import DataError

NOBODY = 65534


def python(code, *words, **environment):
    """Run a line that uses ``files`` in another process; what it prints, or why it fails."""
    command = [sys.executable, "-c", f"import sys; from digitlib import files; {code}", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip()


def test_text_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "run.json"
    files.write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        files.write_text(path, "new \ud800")  # cannot be written, as on a full disk
    assert path.read_text() == "old"


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become somebody else")
def test_a_file_that_may_not_be_read_is_said_to_be_that(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o755)
    Path("digits.csv").touch(mode=0o600)
    os.seteuid(NOBODY)
    try:
        with pytest.raises(DataError, match=r"^digits\.csv: permission denied; check it"):
            files.check_file("digits.csv", DataError, "check it")
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_not_another_process(number, tmp_path, monkeypatch):
    def refused(*_):
        raise OSError(number, os.strerror(number))

    with open(tmp_path / "lock", "w") as file:
        assert files.lock(file)
        assert "BlockingIOError" in python("files.lock(open(sys.argv[1], 'w'))", file.name)
        monkeypatch.setattr(files.fcntl, "flock", refused)
        assert not files.lock(file)


def test_only_temporary_folders_that_nobody_uses_are_swept_and_a_path_too_long_is_not_taken(
    tmp_path,
):
    place = Path(tempfile.mkdtemp(dir="/tmp"))  # short
    for name in ("digitlib-used", "digitlib-left"):
        (place / name).mkdir()
        (place / name / "lock").touch()
        os.utime(place / name / "lock", (0, 0))
    with open(place / "digitlib-used" / "lock", "r+") as file:
        files.lock(file)
        assert python("print(files.scratch())", TMPDIR=str(place)).startswith(str(place))
    assert [path.name for path in place.iterdir()] == ["digitlib-used"]
    shutil.rmtree(place)
    (tmp_path / ("x" * 60)).mkdir()
    made = python("print(files.scratch())", TMPDIR=str(tmp_path / ("x" * 60)))
    assert made.startswith("/tmp/digitlib-") and not Path(made).exists()
