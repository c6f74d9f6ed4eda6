"""pyproject.toml, requirements.lock and environment.yml must say the same, or one of them installs
something untested.
"""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base"}  # what conda-forge calls them


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def parsed(lines):
    return {canonicalize_name(r.name): r.specifier for r in map(Requirement, lines)}


def lock():
    lines = [
        line
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if not line.startswith("#")
    ]
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


@pytest.fixture(scope="module")
def declared():
    table = project()
    return parsed(table["dependencies"]), parsed(
        [r for extra in table["optional-dependencies"].values() for r in extra]
    )


def test_every_requirement_is_locked_within_its_range(declared):
    locked = lock()
    for name, allowed in (declared[0] | declared[1]).items():
        assert name in locked, (
            f"{name} is in pyproject.toml but not in requirements.lock: run `make lock`"
        )
        version = next(iter(locked[name].specifier)).version
        assert allowed.contains(version, prereleases=True), (
            f"{name}: {version} is locked, pyproject.toml allows {allowed}"
        )


def test_lock_has_one_exact_version_each_and_no_local_suffix():
    for name, requirement in lock().items():
        assert re.fullmatch(r"==[0-9][0-9A-Za-z.!]*", str(requirement.specifier)), (
            f"{name}: {requirement.specifier}"
        )
        assert requirement.url is None


def test_torch_is_locked_at_the_version_that_was_measured():
    assert str(lock()["torch"].specifier) == "==2.13.0"


def test_conda_file_names_the_same_packages_and_ranges(declared):
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = {re.split("[>=<]", line)[0]: line for line in conda}
    assert conda.pop("python") == "python" + project()["requires-python"]
    conda.pop("pip")
    expected = {
        CONDA_NAMES.get(name, name): CONDA_NAMES.get(name, name) + str(spec)
        for name, spec in declared[0].items()
    }
    assert conda == expected


def test_conda_file_gives_a_reason_beside_each_package():
    for line in (ROOT / "environment.yml").read_text().splitlines():
        if line.strip().startswith("- ") and "conda-forge" not in line:
            assert re.search(r"  # \w+", line), line
