"""The page of ``jaxhash serve`` in headless Chromium, over files with hostile names."""

import html.parser
import importlib.resources
import json
import re
import urllib.parse

import numpy as np
import pytest
from browser import find_browser, open_browser
from PIL import Image
from search_oracle import all_distances
from served_samples import LABELS, make_hasher, make_images, make_served, serving

PAGE = 60
MAX_BYTES = 100_000


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    make_images(folder / "images")
    return make_served(folder / "index", folder / "images", "images")


@pytest.fixture(scope="module")
def url(index):
    with serving(index.folder, max_upload_bytes=MAX_BYTES) as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if find_browser() is None:
        pytest.skip("there is no Chromium here")
    with open_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(browser):
    """The page of the browser, as new; what it logs must be nothing but answers of 4xx."""
    browser.resize(1200)
    browser.prefer("light")
    browser.log.clear()
    browser.requests.clear()
    yield browser
    assert [line for line in browser.log if "status of 4" not in line] == []


def address_of(page):
    """Returns the parameters in the address of the page."""
    return dict(urllib.parse.parse_qsl(page.evaluate("location.hash").lstrip("#")))


def paste_text(page, text):
    event = "new ClipboardEvent('paste', {clipboardData: data, bubbles: true})"
    script = f"data.setData('text/plain', {json.dumps(text)}); document.body.dispatchEvent({event})"
    page.evaluate(f"(data => {{ {script}; }})(new DataTransfer())")


def shown_ids(page):
    links = page.evaluate("[...document.querySelectorAll('#items a')].map(a => a.hash)")
    return [int(urllib.parse.parse_qs(each[1:])["id"][0]) for each in links]


def shown_distances(page):
    return [int(text.split()[-1]) for text in page.texts("#items .distance")]


def ranking(index, code, label=None):
    """Returns ids and distances of all items, or of those of a label, the nearest first."""
    [(ids, codes)] = index.blocks()
    labels = np.array([item.label for item in index.items(ids)])
    distances = all_distances(np.frombuffer(code, np.uint8)[None], codes)[0]
    rows = np.argsort(distances, kind="stable")
    rows = rows if label is None else rows[labels[rows] == label]
    return ids[rows].tolist(), distances[rows].tolist()


def code_of(index, id):
    return index.codes([id])[0].tobytes()


def test_items_are_browsed_by_page(page, index, url):
    page.open(url)
    assert shown_ids(page) == list(range(PAGE))
    page.click("#next")
    page.wait("document.querySelectorAll('#items li').length == 15")
    assert address_of(page) == {"offset": "60"} and shown_ids(page) == list(range(60, 75))
    assert not page.evaluate("document.querySelector('#next').hasAttribute('href')")
    page.click("#previous")
    page.wait("document.querySelectorAll('#items li').length == 60")
    page.evaluate("(e => { e.value = 71; e.onchange(); })(document.querySelector('#from'))")
    page.wait("document.querySelectorAll('#items li').length == 5")
    assert shown_ids(page) == list(range(70, 75))


def test_names_and_labels_are_text(page, index, url):
    page.open(url)
    page.wait("[...document.querySelectorAll('#items img')].slice(0, 8).every(i => i.naturalWidth)")
    shown = page.evaluate("[...document.querySelectorAll('#items a')].map(a => a.textContent)")
    for item, text in zip(index.items(range(PAGE)), shown, strict=True):
        name = item.path.rsplit("/", 1)[1].replace("\n", r"\u000a").replace("\u202e", r"\u202e")
        assert item.label in text and name in text
    assert page.evaluate("document.querySelectorAll('#items b, [onclick], [onerror]').length") == 0
    assert all(each.startswith((url, "about:", "data:")) for each in page.requests)


def test_an_item_is_searched_by_its_link_and_back_returns(page, index, url):
    page.open(url)
    with page.navigation():
        page.click("#items li:nth-child(8) a")
    assert address_of(page) == {"id": "7"}
    ids, distances = ranking(index, code_of(index, 7))
    assert shown_ids(page) == ids[:PAGE] and shown_distances(page) == distances[:PAGE]
    assert page.evaluate("document.activeElement.id") == "heading"
    item = index.items([ids[1]])[0]
    alt = page.evaluate("document.querySelectorAll('#items img')[1].alt")
    assert item.label in alt and f"distance {distances[1]}" in alt
    page.wait("document.querySelector('#picture img').naturalWidth > 0")
    page.evaluate("history.back()")
    page.wait("!location.hash && document.querySelector('#query').hidden")
    assert shown_ids(page) == list(range(PAGE))
    page.evaluate("history.forward()")
    page.wait("!document.querySelector('#query').hidden")
    assert shown_ids(page) == ids[:PAGE]


def test_more_of_a_ranking_is_shown_and_stays_after_back(page, index, url):
    page.open(f"{url}#id=3")
    page.click("#more")
    page.wait("document.querySelectorAll('#items li').length == 75")
    ids, distances = ranking(index, code_of(index, 3))
    assert shown_ids(page) == ids and shown_distances(page) == distances
    assert page.evaluate("document.querySelector('#more').hidden")
    focused = page.evaluate(
        "[...document.querySelectorAll('#items a')].indexOf(document.activeElement)"
    )
    assert focused == PAGE
    with page.navigation():
        page.click("#items li:nth-child(70) a")
    assert address_of(page) == {"id": str(ids[69])}
    page.evaluate("history.back()")
    page.wait("document.querySelectorAll('#items li').length == 75")
    assert shown_ids(page) == ids


def test_an_image_is_uploaded_and_its_ranking_filtered_without_sending_it_again(
    page, index, url, tmp_path
):
    pixels = np.random.default_rng(5).integers(0, 256, (4, 4, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "new <i>.png")
    code = make_hasher("images").encode(pixels[None])[0].tobytes()
    page.open(url)
    page.choose_file("#file", tmp_path / "new <i>.png")
    page.wait("location.hash.includes('code')")
    assert address_of(page) == {"code": code.hex()}
    ids, distances = ranking(index, code)
    assert shown_ids(page) == ids[:PAGE] and shown_distances(page) == distances[:PAGE]
    page.wait("document.querySelector('#picture img').naturalWidth == 4")
    assert page.texts("#query-name") == ["new <i>.png"]
    page.requests.clear()
    script = "(e => { e.value = %s; e.onchange(); })(document.querySelector('#label'))"
    page.evaluate(script % json.dumps(LABELS[0]))
    page.wait("document.querySelectorAll('#items li').length == 25")
    assert address_of(page) == {"code": code.hex(), "label": LABELS[0]}
    assert shown_ids(page) == ranking(index, code, LABELS[0])[0]
    assert page.texts("#query-name") == ["new <i>.png"]
    assert len([each for each in page.requests if "/search" in each]) == 1
    assert not any("limit" in each and "code" not in each for each in page.requests)


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_an_image_is_pasted_or_dropped(page, index, url, way):
    page.open(url)
    event = {
        "paste": "new ClipboardEvent('paste', {clipboardData: data, bubbles: true})",
        "drop": "new DragEvent('drop', {dataTransfer: data, bubbles: true})",
    }[way]
    page.evaluate(
        "fetch('/items/9/image').then(answer => answer.blob()).then(blob => {"
        " const data = new DataTransfer(); data.items.add(new File([blob], 'given.jpg'));"
        f" document.body.dispatchEvent({event}); }})"
    )
    page.wait("location.hash.includes('code')")
    code = bytes.fromhex(address_of(page)["code"])
    assert shown_ids(page) == ranking(index, code)[0][:PAGE]
    assert page.texts("#query-name") == ["given.jpg"]


def test_an_error_is_shown_and_the_page_goes_on(page, index, url, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "large.png").write_bytes(b"x" * (MAX_BYTES + 1))
    Image.new("RGB", (8, 8), "red").save(tmp_path / "good.png")
    page.open(f"{url}#id=3")
    for name in ("bad.png", "large.png"):
        page.choose_file("#file", tmp_path / name)
        page.wait("!document.querySelector('#error').hidden")
        page.rest()
        assert page.texts("#error")[0] and len(shown_ids(page)) == PAGE
        assert address_of(page) == {"id": "3"}
    page.choose_file("#file", tmp_path / "good.png")
    page.wait("location.hash.includes('code') && document.querySelector('#error').hidden")


@pytest.mark.parametrize("address", ["#id=999", "#id=x", "#code=zz", "#label=none", "#offset=-3"])
def test_an_address_that_is_wrong_is_said(page, url, address):
    page.open(f"{url}{address}")
    if "offset" in address:  # the first page
        assert shown_ids(page) == list(range(PAGE))
    else:
        assert page.texts("#error")[0] and shown_ids(page) == []
    page.click("#name")
    page.wait("document.querySelectorAll('#items li').length == 60")
    assert page.evaluate("document.querySelector('#error').hidden")


def test_a_late_answer_does_not_replace_a_newer_one(page, index, url):
    page.open(url)
    page.evaluate(
        "window.answered = 0; const ask = window.fetch;"
        "const late = new Promise(done => { window.release = done; });"
        "window.fetch = async (path, options) => {"
        " if (path.includes('/search?id=3')) await late;"
        " const answer = await ask(path, options); window.answered += 1; return answer; };"
        "location.hash = '#id=3'; 0"
    )
    page.wait("window.answered == 1")  # the item, while its ranking is late
    page.evaluate("location.hash = '#id=7'")
    page.wait("document.querySelector('#query-label').textContent.startsWith('id 7')")
    page.evaluate("window.release()")
    page.wait("window.answered == 4")
    page.evaluate("new Promise(done => setTimeout(done, 100))")
    page.rest()
    assert page.texts("#query-label")[0].startswith("id 7")
    assert shown_ids(page) == ranking(index, code_of(index, 7))[0][:PAGE]


def test_keyboard_reaches_everything(page, url):
    page.open(url)
    reached = []
    for _ in range(8):
        page.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.hash"))
    assert [each for each in reached if each][:5] == ["name", "choose", "random", "label", "#id=0"]
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    with page.navigation():
        page.press("Enter")
    assert page.evaluate("document.activeElement.id") == "heading"
    page.press("Tab")
    assert page.evaluate("document.activeElement.closest('#items') != null")


def test_a_screen_reader_finds_names_for_all_that_is_used(page, url):
    for address in ("", "#id=0"):
        page.open(f"{url}{address}")
        nodes = page.call("Accessibility.getFullAXTree")["nodes"]
        used = {"link", "button", "combobox", "spinbutton", "searchbox", "image"}
        found = [each for each in nodes if not each["ignored"] and each["role"]["value"] in used]
        assert len(found) > PAGE
        for each in found:
            if each["role"]["value"] != "link" or each["properties"]:
                assert each["name"]["value"].strip(), each
        roles = {each["role"]["value"] for each in nodes}
        assert {"status", "main", "banner", "list", "heading"} <= roles


def test_colors_can_be_read(page, url):
    page.open(f"{url}#id=0&label=plain")
    script = "getComputedStyle(document.querySelector('{}')).{}"
    for scheme in ("light", "dark"):
        page.prefer(scheme)
        back = _luminance(page.evaluate(script.format("body", "backgroundColor")))
        assert (back < 0.1) == (scheme == "dark")
        for selector in ("body", "#facts", "#items .path", "#status", "#choose", "#name"):
            ink = _luminance(page.evaluate(script.format(selector, "color")))
            assert (max(ink, back) + 0.05) / (min(ink, back) + 0.05) > 4.5, (scheme, selector)


def _luminance(color):
    """Returns the relative luminance of a color, as WCAG defines it."""
    red, green, blue = (int(each) / 255 for each in re.findall(r"\d+", color)[:3])
    parts = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)
    ]
    return parts[0] * 0.2126 + parts[1] * 0.7152 + parts[2] * 0.0722


def test_nothing_is_wider_than_the_window(page, url):
    for address in ("", "#id=6", "#code=zz"):
        page.open(f"{url}{address}")
        for width in (320, 400, 800, 1600):
            page.resize(width)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, address


def test_files_that_have_gone_and_an_index_that_is_emptied(page, tmp_path):
    make_images(tmp_path / "images")
    index = make_served(tmp_path / "index", tmp_path / "images", "images")
    gone = [tmp_path / "images" / index.items([id])[0].path for id in (0, 2)]
    for path in gone:
        path.unlink()
    with serving(index.folder) as address:
        page.open(address)
        page.wait("document.querySelectorAll('#items .missing').length == 2")
        assert shown_ids(page) == list(range(PAGE))
        page.open(f"{address}#id=2")
        assert page.evaluate("document.querySelectorAll('#picture img').length") == 0
        index.remove(range(75))
        page.open(address)
        assert shown_ids(page) == [] and page.texts("#note")[0]
        assert page.texts("#tools button:not([hidden])") == []


def test_vectors_are_names_and_a_pasted_vector_is_searched(page, tmp_path):
    vectors = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    np.save(tmp_path / "vectors.npy", vectors)
    index = make_served(tmp_path / "index", tmp_path / "vectors.npy", "vectors")
    with serving(index.folder) as address:
        page.open(address)
        assert page.texts("#items .path")[3] == "vectors.npy#3"
        assert page.evaluate("document.querySelectorAll('#items img').length") == 0
        for text in (json.dumps(vectors[4].tolist()), " ".join(map(str, vectors[4].tolist()))):
            paste_text(page, text)
            page.wait("location.hash.includes('code')")
            page.rest()
            assert address_of(page) == {"code": code_of(index, 4).hex()}
            page.click("#name")
            page.wait("!location.hash && document.querySelector('#query').hidden")
        paste_text(page, "one, two")
        page.wait("!document.querySelector('#error').hidden")


def test_the_files_of_the_page_hold_no_inline_code_and_load_nothing_from_outside():
    files = importlib.resources.files("jaxhash.serve")
    names = ("page.html", "page.js", "page.css")
    markup, script, style = (files.joinpath(name).read_text("utf-8") for name in names)
    for text in (markup.replace("xmlns='http://www.w3.org/2000/svg'", ""), script, style):
        assert not re.search(r"https?:|@import|url\(", text)
    assert not re.search(
        r"(inner|outer)HTML|insertAdjacent|document\.write|\beval\b|\bcssText", script
    )
    found = []

    class Parser(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            found.append((tag, dict(attributes)))

    Parser().feed(markup)
    for tag, attributes in found:
        assert "style" not in attributes and not any(name.startswith("on") for name in attributes)
        assert tag != "style" and (tag != "script" or "src" in attributes)
    ids = [attributes["id"] for _, attributes in found if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert set(re.findall(r'find\("([^"]+)"\)', script)) <= set(ids)
