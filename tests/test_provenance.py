"""Which code made a run: this folder's, whatever is set around it or lies in it."""

import os
import subprocess

import pytest

from digitlib import provenance

NOBODY = 65534


def git(folder, *words):
    named = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    command = ["git", "-C", folder, *named, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A small package in a git checkout, taken for digitlib's own."""
    package = tmp_path / "home" / "digitlib"
    (package / "plots").mkdir(parents=True)
    for name in ("model.py", "recipes.toml", "plots/maps.py"):
        (package / name).write_text(f"name = '{name}'\n")
    git(package.parent, "init", "--quiet")
    git(package.parent, "add", ".")
    git(package.parent, "commit", "--quiet", "--message", "first")
    monkeypatch.setattr(provenance, "PACKAGE", package)
    return package.parent


@pytest.mark.parametrize("variable", ["GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"])
def test_commit_and_changes_are_this_folders_whatever_git_variables_say(
    variable, checkout, tmp_path, monkeypatch
):
    commit = git(checkout, "rev-parse", "HEAD")
    git(tmp_path, "init", "--quiet", "other")
    place = {"GIT_DIR": ".git", "GIT_INDEX_FILE": ".git/index", "GIT_WORK_TREE": ""}[variable]
    monkeypatch.setenv(variable, str(tmp_path / "other" / place))
    assert provenance.state_of_code() == (commit, [], "")
    (checkout / "digitlib" / "model.py").write_text("name = 'other'\n")
    (checkout / "notes.txt").write_text("not in git\n")
    assert provenance.state_of_code() == (f"{commit}-dirty", ["digitlib/model.py"], "")


def test_a_damaged_checkout_is_not_taken_for_the_one_around_it(checkout):
    git(checkout.parent, "init", "--quiet")
    git(checkout.parent, "commit", "--quiet", "--allow-empty", "--message", "around")
    (checkout / ".git" / "HEAD").unlink()
    commit, changed, refusal = provenance.state_of_code()
    assert (commit, changed) == (None, None) and "not a git repository" in refusal


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give a folder away")
def test_a_checkout_of_somebody_else_is_told_with_gits_own_remedy(checkout, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    for path in (checkout, checkout / ".git"):
        os.chown(path, NOBODY, NOBODY)
    commit, _, refusal = provenance.state_of_code()
    assert commit is None and "\n" not in refusal
    assert f"git config --global --add safe.directory {checkout}" in refusal
    assert provenance.where_am_i().endswith("commit unknown")


def test_what_editors_and_systems_leave_beside_modules_is_no_source(checkout):
    before = provenance.sources()
    package = checkout / "digitlib"
    (package / ".#model.py").symlink_to("ada@laptop.4711:1700000000")  # Emacs
    (package / "._model.py").write_bytes(b"\0\5\26\7\xff")  # macOS, on a disk of another system
    (package / "scratch.py").write_text("x = 1\n")  # a person
    (package / ".ipynb_checkpoints").mkdir()
    (package / ".ipynb_checkpoints" / "model-checkpoint.py").write_text("old\n")
    assert provenance.sources() == before
    assert list(before) == [f"digitlib/{n}" for n in ("model.py", "plots/maps.py", "recipes.toml")]
