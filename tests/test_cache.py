import numpy as np
import pytest

from digitlib import compare as cache


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DIGITLIB_CACHE", str(tmp_path / "cache"))


def never():
    raise AssertionError("computed again")


def test_computed_once(tmp_path):
    first, kept = cache.remembered("kind", {"a": 1}, lambda: {"x": np.arange(3), "name": "n"})
    again, found = cache.remembered("kind", {"a": 1}, never)
    assert (kept, found) == (False, True)
    assert again["x"].tolist() == first["x"].tolist()
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [
        ".npz"
    ]  # no half-written file is left


def test_every_fact_counts():
    cache.remembered("kind", {"a": 1}, lambda: {"x": np.arange(3)})
    for facts in ({"a": 2}, {"a": 1, "b": 0}, {}):
        assert not cache.remembered("kind", facts, lambda: {"x": np.zeros(1)})[1]


@pytest.mark.parametrize(
    "damage", [b"", b"PK\x03\x04 no archive", None], ids=["empty", "garbage", "cut_off"]
)
def test_a_damaged_file_counts_as_none(tmp_path, damage):
    cache.remembered("kind", {}, lambda: {"x": np.arange(1000)})
    (path,) = (tmp_path / "cache").iterdir()
    path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    assert not cache.remembered("kind", {}, lambda: {"x": np.arange(1000)})[1]
    assert cache.remembered("kind", {}, never)[1]


def test_a_folder_that_cannot_be_made_costs_only_the_cache(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DIGITLIB_CACHE", str(tmp_path / "file" / "cache"))
    arrays, _ = cache.remembered("kind", {}, lambda: {"x": np.arange(3)})
    assert arrays["x"].tolist() == [0, 1, 2]
    assert "could not be cached" in capsys.readouterr().err
