"""The page by keyboard, on a phone, in both colour schemes: names, contrast, order, focus."""

from collections.abc import Iterator
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import watched

pytestmark = pytest.mark.browser

Scheme = Literal["light", "dark"]

# WCAG 2.2's contrast ratio of each element that has text of its own, against the nearest background that is painted.
CONTRASTS = """() => {
    const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const linear = (value) => value / 255 <= 0.04045 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4;
    const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const painted = (node) => {
        for (let at = node; at; at = at.parentElement) {
            const colour = channels(getComputedStyle(at).backgroundColor);
            if (colour.length === 3) return colour;
        }
    };
    const own = (node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    const seen = [...document.body.querySelectorAll("*")].filter((node) => own(node) && node.checkVisibility());
    return seen.map((node) => {
        const pair = [luminance(channels(getComputedStyle(node).color)), luminance(painted(node))].sort((a, b) => b - a);
        return [node.outerHTML.slice(0, 80), (pair[0] + 0.05) / (pair[1] + 0.05)];
    });
}"""
# What a screen reader could not name, or would name twice.
UNNAMED = """() => [
    ...[...document.querySelectorAll("input, select")].filter((node) => !node.labels[0]?.innerText.trim()),
    ...[...document.querySelectorAll("img")].filter((node) => !node.alt),
    ...[...document.querySelectorAll("button, a")].filter((node) => !node.innerText.trim() && !node.querySelector("img")?.alt),
    ...[...document.querySelectorAll("[id]")].filter((node) => document.querySelectorAll(`#${node.id}`).length > 1),
].map((node) => node.outerHTML)"""


@pytest.fixture
def phone(browser: Browser) -> Iterator[Page]:
    with watched(browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True)) as opened:
        yield opened


def ask_by_example(page: Page, url: str) -> None:
    page.goto(url)
    page.locator("#examples button").first.click()
    expect(page.locator("#matches img")).to_have_count(10)


def tab_to(page: Page, selector: str) -> None:
    for _ in range(40):
        if page.locator(selector).evaluate("(node) => node === document.activeElement"):
            return
        page.keyboard.press("Tab")
    pytest.fail(f"Tab never reached {selector}")


def ring(page: Page, selector: str) -> str:
    return str(page.locator(selector).evaluate("(node) => getComputedStyle(node).outline"))


@pytest.mark.parametrize("key", ["Enter", "Space"])
def test_an_example_is_asked_by_key(page: Page, site: str, key: str) -> None:
    page.goto(site)
    expect(page.locator("#examples button").first).to_be_visible()
    tab_to(page, "#examples button:first-child")
    assert "solid 3px" in ring(page, "#examples button:first-child")
    page.keyboard.press(key)
    expect(page.locator("#matches li")).to_have_count(10)


def test_the_file_input_is_reached_by_tab_with_a_visible_ring(page: Page, site: str) -> None:
    page.goto(site)
    assert "solid 3px" not in ring(page, "#drop")
    tab_to(page, "#file")
    assert "solid 3px" in ring(page, "#drop")
    with page.expect_file_chooser():
        page.keyboard.press("Space")


def test_tab_follows_the_order_on_the_page(page: Page, site: str) -> None:
    page.goto(site)
    examples = page.locator("#examples img")
    expect(examples.first).to_be_visible()
    expected = ["file", *["example"] * examples.count(), "collection", "k", "camera", "API", "Model", "Statistics"]
    order = []
    for _ in expected:
        page.keyboard.press("Tab")
        order.append(
            page.evaluate("(({ id, title, text }) => id || (title ? 'example' : text))(document.activeElement)")
        )
    assert order == expected


def test_the_answer_is_announced(page: Page, site: str) -> None:
    ask_by_example(page, site)
    expect(page.get_by_role("status")).to_have_text("No decision: this collection is not calibrated: "
        "POST /v1/collections/demo/calibration, or reid calibrate --collection demo. "
        "Best first. The score is the cosine of the two vectors: 1 for the same picture.")  # fmt: skip


@pytest.mark.parametrize("url", ["site", "empty_site"])
def test_on_a_phone_nothing_sticks_out(phone: Page, url: str, request: pytest.FixtureRequest) -> None:
    phone.goto(request.getfixturevalue(url))
    phone.locator("#examples button").first.tap()
    expect(phone.get_by_role("status")).not_to_have_text("Searching…")
    long_name = "a" * 200 + ".jpg"
    phone.get_by_label("choose a file").set_input_files({"name": long_name, "mimeType": "image/jpeg", "buffer": b"x"})
    expect(phone.locator("#name")).to_have_text(long_name)
    expect(phone.get_by_role("status")).to_have_class("wrong")
    assert phone.evaluate("document.documentElement.scrollWidth") == 390


def test_on_a_phone_the_best_match_comes_into_view(phone: Page, site: str) -> None:
    ask_by_example(phone, site)
    expect(phone.locator("#matches li").first).to_be_in_viewport(ratio=0.9)
    assert phone.evaluate("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(page: Page, site: str, scheme: Scheme) -> None:
    page.emulate_media(color_scheme=scheme)
    ask_by_example(page, site)
    expect(page.locator("#matches")).not_to_have_class("old")
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 40
    page.get_by_label("choose a file").set_input_files({"name": "x", "mimeType": "image/jpeg", "buffer": b"x"})
    expect(page.get_by_role("status")).to_have_class("wrong")
    assert [found for found in contrasts + page.evaluate(CONTRASTS) if found[1] < 4.5] == []  # WCAG 2.2, 1.4.3


def test_the_schemes_differ(page: Page, site: str) -> None:
    page.goto(site)
    colours = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        colours.append(page.locator("body").evaluate("(node) => getComputedStyle(node).backgroundColor"))
    assert colours[0] != colours[1]


def test_everything_has_a_name_for_a_screen_reader(page: Page, site: str) -> None:
    ask_by_example(page, site)
    assert page.evaluate(UNNAMED) == []
    expect(page.locator("html")).to_have_attribute("lang", "en")
    expect(page.get_by_role("main")).to_have_count(1)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    for name in ("Query", "Matches"):
        expect(page.get_by_role("region", name=name)).to_be_visible()
