"""Every way a user's table can be wrong, and the one line that each gets. The fixtures are named
after what is wrong with them.
"""

import gzip
import os

import numpy as np
import pytest

import digitlib
from digitlib.errors import DataError

N_ROWS = 40


@pytest.fixture(scope="module")
def table():
    """Real rows, with each class four times or so: shape (40, 65)."""
    digits = digitlib.load_digits("sklearn")
    return np.column_stack([digits.data, digits.target])[:N_ROWS].astype(int)


@pytest.fixture(scope="module")
def rows(table):
    """The table as cells of text, to be spoilt in a copy."""
    return [[str(value) for value in row] for row in table]


def lines_of(rows):
    return "".join(",".join(row) + "\n" for row in rows)


def write(path, content):
    content = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


# ---- right ---------------------------------------------------------------------------------------

HEADER = (
    ",".join([f"pixel_{row}_{column}" for row in range(8) for column in range(8)] + ["target"])
    + "\n"
)
RIGHT = {
    "plain.csv": lines_of,
    "packed.csv.gz": lines_of,
    "header.csv": lambda rows: HEADER + lines_of(rows),
    "header_of_numbers.csv": lambda rows: (
        ",".join([*map(str, range(64)), "target"]) + "\n" + lines_of(rows)
    ),
    "byte_order_mark.csv": lambda rows: b"\xef\xbb\xbf" + lines_of(rows).encode(),
    "byte_order_mark_and_header.csv": lambda rows: (
        b"\xef\xbb\xbf" + (HEADER + lines_of(rows)).encode()
    ),
    "windows_line_ends.csv": lambda rows: lines_of(rows).replace("\n", "\r\n"),
    "no_newline_at_the_end.csv": lambda rows: lines_of(rows).rstrip("\n"),
    "blank_lines.csv": lambda rows: "\n" + lines_of(rows[:3]) + "\n\n" + lines_of(rows[3:]) + "\n",
    "spaces.csv": lambda rows: lines_of(rows).replace(",", " , "),
    "quotes.csv": lambda rows: lines_of([[f'"{cell}"' for cell in row] for row in rows]),
    "whole_numbers_with_a_point.csv": lambda rows: lines_of(
        [[f"{cell}.0" for cell in row] for row in rows]
    ),
}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "path"])
def test_right_file_gives_its_rows(name, kind, tmp_path, rows, table):
    path = write(tmp_path / name, RIGHT[name](rows))
    digits = digitlib.load_digits(kind(path))
    np.testing.assert_array_equal(digits.data, table[:, :64])
    np.testing.assert_array_equal(digits.target, table[:, 64])
    assert digits.data.dtype == np.uint8
    assert digits.source == str(path)
    assert set(digits.writers) == {"unknown"}


def test_own_file_with_the_published_rows_has_the_published_hash(tmp_path):
    digits = digitlib.load_digits()
    table = np.column_stack([digits.data, digits.target])
    path = write(tmp_path / "all.csv", lines_of([map(str, row) for row in table.tolist()]))
    assert digitlib.load_digits(path).sha256 == digits.sha256


# ---- wrong ---------------------------------------------------------------------------------------


def with_cell(row, column, cell):
    """The rows, with another cell in `row` and `column`, both counted from 1 as in the messages."""

    def spoil(rows):
        rows = [list(cells) for cells in rows]
        rows[row - 1][column - 1] = cell
        return lines_of(rows)

    return spoil


PIXELS, CLASSES = "; pixels are integers 0..16", "; classes are integers 0..9"
FORM = "; each row needs 64 integer pixels 0..16 and a class 0..9, separated by commas"
# name of the file: (what to write, what the message says after the path)
WRONG = {
    "text.csv": (with_cell(3, 7, "abc"), f"row 3, column 7: 'abc' is not a number{PIXELS}"),
    "text_as_class.csv": (
        with_cell(5, 65, "six"),
        f"row 5, column 65: 'six' is not a number{CLASSES}",
    ),
    "nan.csv": (with_cell(2, 64, "NaN"), f"row 2, column 64: the pixel is missing (NaN){PIXELS}"),
    "empty_cell.csv": (
        with_cell(1, 1, ""),
        f"row 1, column 1: the pixel is missing (empty cell){PIXELS}",
    ),
    "class_missing_in_a_row.csv": (
        with_cell(8, 65, " "),
        f"row 8, column 65: the class is missing (empty cell){CLASSES}",
    ),
    "fraction.csv": (with_cell(40, 30, "3.5"), f"row 40, column 30: 3.5 is a fraction{PIXELS}"),
    "fraction_as_class.csv": (
        with_cell(4, 65, "0.5"),
        f"row 4, column 65: 0.5 is a fraction{CLASSES}",
    ),
    "pixel_17.csv": (with_cell(9, 12, "17"), f"row 9, column 12: 17 is out of range{PIXELS}"),
    "pixel_256.csv": (
        with_cell(9, 12, "256"),
        f"row 9, column 12: 256 is out of range{PIXELS}",
    ),  # 0 as uint8
    "pixel_minus_1.csv": (with_cell(9, 12, "-1"), f"row 9, column 12: -1 is out of range{PIXELS}"),
    "pixel_infinite.csv": (
        with_cell(9, 12, "inf"),
        f"row 9, column 12: inf is out of range{PIXELS}",
    ),
    "class_10.csv": (with_cell(6, 65, "10"), f"row 6, column 65: 10 is out of range{CLASSES}"),
    "text_and_pixel_17.csv": (
        lambda rows: with_cell(3, 7, "abc")(rows[:3]) + with_cell(1, 2, "17")(rows[3:]),
        f"row 3, column 7: 'abc' is not a number{PIXELS}",
    ),
    "long_text.csv": (
        with_cell(3, 7, "x" * 5000),
        f"row 3, column 7: '{'x' * 20}' is not a number{PIXELS}",
    ),
    "header_then_text.csv": (
        lambda rows: HEADER + with_cell(1, 2, "abc")(rows),
        f"row 2, column 2: 'abc' is not a number{PIXELS}",
    ),
    "blank_line_then_text.csv": (
        lambda rows: "\n" + lines_of(rows[:2]) + "\n" + with_cell(1, 7, "abc")(rows[2:]),
        f"row 5, column 7: 'abc' is not a number{PIXELS}",
    ),
    "header_in_the_middle.csv": (
        lambda rows: lines_of(rows) + HEADER,
        f"row 41, column 1: 'pixel_0_0' is not a number{PIXELS}",
    ),
    "64_columns.csv": (
        lambda rows: lines_of([row[:64] for row in rows]),
        f"row 1 has 64 columns instead of 65{FORM}",
    ),
    "66_columns_in_row_4.csv": (
        lambda rows: lines_of(rows[:3]) + lines_of([[*rows[3], "0"]]) + lines_of(rows[4:]),
        f"row 4 has 66 columns instead of 65{FORM}",
    ),
    "cut_off.csv": (lambda rows: lines_of(rows)[:-20], None),
    "semicolons.csv": (
        lambda rows: lines_of(rows).replace(",", ";"),
        f"row 1 has 1 columns instead of 65{FORM}",
    ),
    "quote_left_open.csv": (lambda rows: with_cell(2, 3, '"5')(rows), None),
    "no_bytes.csv": (lambda rows: b"", f"no rows of data{FORM}"),
    "blank_lines_only.csv": (lambda rows: "\n\n", f"no rows of data{FORM}"),
    "header_only.csv": (lambda rows: HEADER, f"no rows of data{FORM}"),
    "class_3_missing.csv": (
        lambda rows: lines_of([row for row in rows if row[64] != "3"]),
        "column 65: no row of class 3; every class 0..9 needs rows",
    ),
    "picture.csv": (
        lambda rows: b"\x89PNG\r\n\x1a\n\x00\x00",
        "not a text file (byte 0); save it as CSV in UTF-8",
    ),
    "utf_16.csv": (
        lambda rows: lines_of(rows).encode("utf-16"),
        "not a text file (byte 0); save it as CSV in UTF-8",
    ),
    "packed_without_gz.csv": (
        lambda rows: gzip.compress(lines_of(rows).encode()),
        "not a text file (byte 1); save it as CSV in UTF-8",
    ),
    "zero_bytes.csv": (lambda rows: b"\x00" * 100, f"row 1 has 1 columns instead of 65{FORM}"),
}


def message_for(path):
    """The message for `path`, which must be one line and begin with the path."""
    with pytest.raises(DataError) as caught:
        digitlib.load_digits(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    assert len(message) < len(str(path)) + 250
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("name", WRONG)
def test_wrong_file_gets_its_own_line(name, tmp_path, rows):
    spoil, expected = WRONG[name]
    said = message_for(write(tmp_path / name, spoil(rows)))
    if expected is None:
        assert said.startswith("row ")
        assert "columns instead of 65" in said
    else:
        assert said == expected


@pytest.mark.parametrize("name", ["truncated.csv.gz", "not_packed.csv.gz", "damaged.csv.gz"])
def test_broken_gzip_cannot_be_read(name, tmp_path, rows):
    packed = bytearray(gzip.compress(lines_of(rows).encode()))
    damaged = packed.copy()
    damaged[60:90] = bytes(30)
    content = {
        "truncated.csv.gz": packed[: len(packed) // 2],
        "not_packed.csv.gz": lines_of(rows).encode(),
        "damaged.csv.gz": damaged,
    }
    path = tmp_path / name
    path.write_bytes(content[name])
    said = message_for(path)
    assert said.startswith("cannot be read (")
    assert said.endswith("; check the file and its permissions")


def test_missing_file(tmp_path):
    expected = (
        "no such file; source takes bundled, uci, sklearn or the path of a .csv or .csv.gz file"
    )
    assert message_for(tmp_path / "missing.csv") == expected


def test_folder(tmp_path):
    assert (
        message_for(tmp_path)
        == "is a folder; source takes bundled, uci, sklearn or the path of a .csv or .csv.gz file"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_forbidden_file(tmp_path, rows):
    path = write(tmp_path / "forbidden.csv", lines_of(rows))
    path.chmod(0)
    assert message_for(path).startswith("cannot be read (")


def test_file_of_more_than_the_limit(tmp_path, rows, monkeypatch):
    monkeypatch.setattr("digitlib.sources.MAX_BYTES", 1_000_000)
    path = write(tmp_path / "bomb.csv.gz", b"0" * 5_000_000)
    assert message_for(path) == "more than 1 MB of text; give a smaller table"


def test_misspelt_source_is_taken_for_a_file():
    assert message_for("bundeld").startswith("no such file; source takes bundled, uci, sklearn")


def test_fewer_rows_of_a_class_than_folds(tmp_path, rows):
    kept = [
        row for i, row in enumerate(rows) if row[64] != "4" or i < 20
    ]  # class 4 is left in two rows
    X, y = digitlib.load_digits(
        write(tmp_path / "class_4_twice.csv", lines_of(kept)), return_X_y=True
    )
    with pytest.raises(
        DataError,
        match=r"^class 4 has 2 row\(s\), fewer than the 4 folds; add rows or use fewer folds$",
    ):
        digitlib.cross_validate(digitlib.DigitClassifier(epochs=1), X, y, n_splits=4)
