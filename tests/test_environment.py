"""pyproject.toml, requirements.lock and environment.yml must say the same."""

import ast
import re
import sys
import tomllib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, metadata

from conftest import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import digitlib

CONDA_NAMES = {
    "torch": "pytorch",
    "matplotlib": "matplotlib-base",
    "jupyter-client": "jupyter_client",
}  # what conda-forge calls them
CONDA = (ROOT / "environment.yml").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def parsed(*groups):
    """Requirements by their canonical names."""
    requirements = [Requirement(line) for lines in groups for line in lines]
    return {canonicalize_name(one.name): one for one in requirements if one.name != "digitlib"}


LOCK = (ROOT / "requirements.lock").read_text().splitlines()
LOCK = parsed([line for line in LOCK if not line.startswith("#")])


def test_every_requirement_is_locked_within_its_range():
    for name, allowed in parsed(PROJECT["dependencies"], *EXTRAS.values()).items():
        assert name in LOCK, f"{name} is not in requirements.lock: run `make lock`"
        version = next(iter(LOCK[name].specifier)).version
        assert allowed.specifier.contains(version, prereleases=True), f"{version} is locked"


def test_lock_has_one_exact_version_each_no_local_suffix_and_the_torch_that_was_measured():
    for name, requirement in LOCK.items():
        assert re.fullmatch(r"==[0-9][0-9A-Za-z.!]*", str(requirement.specifier)), name
        assert requirement.url is None
    assert str(LOCK["torch"].specifier) == "==2.13.0"


def test_what_is_locked_runs_on_every_python_that_is_promised():
    oldest = PROJECT["requires-python"].removeprefix(">=")
    assert f"Python {oldest} or newer" in (ROOT / "README.md").read_text()
    too_new = {}
    for name in LOCK:
        with suppress(PackageNotFoundError):  # one that this Python does not need
            needed = metadata(name).get("Requires-Python", "")
            if not SpecifierSet(needed).contains(f"{oldest}.0"):
                too_new[name] = needed
    assert too_new == {}, f"Python {oldest}.0 cannot install these: hold them back in `make lock`"


def test_conda_file_names_what_users_install_with_the_same_ranges_and_a_reason_each():
    packages = re.findall(r"^  - (?!conda-forge)(\S+)(.*)", CONDA, re.MULTILINE)
    assert [name for name, reason in packages if not re.match(r"  # \w+", reason)] == []
    users = parsed(PROJECT["dependencies"], EXTRAS["report"], EXTRAS["picture"])
    expected = [f"{CONDA_NAMES.get(name, name)}{one.specifier}" for name, one in users.items()]
    expected += ["python" + PROJECT["requires-python"], "pip"]
    assert sorted(name for name, _ in packages) == sorted(expected)


def test_the_version_is_the_last_release_in_the_changelog_and_to_be_cited():
    sections = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    cited = (ROOT / "CITATION.cff").read_text()
    assert f"version: {digitlib.__version__}\n" in cited and sections[0] == digitlib.__version__
    assert "10.24432/C50P49" in cited


def test_every_package_that_is_imported_is_declared():
    texts = [path.read_text() for path in (ROOT / "digitlib").rglob("*.py")]
    found = {
        name.split(".")[0]
        for node in ast.walk(ast.parse("\n".join(texts)))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    outside = found - set(sys.stdlib_module_names) - {"digitlib"}
    names = {
        canonicalize_name(
            {
                "PIL": "pillow",
                "sklearn": "scikit-learn",
                "skimage": "scikit-image",
                "IPython": "ipython",
            }.get(name, name)
        )
        for name in outside
    }
    assert names <= set(parsed(PROJECT["dependencies"], *EXTRAS.values()))
