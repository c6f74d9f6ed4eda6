"""Reports as people meet them: in a real browser, judged by axe-core, by day and by night."""

import json
import re
import shutil
from itertools import product
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from conftest import BROWSER, environment_put_back, needs_browser

from digitlib.errors import DigitlibError, NotebookFailed
from digitlib.provenance import notebook_folder
from digitlib.report import forks, index, kernels, pdf
from digitlib.report import page as render

AXE = Path(__file__).with_name("browser") / "node_modules/axe-core/axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# What passes is counted in the page: all of it would take long to carry over.
JUDGE = """async ([tags, part]) => {
  const found = await axe.run(part, { runOnly: tags, resultTypes: ["violations"] });
  const told = ({ id, nodes }) => nodes.map((node) => [id, node.html, node.failureSummary]);
  return [found.passes.length, found.violations.flatMap(told)];
}"""
needs_axe = pytest.mark.skipif(
    not AXE.is_file(), reason="axe-core is not installed: npm ci --prefix tests/browser"
)


@pytest.fixture(scope="session")
def reports(small_report, tmp_path_factory):
    """Two reports: the one made by the notebooks; a copy with another seed and a failed check."""
    folder = tmp_path_factory.mktemp("reports")
    one = Path(shutil.copytree(small_report, folder / "one"))
    with environment_put_back():
        forks.prepare_environment(tmp_path_factory.mktemp("s"))
        notebook, parameters = "4_compare.ipynb", {"run": ".", "recipes": "kernel"}
        kernels.run(notebook_folder() / notebook, one / notebook, parameters, one)
    for notebook in one.glob("*.ipynb"):
        render.write_page(notebook)
    index.write_index(one, "one")
    two = Path(shutil.copytree(small_report, folder / "two"))
    info = (two / "run.json").read_text().replace('"seed": 3', '"seed": 7')
    (two / "run.json").write_text(info)
    (two / "checks.json").write_text(
        '[{"code": "known-data", "title": "Data hash is known", "passed": true, "detail": "a88f"},'
        ' {"code": "beats-majority", "title": "Better than guessing", "passed": false, "detail":'
        ' "9.9 % & less"}]'
    )
    index.write_index(two, "two")
    index.write_overview(folder)
    return folder


@pytest.fixture
def visit(chromium):
    """Open a file; what it asked for and complained about is kept on the page."""
    pages = []

    def open_page(path, width=1440):
        page = chromium.new_page(viewport={"width": width, "height": 900})
        pages.append(page)
        page.asked, page.complaints = [], []
        page.on("request", lambda request: page.asked.append(request.url))
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.goto(path.as_uri())
        return page

    yield open_page
    for page in pages:
        page.close()


def pages_of(reports):
    lists = [reports / "index.html", reports / "two/index.html"]
    return [*lists, *sorted((reports / "one").glob("*.html"))]


def faults_that_axe_finds(page):
    if page.evaluate("typeof axe === 'undefined'"):
        page.add_script_tag(path=AXE)
    passes, faults = page.evaluate(JUDGE, [RULES, "html"])
    assert passes > 20
    return faults


@needs_browser
@needs_axe
def test_no_page_has_a_fault_that_axe_can_find_nor_asks_anyone_for_anything(reports, visit):
    for path in pages_of(reports):
        page = visit(path)
        page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
        for width, scheme in product((360, 1440, 3840), ("light", "dark")):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            seen = f"{path.name} at {width}, {scheme}"
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), seen
            assert faults_that_axe_finds(page) == [], seen
        beside = path.parent.as_uri()  # 5_predict shows draw.html
        assert [url for url in page.asked if not url.startswith(("data:", beside))] == []
        # axe itself cannot speak to a frame that comes from a file.
        assert [text for text in page.complaints if "postMessage" not in text] == []
    # The judge works: it finds a picture without a description.
    page = visit(reports / "one/1_eda.html")
    page.evaluate("document.querySelector('figure img').removeAttribute('alt')")
    assert [rule for rule, *_ in faults_that_axe_finds(page)] == ["image-alt"]


@needs_browser
def test_figures_and_tables_are_numbered_for_those_who_listen_too(reports, visit):
    page = visit(reports / "one/3_evaluate.html")
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    heard = "".join(
        node["name"]["value"] for node in tree if node.get("role", {}).get("value") == "StaticText"
    )
    for kind, place in (("Figure", "> figure > figcaption"), ("Table", "caption")):
        numbers = [int(n) for n in re.findall(rf"{kind} (\d+)\. ", heard)]
        assert numbers == list(range(1, page.locator(f"main {place}").count() + 1))
    places = page.eval_on_selector_all("main > figure", "(all) => all.map((one) => one.id)")
    assert places == [f"figure-{n}" for n in range(1, len(places) + 1)]


@needs_browser
def test_no_table_and_no_caption_has_to_be_pushed_aside(reports, visit):
    for name, width in product(pages_of(reports), (1440, 360)):
        page = visit(name, width)
        wide = "(all) => all.map((one) => one.scrollWidth - one.clientWidth)"
        assert set(page.eval_on_selector_all(".scroll", wide)) <= {0}, (name, width)
        edges = "(all) => all.map((one) => one.getBoundingClientRect().right)"
        assert max(page.eval_on_selector_all("caption", edges), default=0) <= width - 19
    # Each number is below the name that its column has on a wide screen.
    page = visit(reports / "one/3_evaluate.html", 390)
    table = page.locator(".scroll:has([data-head])").first
    names = table.locator("thead th, thead td").all_text_contents()
    for line in table.locator("tbody tr").all():
        cells = "(all) => all.map((one) => one.dataset.head)"
        assert line.locator("td").evaluate_all(cells) == names[1:]
        assert line.locator("td").nth(3).bounding_box()["x"] > line.bounding_box()["x"]
    assert visit(reports / "one/4_compare.html").locator("thead").first.is_visible()


@needs_browser
def test_every_link_leads_somewhere(reports, visit):
    for path in pages_of(reports):
        page = visit(path)
        places = page.eval_on_selector_all("[id]", "(all) => all.map((one) => one.id)")
        links = page.eval_on_selector_all("a", "(all) => all.map((a) => a.getAttribute('href'))")
        for address in links:
            if address.startswith("data:"):
                continue
            file, _, place = address.partition("#")
            target = path.parent / file if file else path
            assert target.is_file(), f"{path}: {address}"
            assert not place or unquote(place) in places, f"{path}: {address}"


@needs_browser
def test_a_number_of_the_confusion_matrix_shows_its_images_by_mouse_and_keyboard(reports, visit):
    page = visit(reports / "one/3_evaluate.html")
    shown, link = page.locator("#misread > figure:visible"), page.locator("a[data-pair]").first
    every, pair, count = shown.count(), link.get_attribute("data-pair"), int(link.inner_text())
    link.click()
    digit, read = pair.split("-")
    assert shown.count() == count < every
    assert shown.locator("b").all_inner_texts() == [f"{digit} read as {read}"] * count
    assert page.get_by_role("status").inner_text() == f"{count} of {every}: {digit} read as {read}"
    page.get_by_role("button", name="Show all", exact=True).click()
    assert shown.count() == every
    link.press("Enter")
    assert shown.count() == count


@needs_browser
@needs_axe
def test_a_figure_opens_large_and_gives_its_numbers_and_its_picture(reports, visit):
    page = visit(reports / "one/3_evaluate.html", 360)
    # The browser's own search: that of Playwright takes seconds for it.
    number = page.evaluate("document.querySelector('main > figure:has(> img)').id")
    figure = page.locator(f"#{number}")
    figure.get_by_role("button", name="Open large").click()
    large = page.locator("dialog[open] img")
    assert large.bounding_box()["width"] > figure.locator("> img").bounding_box()["width"]
    page.add_script_tag(path=AXE)
    assert page.evaluate(JUDGE, [RULES, "dialog"])[1] == []
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    with page.expect_download() as numbers:
        figure.get_by_role("link", name="Numbers (CSV)").click()
    table = pd.read_csv(numbers.value.path())
    assert {"confidence", "accuracy"} <= set(table.columns) and len(table) > 3
    with page.expect_download() as picture:
        figure.get_by_role("link", name="Picture").click()
    assert Path(picture.value.path()).read_bytes().startswith(b"\x89PNG")


@needs_browser
def test_all_code_is_shown_and_folded_by_keyboard(reports, visit):
    page = visit(reports / "one/2_train.html")
    pieces, opened = page.locator("details.code"), page.locator("details.code[open]")
    assert opened.count() == 0 and pieces.count() > 5
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "all-code":
            break
    page.keyboard.press("Enter")
    assert opened.count() == pieces.count()
    assert page.get_attribute("#all-code", "aria-pressed") == "true"
    page.keyboard.press("Space")
    assert opened.count() == 0


@needs_browser
def test_reports_are_sorted_and_opened_with_failed_checks_first(reports, visit):
    page = visit(reports / "index.html")
    names = "[...document.querySelectorAll('table tbody')][0].innerText"
    page.get_by_role("button", name="Report", exact=True).click()
    first = page.evaluate(names).split()[0]
    page.get_by_role("button", name="Report", exact=True).click()
    assert {first, page.evaluate(names).split()[0]} == {"one", "two"}
    # Failed checks are told before the figures.
    page.get_by_role("link", name="two", exact=True).first.click()
    assert "1 of 2 checks failed: Better than guessing" in page.locator(".alarm").inner_text()
    assert "9.9 % & less" in page.locator("#checks + ul").inner_text()
    assert page.locator("details.more summary").inner_text() == "1 of 2 checks passed"


def test_pages_say_what_figures_show_and_stay_light(reports):
    pages = sorted((reports / "one").glob("[0-9]_*.html"))
    assert len(pages) == len(list((reports / "one").glob("*.ipynb")))
    for path in pages:
        text = path.read_text(encoding="utf-8")
        page = BeautifulSoup(text, "html.parser")
        assert all(image["alt"] for image in page.select("img"))
        said = [caption.get_text() for caption in page.select("main > figure > figcaption")]
        assert len(said) == len(page.select("main > figure")) > 0
        assert all(re.search(r"\d", caption) and len(caption) > 30 for caption in said), said
        assert "description" not in "".join(said)
        assert path.stat().st_size < 1_500_000
        assert text.count("<h1") == 1
    sizes = {path.name: path.stat().st_size for path in (reports / "one").iterdir()}
    assert sizes.pop("draw.html") < 2_500_000
    assert sum(sizes.values()) < 6_000_000


def test_a_finding_about_the_model_is_told_calmly_and_a_fault_is_not(reports, tmp_path):
    folder = Path(shutil.copytree(reports / "two", tmp_path / "calm"))
    entry = {"code": "DL007", "title": "better than 1-nearest-neighbour", "passed": False}
    entry |= {"detail": "try another recipe", "kind": "finding"}
    for kind, calm, failed in (("finding", 1, 0), ("fault", 0, 1)):
        (folder / "checks.json").write_text(json.dumps([entry | {"kind": kind}]))
        text = index.write_index(folder, "calm").read_text(encoding="utf-8")
        assert text.count('class="alarm calm"') == calm
        assert text.count("checks failed:") == text.count(">FAILED<") == failed
        assert ("The report itself is sound" in text) == bool(calm)
        assert ("worth knowing" in index.checks_summary(folder)) == bool(calm)


@needs_browser
def test_print_as_pdf(reports):
    target = pdf.make_pdf("one", reports, BROWSER)
    data = target.read_bytes()
    target.unlink()
    assert data.startswith(b"%PDF") and b"/StructTreeRoot" in data and b"/Outlines" in data
    assert len(re.findall(rb"/Type /Page[\n /]", data)) >= 6


def test_without_a_browser_one_line_says_what_to_install(reports, monkeypatch):
    monkeypatch.setenv("PATH", str(notebook_folder()))
    for name, browser, said in (
        ("one", None, "^no browser found .* install Chromium .* --browser PATH$"),
        ("one", "netscape", "browser='netscape': no such program"),
        ("gone", None, "no finished report; make it first: make report NAME=gone"),
    ):
        with pytest.raises(DigitlibError, match=said):
            pdf.make_pdf(name, reports, browser)


def test_a_notebook_that_cannot_be_a_page_is_named_and_one_from_colab_is_no_trouble(
    small_report, tmp_path
):
    folder = Path(shutil.copytree(small_report, tmp_path / "run"))
    book = nbformat.read(folder / "1_eda.ipynb", 4)
    book.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {}}  # no "state"
    frame = nbformat.v4.new_output(
        "display_data", {"text/html": "<table class='dataframe'></table>"}
    )
    book.cells += [nbformat.v4.new_code_cell("df", outputs=[frame], execution_count=99)]
    tagged = {"tags": [render.IF_SHOWN]}
    book.cells += [nbformat.v4.new_markdown_cell("## Not for this model", metadata=tagged)]
    nbformat.write(book, folder / "1_eda.ipynb")
    text = render.write_page(folder / "1_eda.ipynb").read_text(encoding="utf-8")
    assert 'class="scroll" role="group" tabindex="0" aria-label="Table"><table' in text
    assert "Not for this model" not in text
    (folder / "2_train.ipynb").write_text("{}")
    with pytest.raises(NotebookFailed, match=r"^2_train\.ipynb: no page can be made of it"):
        render.write_page(folder / "2_train.ipynb")
