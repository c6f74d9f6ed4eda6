import base64
import io
import re
import warnings

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image
from sklearn.metrics import confusion_matrix

from digitlib import load_digits, plots

mpl.use("Agg")


TABLE = pd.DataFrame(
    [
        [0.99, 0.985, 0.995, 1.0, False, 0.98],
        [0.98, 0.97, 0.985, 20.0, True, 0.97],
        [0.1, 0.09, 0.11, 0.01, False, 0.1],
    ],
    columns=["accuracy", "low", "high", "seconds", "ours", "writers"],
    index=["SVC", "network", "majority"],
)
CURVE = pd.DataFrame(
    {"images": [100] * 2 + [200] * 2, "fold": [1, 2] * 2, "accuracy": [0.9, 0.92, 0.95, 0.96]}
)
FOLDS = np.arange(400) % 3 + 1


@pytest.fixture(scope="module")
def judged():
    """400 images, their labels and probabilities that are right most of the time."""
    digits = load_digits()
    y = digits.target[:400]
    logits = 2 * np.random.default_rng(0).normal(size=(400, 10)) + 4 * np.eye(10)[y]
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return digits.images[:400], y, p


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


FIGURES = {
    "percent": lambda images, y, p: plots.confusion(y, p.argmax(1), percent=True),
    "folds": lambda images, y, p: plots.fold_confusions(y, p.argmax(1), FOLDS),
    "map": lambda images, y, p: plots.neighbour_map(images[:, 3, 3:5], y, p.argmax(1)),
    "recall": lambda images, y, p: plots.recall_by_class(y, p.argmax(1)),
    "reliability": lambda images, y, p: plots.reliability(y, p, np.arange(10)),
    "selective": lambda images, y, p: plots.selective(y, p, np.arange(10)),
    "time": lambda images, y, p: plots.accuracy_against_time(TABLE),
    "protocols": lambda images, y, p: plots.protocols(TABLE.rename(columns={"accuracy": "folds"})),
    "learning": lambda images, y, p: plots.learning_curve(CURVE),
}


@pytest.mark.parametrize("name", FIGURES)
def test_each_figure_has_axes_words_and_numbers(name, judged):
    axes = FIGURES[name](*judged)
    assert all(isinstance(ax, mpl.axes.Axes) for ax in np.ravel(axes))
    words = plots.alt_text(axes)
    assert re.fullmatch(r".*\d.*\.", words)
    assert "nan" not in words
    assert len(plots.numbers(axes)) > 0


def test_confusion_shows_what_scikit_learn_counts_and_colours_errors_alone(judged):
    _, y, p = judged
    ax = plots.confusion(y, p.argmax(1))
    expected = confusion_matrix(y, p.argmax(1))
    assert (plots.numbers(ax).to_numpy() == expected).all()
    written = sorted(text.get_text() for text in ax.texts if text.get_text())
    assert written == sorted(str(n) for n in expected.ravel() if n)
    assert f"{expected.trace()} of {expected.sum()} correct" in plots.alt_text(ax)
    mesh = ax.collections[0].get_array().reshape(10, 10)
    assert (np.ma.getmaskarray(mesh) == np.eye(10, dtype=bool)).all()


def test_the_small_matrices_of_folds_give_the_errors_alone_in_large_numbers(judged):
    _, y, p = judged
    axes = plots.fold_confusions(y, p.argmax(1), FOLDS)
    written = sum(int(text.get_text() or 0) for ax in axes.flat for text in ax.texts)
    assert written == (p.argmax(1) != y).sum()
    assert {text.get_fontsize() for ax in axes.flat for text in ax.texts} == {13.0}
    assert plots.numbers(axes).to_numpy().sum() == len(y)


def test_all_right_is_drawn_without_errors():
    y = np.array([0, 1, 2, 0, 1, 2])
    assert plots.alt_text(plots.confusion(y, y)) == "Confusion matrix: 6 of 6 correct."
    plots.fold_confusions(y, y, np.array([1, 1, 1, 2, 2, 2])).flat[0].figure.canvas.draw()


def test_an_image_grid_holds_every_image_its_words_and_what_links_lead_to(judged):
    images, y, p = judged
    wrong = np.flatnonzero(p.argmax(1) != y)
    pairs = list(zip(y[wrong], p[wrong].argmax(1), strict=True))
    grid = plots.image_grid(images[wrong], ["4 < 9\nsure"] * len(wrong), "Its words.", None, pairs)
    page = BeautifulSoup(grid._repr_html_(), "html.parser")
    for image, shown in zip(images[wrong], page.select("img"), strict=True):
        read = Image.open(io.BytesIO(base64.b64decode(shown["src"].partition(",")[2])))
        assert (np.asarray(read) == 255 - image.astype(int) * 255 // 16).all()
    assert page.select_one("figure figcaption").decode_contents() == "<b>4 &lt; 9</b><br/>sure"
    assert plots.alt_text(grid) == "Its words." and len(plots.numbers(grid)) == len(wrong)
    matrix = plots.confusion_table(y, p.argmax(1), "wrong")
    assert (plots.numbers(matrix).to_numpy() == confusion_matrix(y, p.argmax(1))).all()
    links = BeautifulSoup(matrix._repr_html_(), "html.parser").select("a")
    led = [link["data-pair"] for link in links for _ in range(int(link.text))]
    assert sorted(led) == sorted(figure["data-pair"] for figure in page.select("figure figure"))


class Shell(InteractiveShell):
    def enable_gui(self, gui=None):
        """There is no event loop to join."""


def test_a_figure_is_shown_as_html_with_its_words_and_its_few_numbers(judged):
    """In a real shell, whose own formatters for figures would otherwise draw each a second time."""
    images, y, p = judged
    shell = Shell.instance()
    try:
        plots.notebook_style()
        ax = plots.recall_by_class(y, p.argmax(1))
        data, _ = shell.display_formatter.format(ax.figure)
    finally:
        Shell.clear_instance()
    assert set(data) == {"text/html", "text/plain"}
    page = BeautifulSoup(data["text/html"], "html.parser")
    assert page.figcaption.get_text() == data["text/plain"] == plots.alt_text(ax)
    picture = Image.open(io.BytesIO(base64.b64decode(page.img["src"].partition(",")[2])))
    assert picture.mode == "P", "few colours, so few bytes"
    assert picture.width == 2 * int(page.img["width"]) == 200 * plots.WIDTH
    numbers = base64.b64decode(page.a["href"].partition(",")[2]).decode()
    read = pd.read_csv(io.StringIO(numbers), index_col="digit")
    assert np.allclose(read, plots.numbers(ax), atol=1e-6)
    many = plots.projection(images.reshape(-1, 64), y)
    assert "csv" not in plots.as_html(many.figure)


def test_warnings_of_libraries_are_one_line_with_their_count(capsys):
    shell = Shell.instance()
    try:
        with warnings.catch_warnings():
            plots.notebook_style()
            shell.run_cell(
                "import warnings\nfor n in range(45): warnings.warn(f'old {n}', FutureWarning)"
            )
            shell.run_cell("1")
    finally:
        Shell.clear_instance()
    assert capsys.readouterr().err == "45 warnings; the first: FutureWarning: old 0\n"


def test_a_table_says_what_its_headers_are_of_and_names_its_cells():
    frame = pd.DataFrame(
        {"name": ["a<b", "c"], "share": [0.5, np.nan], "n": [1, 20]}, pd.Index([7, 8], name="row")
    )
    shown = plots.table(frame, "Its words.", {"share": "{:.1%}"})
    page = BeautifulSoup(shown.data, "html.parser")
    assert [cell.get_text() for cell in page.select("tbody tr:first-child > *")] == [
        *("7", "a<b", "50.0%", "1")
    ]
    assert [cell.get_text() for cell in page.select("tbody tr:last-child > *")][2] == ""
    assert [head["scope"] for head in page.select("th")] == ["col"] * 4 + ["row"] * 2
    assert [head.get_text() for head in page.select("thead .num")] == ["share", "n"]
    assert page.caption.get_text() == page.div["aria-label"] == "Its words."
    assert "data-head" not in shown.data
    wide = pd.DataFrame(np.zeros((2, 8)), columns=list("abcdefgh"))
    cells = BeautifulSoup(plots.table(wide, "Wide.").data, "html.parser").select("td")
    assert [cell["data-head"] for cell in cells] == list("bcdefgh") * 2
