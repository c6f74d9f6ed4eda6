"""Bad input to every command: one line, the right exit code, soon, in little memory, no trace.

One process imports everything once; each case runs in a copy of it, which is measured.
"""

import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import warnings
import zipfile

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load_file, save_file

import digitlib
from digitlib import DigitClassifier, cross_validate, handwriting, runs
from digitlib.errors import DataError, ImageError
from digitlib.handin import evidence

# Answers cases, one JSON line each: exit code, seconds of the processor, megabytes.
SERVER = """
import json, os, signal, sys, traceback
from digitlib import cli, checks, compare, data, files, handwriting, reading, sources
from digitlib.handin import autograder, colab, submission, verify
from digitlib.reporting import pdf, report
for line in sys.stdin:
    words, folder = json.loads(line)
    pid = os.fork()
    if not pid:
        signal.alarm(20)
        os.chdir(folder)
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{folder}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        try:
            cli.main(words)
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(end.code or 0)  # at once: libraries take long to say good-bye
        finally:
            traceback.print_exc()
            os._exit(99)
    _, status, used = os.wait4(pid, 0)
    code, seconds = os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime
    print(json.dumps([code, seconds, used.ru_maxrss / 1024]), flush=True)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder of good and odd files; nothing may be written into it."""
    place = tmp_path_factory.mktemp("bad") / "here"
    place.mkdir()
    (place / "folder").mkdir()
    os.mkfifo(place / "pipe")
    (place / "loop").symlink_to("loop")
    (place / "zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(place / "socket"))
    os.mkfifo(place / "pipe.zip")
    (place / "zero.zip").symlink_to("/dev/zero")
    (place / "loop.zip").symlink_to("loop.zip")
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
    (place / "many.idx").write_bytes(bytes([0, 0, 8, 3]) + b"\xff" * 12)
    (place / "few.idx").write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0, 0, 8, 1]))
    (place / "good.idx").write_bytes(bytes([0, 0, 8, 3, *[0, 0, 0, 1] * 3, 7]))
    (place / "good-labels.idx").write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 2, 1, 2]))
    (place / "deep.py").write_text("x = " + "(" * 5000 + ")" * 5000)
    (place / "other.py").write_text("def other(seed): pass\n")
    with open(place / "big.csv", "wb") as file:
        file.truncate(2**33)
    row = ",".join(["1"] * 65) + "\n"
    (place / "rows.csv").write_text(row * 250_000)
    (place / "commas.csv").write_text("," * 50_000_000)
    _crafted(place)
    return place


@pytest.fixture(scope="module")
def answer(place):
    """Call a command in `place`: exit code, output, errors, seconds, megabytes beside the least."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER],
        env={**os.environ, "PYTHONPATH": str(ROOT), "DIGITLIB_CACHE": f"{place}.cache"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def ask(*words):
        server.stdin.write(json.dumps([words, str(place)]) + "\n")
        server.stdin.flush()
        code, seconds, megabytes = json.loads(server.stdout.readline())
        out, err = (place.with_name(f"here.{name}").read_text() for name in ("out", "err"))
        return code, out, err, seconds, megabytes

    *_, least = ask("--version")
    yield lambda *words: (*(found := ask(*words))[:4], found[4] - least)
    server.stdin.close()
    server.wait()


# ---- what is no plain file, wherever a file or folder is given -----------------------------------

LONG = "x" * 5000
# What is given, and what is said of it where a file is wanted.
ODD = {
    "missing": "no such file",
    "folder": "is a folder",
    "pipe": "is no plain file",
    "socket": "is no plain file",
    "zero": "is no plain file",
    "loop": "too many levels of symbolic links",
    LONG: "file name too long",
}
FILES = {
    "source": ["report", "--source", "{}"],
    "picture": ["predict", "one.png", "{}"],
    "images": ["predict", "--images", "{}", "--labels", "good-labels.idx"],
    "labels": ["predict", "--images", "good.idx", "--labels", "{}"],
    "source of compare": ["compare", "--source", "{}"],
}
MODEL = {"model": ["report", "--model", "{}.py"]}
# Where a folder, or a file or folder, is wanted.
FOLDERS = {
    "check": ["check", "{}"],
    "compare": ["compare", "--run", "{}"],
    "predict": ["predict", "one.png", "--run", "{}"],
}
HAND_INS = {
    "verify": ["verify", "{}"],
    "against": ["verify", "folder", "--against", "{}"],
    "moodle": ["verify", "folder", "--moodle", "{}"],
    "canvas": ["verify", "folder", "--canvas", "{}"],
}
# Where something is written: what is there already is no place for it.
TARGETS = {
    "csv": ["verify", "folder", "--csv", "{}"],
    "verdicts": ["verify", "folder", "--out", "{}"],
    "autograder": ["autograder", "--out", "{}.zip"],
    "colab": ["colab", "--out", "{}"],
}
# Words, and what is said.
WORDS = [
    (["report", "--source", "text"], "row 1 has 1 columns instead of 65"),
    (["report", "--source", "empty"], "no rows of data"),
    (["report", "--source", "noise"], "not a text file"),
    (["report", "--source", "big.csv"], "more than 10,000 characters"),
    (["report", "--source", "commas.csv"], "more than 10,000 characters"),
    (["report", "--source", "rows.csv"], "more than 200,000 rows"),
    (["report", "--source", "a\0b"], "embedded null (byte|character)"),
    (["report", "--source", "\x1b[31m"], r"�\[31m: no such file"),
    (["report", "--source", ""], "no such file|is a folder"),
    (["report", "--model", "deep.py"], "not Python|too many nested"),
    (["report", "--model", "other.py"], "has no function model"),
    (["report", "--model", "other.py:nobody"], "has no function nobody"),
    (["report", "--model", "text"], "takes my_model.py"),
    (["report", "--model", "other.py:other", "--epochs", "2"], "epochs has no effect"),
    (["report", "--seed", "1e400"], "takes an integer"),
    (["report", "--seed", "4294967296"], "out of range"),
    (["report", "--seed", "9" * 5000], "takes an integer"),
    (["report", "--set", "dropout"], "takes setting=value, such as dropout=0.3"),
    (["report", "--set", "dropout=0.3", "--model", "other.py"], "set has no effect beside model"),
    (["report", "--set", "dropout=nan"], "dropout"),
    (["report", "--set", "dropout=2"], "dropout"),
    (["report", "--set", "colour=1"], "colour"),
    (["report", "--set", "learning_rate=1e400"], "learning_rate"),
    (["report", "--name", "x" * 81], "at most 80"),
    (["report", "--name", "a/b"], "one plain folder name"),
    (["report", "--name", "ü"], "one plain folder name"),
    (["report", "--folds", "some"], "takes kfold or stratified"),
    (["compare", "--recipes", "nope"], "nope"),
    (["compare", "--recipes", ""], "recipe"),
    (["pdf", "--name", "nowhere"], "no finished report"),
    (["pdf", "--name", ".."], "one plain folder name"),
    (["submission", "--name", "no", "--authors", "A", "--course", "C", "--title", "T"], "no"),
    (["colab", "--repo", "a b"], "takes owner/name"),
    (["autograder", "--out", "here.txt"], "ends in .zip"),
    (["verify", "folder", "folder"], "given twice"),
    (["verify", "folder", "--jobs", "0"], "from 1 up"),
    (["verify", "folder", "--timeout", "0"], "from 1 to 86400"),
    (["verify", "folder", "--timeout", "nan"], "from 1 to 86400"),
    (["verify", "folder", "--points", "accuracy>2"], "points="),
    (["verify", "folder", "--csv", "nowhere/marks.csv"], "its folder does not exist"),
    (["predict"], "no picture given"),
    (["predict", "--images", "good.idx"], "go together"),
    (["predict", "empty"], "the file is empty"),
    (["predict", "text"], "not a picture"),
    (["predict", "noise"], "not a picture"),
    (["predict", "cut.png"], "damaged picture"),
    (["predict", "blank.png"], "no ink"),
    (["predict", "huge.png"], "megapixels"),
    (["predict", "big.csv"], "has 8,590 MB; takes at most 100"),
    (["predict", "photo.heic"], "a HEIC picture"),
    (["predict", "a\0b"], "embedded null (byte|character)"),
    (["predict", "--images", "many.idx", "--labels", "good-labels.idx"], "says it holds"),
    (["predict", "--images", "few.idx", "--labels", "good-labels.idx"], "holds 1|but holds"),
    (["predict", "--images", "good.idx", "--labels", "good-labels.idx"], "1 images but 2 labels"),
    (["predict", "--images", "text", "--labels", "good-labels.idx"], "not an IDX file"),
    (["predict", "one.png"], "no finished run"),
]


def _filled(table, odd):
    return [[word.format(one) for word in words] for words in table.values() for one in odd]


CASES = [
    *((words, said) for odd, said in ODD.items() for words in _filled(FILES, [odd])),
    *((words, "no such file|too long") for words in _filled(MODEL, ["missing", LONG])),
    *((words, "") for words in _filled(FOLDERS, ODD)),
    *((words, "") for words in _filled(HAND_INS, [odd for odd in ODD if odd != "folder"])),
    *((words, "") for words in _filled(TARGETS, ["pipe", "zero", "loop"])),
    *WORDS,
]


def _name(words):
    return " ".join(words)[:70].replace("\0", "0").replace("\x1b", "e")


@pytest.mark.parametrize(("words", "said"), CASES, ids=[_name(words) for words, _ in CASES])
def test_one_line_and_nothing_written(words, said, answer, place):
    before = sorted(place.rglob("*"))
    code, out, err, seconds, megabytes = answer(*words)
    assert re.fullmatch(r"digitlib: .{5,700}\n", err), err
    assert re.search(said, err), err
    assert (code, out) == (2, "")
    assert seconds < 5 and megabytes < 600
    assert sorted(place.rglob("*")) == before


# ---- run folders that were made by hand ----------------------------------------------------------


def _run(folder):
    digits = digitlib.load_digits("sklearn")
    classifier = DigitClassifier(epochs=1, random_state=0)
    options = {"n_splits": 2, "progress": "off"}
    result = cross_validate(classifier, digits.data, digits.target, **options)
    return runs.save(result, digits, folder, seed=0)


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
    def change(folder):
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content)

    return change


def _pipe(name):
    return lambda folder: ((folder / name).unlink(), os.mkfifo(folder / name))


def _table(before, after):
    def change(folder):
        text = (folder / "predictions.csv").read_text()
        (folder / "predictions.csv").write_text(re.sub(before, after, text, count=1))

    return change


def _no_numbers(folder):
    path = folder / "fold-1.safetensors"
    header = runs._own().DigitClassifier.load(path).metadata_
    tensors = {key: value * np.float32("nan") for key, value in load_file(path).items()}
    save_file(tensors, path, {key: json.dumps(value) for key, value in header.items()})


def _sparse(name):
    return lambda folder: os.truncate(folder / name, 2**33)


CRAFTED = {
    "empty": _file("run.json", b""),
    "deep": _file("run.json", b"[" * 200_000),
    "list": _file("run.json", b"[]"),
    "null": _file("run.json", b"null"),
    "not UTF-8": _file("run.json", b'{"a": "\xff"}'),
    "NaN": _file("run.json", b'{"a": NaN}'),
    "pipe": _pipe("run.json"),
    "large": _sparse("run.json"),
    "splits 0": _info(parameters__splits=0),
    "splits -1": _info(parameters__splits=-1),
    "splits text": _info(parameters__splits="4"),
    "splits 1e9": _info(parameters__splits=10**9),
    "splits 1e400": _info(parameters__splits="1e400"),
    "splits 2.5": _info(parameters__splits=2.5),
    "splits 3": _info(parameters__splits=3),
    "seed": _info(parameters__seed=-1),
    "rows": _info(data__rows=10**7),
    "source": _info(data__source=None),
    "recipe": _info(recipe=[]),
    "batch size": _info(recipe__batch_size=0),
    "confusion": _info(scores__confusion=[[1] * 9] * 9),
    "no predictions": _file("predictions.csv", None),
    "empty predictions": _file("predictions.csv", b""),
    "pipe for predictions": _pipe("predictions.csv"),
    "large predictions": _sparse("predictions.csv"),
    "noise for predictions": _file("predictions.csv", bytes(range(256)) * 9),
    "text for a probability": _table(r"\n0,(\d,\d,\d),[^,]*", r"\n0,\1,abc"),
    "infinite probability": _table(r"\n0,(\d,\d,\d),[^,]*", r"\n0,\1,inf"),
    "fold 99": _table(r"\n0,\d", r"\n0,99"),
    "fold 1e400": _table(r"\n0,\d", r"\n0,1e400"),
    "label -1": _table(r"\n0,(\d),\d", r"\n0,\1,-1"),
    "pipe for history": _pipe("history.csv"),
    "text in history": _file("history.csv", b"fold,epoch,learning_rate,loss\n1,1,a,b\n"),
    "no weights": _file("fold-1.safetensors", None),
    "empty weights": _file("fold-1.safetensors", b""),
    "pipe for weights": _pipe("fold-1.safetensors"),
    "header of a terabyte": _file("fold-1.safetensors", b"\0\0\0\0\0\1\0\0{}"),
    "weights that are no numbers": _no_numbers,
}


def _crafted(place):
    whole = _run(place.parent / "whole")
    for name, change in CRAFTED.items():
        folder = place / "crafted" / name.replace(" ", "-")
        shutil.copytree(whole, folder)
        change(folder)


READERS = {
    # Two folds of one epoch differ in accuracy: that finding is not what is asked here.
    "check": ["check", "{}", "--ignore", "DL018"],
    "predict": ["predict", "one.png", "--run", "{}"],
    "compare": ["compare", "--run", "{}", "--recipes", "instant"],
}


# What a reader need not mind: it does not use it, and whoever does says what is wrong.
HARMLESS = {
    "check": {"weights that are no numbers"},
    "predict": {"batch size", "confusion"},
    "compare": {"confusion"},
}


@pytest.mark.parametrize("name", CRAFTED)
@pytest.mark.parametrize("reader", READERS)
def test_a_crafted_run_folder_is_told_in_a_line(reader, name, answer):
    folder = f"crafted/{name.replace(' ', '-')}"
    code, out, err, seconds, megabytes = answer(*(word.format(folder) for word in READERS[reader]))
    assert "Traceback" not in out + err and err.count("\n") <= 2
    assert max(map(len, [*out.splitlines(), *err.splitlines()])) < 700
    assert (code == 0) == (name in HARMLESS[reader])
    assert seconds < 10 and megabytes < 600


# ---- whatever the bytes are ----------------------------------------------------------------------

CELLS = st.one_of(
    st.integers(-2, 18).map(str), st.text(max_size=5), st.sampled_from(["1e400", '"'])
)
LINES = st.lists(st.lists(CELLS, min_size=63, max_size=66).map(",".join), max_size=4)
TABLES = st.one_of(st.binary(max_size=300), LINES.map("\n".join).map(str.encode))
IDX = st.tuples(st.binary(max_size=9), st.sampled_from([b"", b"\0\0\x08\x03", b"\x1f\x8b"]))
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
@given(parts=IDX)
def test_whatever_an_idx_file_holds_it_is_read_or_refused_in_a_line(scratch, parts):
    (scratch / "a.idx").write_bytes(parts[1] + parts[0])
    with pytest.raises(ImageError, match=r"^[^\n]{5,600}$"):  # too short for one image
        handwriting.read_idx(scratch / "a.idx", 3)


@often
@given(place=st.sampled_from(["recipe", "model", "parameters", "data", "scores"]), value=JSON)
def test_whatever_run_json_says_it_is_read_or_refused(info, place, value):
    changed = {**info, place: value}
    with pytest.raises(ValueError, match=r"."):
        runs.read_info(json.dumps(changed).encode())


@pytest.fixture(scope="module")
def info(place):
    return json.loads((place.parent / "whole" / "run.json").read_text())


@often
@given(names=st.lists(st.text(max_size=20), max_size=3), cut=st.integers(0, 60), odd=st.booleans())
def test_whatever_a_zip_holds_its_files_stay_in_the_folder(scratch, names, cut, odd):
    out = scratch / "here" / "out"
    shutil.rmtree(out.parent, ignore_errors=True)
    out.mkdir(parents=True)
    packed = io.BytesIO()
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(packed, "w") as archive:
        for name in names:
            archive.writestr(f"../{name}" if odd else name.split("\0")[0] or "a", b"text")
    (scratch / "a.zip").write_bytes(packed.getvalue()[: len(packed.getvalue()) - cut])
    found, said = [], ""
    try:
        found = evidence.unpack(scratch / "a.zip", "", out)
    except evidence.Unsafe as error:
        said = str(error)
    assert said or sorted(found) == sorted(os.listdir(out))
    assert len(said) < 600
    assert os.listdir(out.parent) == ["out"]
