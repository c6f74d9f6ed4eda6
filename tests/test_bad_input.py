"""Bad input to every command: one line, exit code 2, no traceback, nothing written."""

import json
import os
import re
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

import digitlib
from digitlib import DigitClassifier, cross_validate, runs
from digitlib.errors import DataError

LONG = "x" * 5000
# What is given where a file is wanted, and what is said of it.
ODD = {
    "missing": "no such file",
    "folder": "is a folder",
    "pipe": "is no plain file",
    "zero": "is no plain file",
    "loop": "too many levels of symbolic links",
    LONG: "file name too long",
    "a\0b": "embedded null (byte|character)",
}
# Every place that takes a file, with one odd thing each but for the first, which gets all of them.
CASES = [
    *((["report", "--source", odd], said) for odd, said in ODD.items()),
    (["report", "--model", "missing.py"], "no such file"),
    (["report", "--source", "\x1b[31m"], r"�\[31m: no such file"),
    (["report", "--source", "text"], "64 integer pixels"),
    (["report", "--source", "noise"], "can't decode byte"),
    (["report", "--model", "deep.py"], "too many nested|RecursionError|MemoryError"),
    (["report", "--model", "other.py"], "has no function model"),
    (["report", "--model", "text"], "takes my_model.py"),
    (["report", "--model", "other.py:other", "--epochs", "2"], "epochs has no effect"),
    (["report", "--seed", "1e400"], "takes an integer"),
    (["report", "--seed", "4294967296"], "out of range"),
    (["report", "--set", "dropout"], "takes setting=value, such as dropout=0.3"),
    (["report", "--set", "dropout=nan"], "dropout"),
    (["report", "--set", "colour=1"], "colour"),
    (["report", "--recipe", "nope"], "recipe 'nope' is unknown"),
    (["report", "--name", "x" * 81], "at most 80"),
    (["report", "--name", "a/b"], "one plain folder name"),
    (["report", "--folds", "some"], "takes kfold or stratified"),
    (["report", "--engine", "spark://here:1"], "takes dask://HOST:PORT"),
    (["check", "zero"], "run.json: not a directory; a complete run has it"),
    (["check", "folder"], "run.json: no such file; a complete run has it"),
    (["pdf", "--name", "nowhere"], "no finished report"),
    (["submission", "--name", "no", "--authors", "A", "--course", "C", "--title", "T"], "no"),
    (["colab", "--repo", "a b"], "takes owner/name"),
    (["colab", "--out", "pipe"], "is no folder"),
    (["verify", "pipe"], "is no plain file"),
    (["verify", "folder", "folder"], "given twice"),
    (["verify", "folder", "--jobs", "0"], "from 1 up"),
    (["verify", "folder", "--timeout", "nan"], "from 1 to 86400"),
    (["verify", "folder", "--csv", "nowhere/marks.csv"], "its folder does not exist"),
    (["predict"], "no picture given"),
    (["predict", "pipe"], "is no plain file"),
    (["predict", "empty"], "not a picture that can be read"),
    (["predict", "noise"], "not a picture"),
    (["predict", "cut.png"], "not a picture that can be read"),
    (["predict", "blank.png"], "no ink"),
    (["predict", "huge.png"], "exceeds limit of"),
    (["predict", "big.png"], "has 8,590 MB; takes at most 100"),
    (["predict", "photo.heic"], "not a picture that can be read .* HEIC as JPEG"),
    (["predict", "one.png"], "no finished run"),
    (["predict", "one.png", "--run", "zero"], "run.json: not a directory"),
    (["predict", "one.png", "one.png", "--show", "a.png"], "--show takes one picture"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of good and odd files; nothing may be written into it."""
    place = tmp_path_factory.mktemp("bad") / "here"
    (place / "folder").mkdir(parents=True)
    os.mkfifo(place / "pipe")
    (place / "loop").symlink_to("loop")
    (place / "zero").symlink_to("/dev/zero")
    (place / "empty").write_bytes(b"")
    (place / "noise").write_bytes(np.random.default_rng(0).bytes(5000))
    (place / "text").write_text("hello\n")
    picture = np.full((80, 60), 255, np.uint8)
    picture[10:70, 28:34] = 0
    Image.fromarray(picture).save(place / "one.png")
    (place / "cut.png").write_bytes((place / "one.png").read_bytes()[:70])
    Image.new("L", (60, 60), 255).save(place / "blank.png")
    Image.new("1", (20_000, 20_000)).save(place / "huge.png")
    (place / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(60))
    (place / "deep.py").write_text("x = " + "(" * 5000 + ")" * 5000)
    (place / "other.py").write_text("def other(seed): pass\n")
    with open(place / "big.png", "wb") as file:
        file.truncate(2**33)
    return place


@pytest.mark.parametrize(("words", "said"), CASES, ids=[" ".join(w)[:60] for w, _ in CASES])
def test_one_line_and_nothing_written(words, said, place, command, monkeypatch):
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    code, out, err = command(*words)
    assert re.fullmatch(r"digitlib: .{5,700}\n", err), err
    assert re.search(said, err), err
    assert (code, out) == (2, "")
    assert sorted(place.rglob("*")) == before


# ---- run folders that were made by hand ----------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    digits = digitlib.load_digits("sklearn")
    classifier = DigitClassifier(epochs=1, random_state=0)
    options = {"n_splits": 2, "progress": False}
    result = cross_validate(classifier, digits.data, digits.target, **options)
    return runs.save(result, digits, tmp_path_factory.mktemp("run") / "whole", seed=0)


def _info(**changes):
    """A change of `run.json`: values by the path of their key."""

    def change(folder):
        info = json.loads((folder / "run.json").read_text())
        for path, value in changes.items():
            *parents, last = path.split("__")
            inner = info
            for parent in parents:
                inner = inner[parent]
            inner[last] = value
        (folder / "run.json").write_text(json.dumps(info).replace('"1e400"', "1e400"))

    return change


def _file(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def _pipe(name):
    return lambda folder: ((folder / name).unlink(), os.mkfifo(folder / name))


def _table(before, after):
    def change(folder):
        text = (folder / "predictions.csv").read_text()
        (folder / "predictions.csv").write_text(re.sub(before, after, text, count=1))

    return change


def _no_numbers(folder):
    with safe_open(folder / "fold-1.safetensors", "np") as file:
        nan = np.float32("nan")
        tensors = {key: nan * file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        save_file(tensors, folder / "fold-1.safetensors", file.metadata())


CRAFTED = {
    "deep": _file("run.json", b"[" * 200_000),
    "list": _file("run.json", b"[]"),
    "not UTF-8": _file("run.json", b'{"a": "\xff"}'),
    "pipe": _pipe("run.json"),
    "large": lambda folder: os.truncate(folder / "run.json", 2**33),
    "splits 0": _info(parameters__splits=0),
    "splits 1e400": _info(parameters__splits="1e400"),
    "splits 3": _info(parameters__splits=3),
    "rows": _info(data__rows=10**7),
    "files": _info(model__files=["fold-1.safetensors"]),
    "another file": _info(model__files=["../../fold-1.skops", "fold-2.skops"]),
    "name": _info(model__name="<script>alert(1)</script>"),
    "batch size": _info(recipe__batch_size=0),
    "other settings": _info(recipe__layers="16 32p"),
    "empty predictions": _file("predictions.csv", b""),
    "pipe for predictions": _pipe("predictions.csv"),
    "noise for predictions": _file("predictions.csv", bytes(range(256)) * 9),
    "row twice": _table(r"\n1,", r"\n2,"),
    "text for a probability": _table(r"\n0,(\d,\d,\d),[^,]*", r"\n0,\1,abc"),
    "infinite probability": _table(r"\n0,(\d,\d,\d),[^,]*", r"\n0,\1,inf"),
    "logits": _table(r"\n0,(\d,\d,\d),[^,]*", r"\n0,\1,7"),
    "fold 99": _table(r"\n0,\d", r"\n0,99"),
    "fold 1e400": _table(r"\n0,\d", r"\n0,1e400"),
    "label -1": _table(r"\n0,(\d),\d", r"\n0,\1,-1"),
    "prediction": _table(r"\n1,(\d),1,1", r"\n1,\1,1,2"),
    "text in history": _file("history.csv", b"fold,epoch,learning_rate,loss\n1,1,a,b\n"),
    "no weights": lambda folder: (folder / "fold-1.safetensors").unlink(),
    "pipe for weights": _pipe("fold-1.safetensors"),
    "header of a terabyte": _file("fold-1.safetensors", b"\0\0\0\0\0\1\0\0{}"),
    "weights that are no numbers": _no_numbers,
}


@pytest.mark.parametrize("name", CRAFTED)
def test_a_crafted_run_folder_is_told_in_a_line(name, whole, command, tmp_path, place):
    folder = shutil.copytree(whole, tmp_path / "crafted")
    CRAFTED[name](folder)
    code, out, err = command("predict", place / "one.png", "--run", folder)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"digitlib: .{5,700}\n", err), err


# ---- whatever the bytes are ----------------------------------------------------------------------

CELLS = st.one_of(
    st.integers(-2, 18).map(str), st.text(max_size=5), st.sampled_from(["1e400", '"'])
)
LINES = st.lists(st.lists(CELLS, min_size=63, max_size=66).map(",".join), max_size=4)
TABLES = st.one_of(st.binary(max_size=300), LINES.map("\n".join).map(str.encode))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=9,
)
# The same cases on every machine: a build must not fail by chance.
often = settings(max_examples=60, deadline=None, database=None, derandomize=True)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("whatever")


@often
@given(content=TABLES)
def test_whatever_a_table_holds_it_is_read_or_refused_in_a_line(scratch, content):
    (scratch / "a.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"^[^\n]{5,600}$"):  # four rows lack a class
        digitlib.load_digits(scratch / "a.csv")


@often
@given(place=st.sampled_from(["recipe", "model", "parameters", "data"]), value=JSON)
def test_whatever_run_json_says_it_is_read_or_refused(whole, place, value):
    changed = {**json.loads((whole / "run.json").read_text()), place: value}
    with pytest.raises(ValueError, match=r"."):
        runs.read_info(json.dumps(changed).encode())
