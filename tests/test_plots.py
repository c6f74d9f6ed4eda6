import base64
import io
import re

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
    written = sum(int(text.get_text()) for ax in axes.flat for text in ax.texts)
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


def test_few_numbers_of_a_figure_are_offered_as_a_file_and_many_are_not(judged):
    images, y, p = judged
    figure = plots.recall_by_class(y, p.argmax(1)).figure
    read = pd.read_csv(io.StringIO(figure.csv), index_col="digit")
    assert np.allclose(read, figure.numbers, atol=1e-6)
    assert plots.projection(images.reshape(-1, 64), y).figure.csv == ""


def test_notebook_figures_are_sharp_small_and_described(judged):
    """In a real shell, whose own formatters for figures would otherwise draw each a second time."""

    class Shell(InteractiveShell):
        def enable_gui(self, gui=None):
            """There is no event loop to join."""

    shell = Shell.instance()
    try:
        plots.notebook_style()
        ax = plots.recall_by_class(judged[1], judged[2].argmax(1))
        data, metadata = shell.display_formatter.format(ax.figure)
    finally:
        Shell.clear_instance()
    picture = Image.open(io.BytesIO(data["image/png"]))
    assert picture.mode == "P", "few colours, so few bytes"
    assert picture.width == 2 * metadata["image/png"]["width"] == 200 * plots.WIDTH
    assert data["text/plain"] == metadata["image/png"]["alt"] == plots.alt_text(ax)
