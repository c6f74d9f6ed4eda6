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
BROKEN = pd.DataFrame({"change": ["turned"] * 4 + ["covered"] * 4, "unit": "degrees"})
BROKEN["strength"], BROKEN["classifier"] = [0, 9] * 4, ["net", "net", "SVC", "SVC"] * 2
BROKEN["accuracy"] = np.linspace(0.9, 0.4, 8)
FOLDS = np.arange(400) % 3 + 1
HARD = pd.DataFrame({"row": [7] * 3 + [4] * 3, "epoch": [1, 2, 3] * 2, "label": [7] * 3 + [4] * 3})
HARD["predicted"], HARD["p_label"] = [1, 7, 7, 9, 4, 9], [0.2, 0.6, 0.9, 0.1, 0.5, 0.3]


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
    "hard": lambda images, y, p: plots.hard_digits(HARD, images),
    "recall": lambda images, y, p: plots.recall_by_class(y, p.argmax(1)),
    "gallery": lambda images, y, p: plots.gallery(images[:13], ["a row\nseen"] * 13, columns=5),
    "pairs": lambda images, y, p: plots.confused_images(images, y, p.argmax(1)),
    "reliability": lambda images, y, p: plots.reliability(y, p, np.arange(10)),
    "selective": lambda images, y, p: plots.selective(y, p, np.arange(10)),
    "time": lambda images, y, p: plots.accuracy_against_time(TABLE),
    "protocols": lambda images, y, p: plots.protocols(TABLE.rename(columns={"accuracy": "folds"})),
    "breaking": lambda images, y, p: plots.breaking(BROKEN),
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


def test_a_figure_that_is_pointed_at_holds_each_place_digit_and_image(judged):
    images, y, p = judged
    ax = plots.pointed(plots.neighbour_map(images[:, 3, 3:5], y, p.argmax(1)), images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it would stand on the page
        content = base64.b64decode(plots.basics.described_png(ax.figure)[1]["points"])
    places = np.frombuffer(content[:1600], "<u2").reshape(400, 2) / 65535
    digits = np.frombuffer(content[1600:2400], np.uint8).reshape(400, 2)
    fours = np.frombuffer(content[2400:], np.uint8).reshape(400, 16)
    np.testing.assert_array_equal(digits, np.column_stack([y, p.argmax(1)]))
    ink = np.stack([fours >> bits & 3 for bits in (6, 4, 2, 0)], axis=2).reshape(400, 8, 8)
    np.testing.assert_allclose(ink * 16 / 3, images, atol=2.7)
    # After it was drawn, points are where they were said to be.
    drawn = ax.transData.transform(images[:, 3, 3:5]) / ax.figure.bbox.size
    np.testing.assert_allclose(places, np.column_stack([drawn[:, 0], 1 - drawn[:, 1]]), atol=1e-4)
    many = plots.neighbour_map(np.arange(20_002).reshape(-1, 2), np.arange(10_001) % 10)
    assert not hasattr(plots.pointed(many, np.zeros((10_001, 8, 8))).figure, "points")


def test_hard_digits_say_how_many_were_ever_right_and_how_many_in_the_end(judged):
    axes = plots.hard_digits(HARD, judged[0])
    words = plots.alt_text(axes)
    assert "2 of 2 were right after some epoch, 1 after the last." in words
    assert "15 % on average after the first epoch and 60 % after the last" in words
    read = [[text.get_text() for text in ax.texts] for ax in axes.flat]
    assert read == [["1", "7", "7"], ["9", "4", "9"]]


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


def test_all_right_is_drawn_without_errors_and_pairs_count_both_directions():
    y = np.array([0, 1, 2, 0, 1, 2])
    assert plots.alt_text(plots.confusion(y, y)) == "Confusion matrix: 6 of 6 correct."
    plots.fold_confusions(y, y, np.array([1, 1, 1, 2, 2, 2])).flat[0].figure.canvas.draw()
    y, predicted = np.array([4, 4, 9, 1, 1]), np.array([9, 9, 4, 7, 1])
    table = plots.numbers(plots.confused_images(np.full((5, 8, 8), 5), y, predicted, pairs=1))
    assert table.to_dict("list") == {"true": [4, 9], "predicted": [9, 4], "count": [2, 1]}


def test_gallery_shows_every_image_where_its_title_is(judged):
    images, _, _ = judged
    ax = plots.gallery(images[:7], [str(i) for i in range(7)], columns=3)
    canvas = ax.images[0].get_array()
    assert len(ax.texts) == 7
    for title in ax.texts:
        left, top = int(title.get_position()[0]), round(title.get_position()[1] + 0.4)
        assert (canvas[top : top + 8, left : left + 8] == images[int(title.get_text())]).all()


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


def test_who_is_far_below_is_named_and_not_drawn():
    ax = plots.accuracy_against_time(TABLE)
    assert "majority (10.0 %)" in ax.get_title(loc="left")
    assert {text.get_text() for text in ax.texts} == {"SVC", "network"}
    assert ax.get_ylim()[0] > 90


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
