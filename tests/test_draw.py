"""``draw.html``: what is drawn is read in the browser as Python reads it; pen, keys, rebuilding."""

import base64
import re
from dataclasses import replace

import numpy as np
import pytest
from conftest import needs_browser
from PIL import Image, ImageDraw
from test_pages import faults_that_axe_finds, needs_axe, visit  # noqa: F401, a fixture

from digitlib import DigitClassifier, cross_validate, load_digits, prepare_image, runs
from digitlib.data import SHA256
from digitlib.handwriting.hands import FORMS
from digitlib.recipes import RECIPES
from digitlib.report import draw, page

# Strokes in a square of 100: of each digit the form that comes first, with straight lines.
STROKES = {
    digit: [
        np.reshape(numbers.split(), (-1, 2)).astype(float) * (60, 84) + (20, 8)
        for numbers in re.findall("[~-]([^~-]+)", forms[0])
    ]
    for digit, forms in FORMS.items()
}


def made(folder, recipe, **settings):
    """A run of two folds on a third of the data, with its page to draw on."""
    digits = load_digits("sklearn")
    classifier = DigitClassifier(recipe, random_state=0, **settings)
    result = cross_validate(classifier, digits.data, digits.target, n_splits=2, progress=False)
    runs.save(result, digits, folder, seed=0)
    return draw.write_page(folder).parent


@pytest.fixture(scope="module")
def compact(tmp_path_factory):
    """A run of the compact network, which looks at nine shifted views."""
    return made(tmp_path_factory.mktemp("draw") / "compact", "accurate", epochs=6)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A run of the reference network."""
    return made(tmp_path_factory.mktemp("draw") / "reference", "coursework", epochs=1)


def picture_of(digit, random, side):
    """A digit drawn in another hand: uint8, black on white, with smooth edges."""
    turn, pen = np.radians(random.uniform(-12, 12)), random.uniform(14, 40)
    width, height = random.uniform(2.2, 5), random.uniform(4.5, 6.5)
    matrix = [[width * np.cos(turn), -height * np.sin(turn)]]
    matrix += [[width * np.sin(turn), height * np.cos(turn)]]
    sheet = Image.new("L", (840, 840), 255)
    for stroke in STROKES[digit]:
        points = (np.array(stroke) - 50 + random.normal(0, 2, (len(stroke), 2))) @ matrix + 420
        ImageDraw.Draw(sheet).line([*map(tuple, points)], 0, round(pen), joint="curve")
        for point in points:
            ImageDraw.Draw(sheet).circle(tuple(point), pen / 2, 0)
    return np.asarray(sheet.resize((side, side), Image.Resampling.BOX))


@needs_browser
@pytest.mark.parametrize("network", ["reference", "compact"])
def test_the_page_gives_the_probabilities_of_python(network, request, visit):  # noqa: F811
    run = request.getfixturevalue(network)
    page = visit(run / "draw.html")
    X = load_digits().data[:500]
    given = page.evaluate("(rows) => rows.map((x) => digitlib.classify(x))", X.tolist())
    assert np.abs(np.array(given) - runs.load_model(run).predict_proba(X)).max() < 0.002
    assert page.asked == [(run / "draw.html").as_uri(), "data:,"][: len(page.asked)]
    assert page.complaints == []


@needs_browser
def test_the_page_prepares_drawings_as_python_does(compact, visit):  # noqa: F811
    random = np.random.default_rng(5)
    sides = [280] * 10 + [168] * 20  # as large as on the page, and smaller, which is quicker
    pictures = [picture_of(number % 10, random, side) for number, side in enumerate(sides)]
    expected = np.array([prepare_image(picture) for picture in pictures], int)
    page = visit(compact / "draw.html")
    given = page.evaluate(
        """(all) => all.map((text) => {
          const data = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
          const side = Math.sqrt(data.length);
          return [...digitlib.prepare({ width: side, height: side, data })];
        })""",
        [base64.b64encode(picture.tobytes()).decode() for picture in pictures],
    )
    assert (np.abs(np.array(given) - expected) <= 1).mean() >= 0.99


def write(page, digit, left=0.0):
    """Draw a digit with the mouse, its box beginning at this share of the sheet's width."""
    box = page.locator("#field").bounding_box()
    for stroke in STROKES[digit]:
        places = [
            (box["x"] + left * box["width"] + x * box["height"] / 130, box["y"] + 20 + y * 2.6)
            for x, y in stroke
        ]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=3)
        page.mouse.up()


@needs_browser
def test_ten_digits_drawn_with_the_mouse_are_read_and_several_are_a_number(
    compact,
    visit,  # noqa: F811
):
    page, answer = visit(compact / "draw.html"), "document.querySelector('#answer').innerText"
    for digit in STROKES:
        write(page, digit, 0.3)
        page.wait_for_function(f"{answer} === '{digit}'", timeout=5000)
        page.click("#clear")
    page.wait_for_function(f"{answer} === '–'")
    for place, digit in enumerate((4, 7)):
        write(page, digit, 0.02 + 0.5 * place)
    page.wait_for_function(f"{answer} === '47'")
    page.wait_for_function("document.querySelector('#said').innerText.startsWith('It reads 4 7:')")
    shares = page.locator(".bars span").all_inner_texts()
    assert len(shares) == 10 and sum(float(share.strip(" %")) for share in shares) > 99
    assert page.locator("#similar span").first.inner_text() == "7"
    for _ in STROKES[7]:
        page.click("#undo")
    page.wait_for_function(f"{answer} === '4'")


@needs_browser
def test_the_keyboard_draws_too(compact, visit):  # noqa: F811
    page, answer = visit(compact / "draw.html"), "document.querySelector('#answer').innerText"
    page.focus("#field")
    for key in [" ", *["Shift+ArrowDown"] * 6, " ", "ArrowUp", "ArrowUp"]:
        page.keyboard.press(key)
    page.wait_for_function(f"{answer} === '1'")
    assert page.locator("#answer").inner_text() == "1"
    page.keyboard.press("Backspace")
    page.wait_for_function(f"{answer} === '–'")
    assert page.locator("#answer").inner_text() == "–"


@needs_browser
@needs_axe
def test_the_page_has_no_fault_that_axe_can_find_and_fits_a_phone(compact, visit):  # noqa: F811
    page = visit(compact / "draw.html")
    write(page, 3)
    for width, scheme in ((360, "light"), (1440, "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width
        assert faults_that_axe_finds(page) == [], (width, scheme)
    assert page.evaluate("getComputedStyle(document.querySelector('#field')).touchAction") == "none"


def test_the_same_run_gives_the_same_bytes(compact):
    before = (compact / "draw.html").read_bytes()
    assert len(before) < 2_500_000
    assert draw.write_page(compact).read_bytes() == before


def test_networks_that_do_not_fit_are_left_out_and_the_page_says_so(reference, monkeypatch):
    one = 8 / 3 * (reference / "fold-1.safetensors").stat().st_size / 4
    monkeypatch.setattr(draw, "MOST_DRAWN", one)
    text = draw.write_page(reference).read_text()
    assert "The run has 2 networks; 1 of them fit into this page" in text
    monkeypatch.setattr(page, "MOST_DRAWN", one / 2)
    assert page.undrawn(runs.load(reference)) == "its networks are too large for a page"


def test_the_page_tells_how_strangers_are_read_where_it_was_measured(compact):
    run = runs.load(compact)

    def told(code=(), **changes):
        info = {**run.info, "recipe": RECIPES["accurate"].as_dict() | changes}
        info |= {"data": {"sha256": SHA256}, "code": {"changed": list(code)}}
        return draw._strangers(replace(run, info=info))

    assert told() == RECIPES["accurate"].strangers
    assert told(dropout=0.2) is None
    assert told(code=["digitlib/training.py"]) is None
    assert "was not measured" in (compact / "draw.html").read_text(), "fewer rows of the data"
