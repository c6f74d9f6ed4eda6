"""Gradescope's autograder, run as Gradescope runs it, in a scratch folder."""

import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile

import pytest

from digitlib.handin import autograder


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return autograder.pack(tmp_path_factory.mktemp("pack") / "new" / "autograder.zip")


@pytest.fixture(scope="module")
def gradescope(packed, tmp_path_factory):
    """Judge files as Gradescope does, with the package that is in the zip: their results.json."""
    root = tmp_path_factory.mktemp("autograder")
    subprocess.run([sys.executable, "-m", "zipfile", "-e", packed, root / "source"], check=True)
    (wheel,) = (root / "source").glob("digitlib-*.whl")
    shutil.unpack_archive(wheel, root / "site", "zip")
    shutil.copyfile(root / "source" / "run_autograder", root / "run_autograder")
    variables = {"DIGITLIB_AUTOGRADER_ROOT": str(root), "PYTHONPATH": str(root / "site")}

    def judge(fill, **more):
        for name in ("submission", "results"):
            shutil.rmtree(root / name, ignore_errors=True)
            (root / name).mkdir()
        fill(root / "submission")
        environment = {**os.environ, **variables, "DIGITLIB_PYTHON": sys.executable, **more}
        subprocess.run(["bash", root / "run_autograder"], env=environment, cwd="/", check=True)
        return json.loads((root / "results" / "results.json").read_text())

    return judge


def _points(found):
    return {test["name"]: test["score"] for test in found["tests"]}


def test_what_is_in_the_zip(packed):
    with zipfile.ZipFile(packed) as archive:
        modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
        scripts = [archive.read(name) for name in autograder.SCRIPTS]
    assert {"setup.sh", "run_autograder", "requirements.lock"} < set(modes)
    assert sum(name.endswith(".whl") for name in modes) == 1
    assert all(stat.S_ISREG(mode) for mode in modes.values())
    assert all(modes[name] & 0o111 == 0o111 for name in autograder.SCRIPTS)
    for script in scripts:
        assert subprocess.run(["bash", "-n"], input=script, check=False).returncode == 0


def test_a_real_hand_in(gradescope, small_report, handed_in):
    found = gradescope(lambda folder: shutil.unpack_archive(handed_in, folder))
    assert len(found["tests"]) > 5
    assert set(_points(found).values()) == {1}
    assert all(test["max_score"] == 1 and test["output"] for test in found["tests"])
    assert {test["visibility"] for test in found["tests"]} == {"visible"}
    ((name, value),) = [tuple(entry.values()) for entry in found["leaderboard"]]
    run = json.loads((small_report / "run.json").read_text())
    assert (name, value) == ("accuracy", pytest.approx(run["scores"]["accuracy"], abs=1e-4))


@pytest.mark.parametrize("name", [None, "homework.pdf"])
def test_what_is_no_hand_in_earns_nothing_for_what_cannot_be_checked(name, tmp_path, monkeypatch):
    monkeypatch.setenv("DIGITLIB_AUTOGRADER_ROOT", str(tmp_path))
    for folder in (tmp_path / "submission", tmp_path / "results"):
        folder.mkdir()
    if name:
        (tmp_path / "submission" / name).write_bytes(b"%PDF-1.7")
    autograder.main()
    found = json.loads((tmp_path / "results" / "results.json").read_text())
    unchecked = [t for t in found["tests"] if t["output"].startswith("cannot be checked")]
    assert any(test["output"].startswith("does not hold") for test in found["tests"])
    assert unchecked and {(t["score"], t["status"]) for t in unchecked} == {(0, "failed")}
    assert found["leaderboard"] == []


@pytest.mark.parametrize(
    "variables",
    [
        {"DIGITLIB_PYTHON": "/bin/false"},
        {"DIGITLIB_PYTHON": "/no/such/python"},
        {"DIGITLIB_SECONDS": "0.2"},
        {"PYTHONPATH": "/nowhere", "DIGITLIB_PYTHON": "{killed}"},
    ],
)
def test_there_is_a_result_whatever_becomes_of_the_judge(gradescope, tmp_path, variables):
    killed = tmp_path / "killed"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    found = gradescope(
        lambda folder: None, **{k: v.format(killed=killed) for k, v in variables.items()}
    )
    assert found["score"] == 0
    assert _points(found) == {"judge": 0}
    assert "nothing was judged" in found["output"]


@pytest.mark.parametrize(("own", "points"), [("holds", 1), ("does not hold", 0)])
def test_a_claim_that_cannot_be_checked(own, points):
    """It costs nothing, unless something else does not hold."""
    lines = [("a", own), ("b", "cannot be checked")]
    claims = [{"claim": name, "verdict": verdict, "why": "so"} for name, verdict in lines]
    found = autograder.results({"claims": claims, "verdict": "holds in part", "accuracy": None})
    assert _points(found) == {"a": points, "b": points}
    assert found["tests"][1]["output"] == "cannot be checked: so"
