"""The page as its users meet it: asked by click, file, drop and key; what it shows, and what it never does."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, FilePayload, Locator, Page, Request, Route, expect

from tests.browser.conftest import HOSTILE, watched

pytestmark = pytest.mark.browser

DROP = """(box, [name, data]) => {
    const transfer = new DataTransfer();
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], name));
    const event = (kind) => new DragEvent(kind, { dataTransfer: transfer, bubbles: true, cancelable: true });
    return [box.dispatchEvent(event("dragover")), box.dispatchEvent(event("drop"))];
}"""


def click_example(page: Page, number: int = 0) -> None:
    page.locator("#examples button").nth(number).click()


def payload(name: str, data: bytes) -> FilePayload:
    return {"name": name, "mimeType": "image/jpeg", "buffer": data}


def drop(page: Page, selector: str, name: str, data: bytes) -> Any:
    return page.locator(selector).evaluate(DROP, [name, base64.b64encode(data).decode()])


def expect_matches(page: Page, number: int) -> Locator:
    """So many, ranked, each with a loaded picture, a person, a camera and a score, the best score first."""
    matches = page.locator("#matches li")
    expect(matches).to_have_count(number)
    expect(page.locator("#matches .rank")).to_have_text([str(rank) for rank in range(1, number + 1)])
    for match in matches.all():
        expect(match).to_have_text(re.compile(r"score-?[01]\.\d{3}person\d{4}camera[123]$"))
        expect_picture(match.locator("img"), 128)
    scores = [float(score) for score in page.locator("#matches dd:nth-of-type(1)").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    return matches


def expect_picture(picture: Locator, width: int) -> None:
    expect(picture).to_have_js_property("complete", True)
    expect(picture).to_have_js_property("naturalWidth", width)


def expect_refusal(page: Page, sentence: str | re.Pattern[str]) -> None:
    expect(page.get_by_role("status")).to_have_text(sentence)
    expect(page.get_by_role("status")).to_have_class("wrong")
    expect(page.locator("#matches li")).to_have_count(0)


def test_the_models_label_is_on_the_page(page: Page, site: str) -> None:
    page.goto(site)
    model = page.request.get(f"{site}/v1/model").json()
    expect(page.locator("#model strong")).to_have_text(model["label"])
    expect(page.locator("#model code")).to_have_text(model["fingerprint"])
    expect(page.locator("#model strong")).to_be_visible()


def test_clicking_an_example_shows_ranked_matches(page: Page, site: str, examples: list[Path]) -> None:
    page.goto(site)
    expect(page.locator("#examples img")).to_have_count(len(examples))
    click_example(page, 1)
    expect_matches(page, 10)
    expect(page.locator("#name")).to_have_text(examples[1].name)
    with Image.open(examples[1]) as picture:
        expect_picture(page.locator("#query"), picture.width)
    expect(page.locator("#time")).to_have_text(re.compile(r"infer \d+\.\d ms"))


def test_the_matches_are_those_of_the_api(page: Page, site: str, examples: list[Path]) -> None:
    page.goto(site)
    click_example(page)
    expect_matches(page, 10)
    answer = page.request.post(f"{site}/v1/collections/demo/search", data=examples[0].read_bytes()).json()
    shown = page.locator("#matches dl").all_inner_texts()
    expected = [[f"{m['score']:.3f}", m["person_id"], m["camera_id"]] for m in answer["matches"]]
    assert [re.findall(r"-?\d\S*", text) for text in shown] == expected


def test_choosing_a_file_shows_ranked_matches(page: Page, site: str, examples: list[Path]) -> None:
    page.goto(site)
    page.get_by_label("choose a file").set_input_files(examples[0])
    expect_matches(page, 10)
    expect(page.locator("#name")).to_have_text(examples[0].name)


def test_a_click_on_the_box_opens_the_file_chooser(page: Page, site: str, examples: list[Path]) -> None:
    page.goto(site)
    for _ in range(2):  # the same file twice is asked twice
        with page.expect_response("**/search?*"), page.expect_file_chooser() as chooser:
            page.locator("#drop").click(position={"x": 12, "y": 12})
            chooser.value.set_files(examples[0])
    expect_matches(page, 10)


def test_dropping_a_file_shows_ranked_matches(page: Page, site: str, examples: list[Path]) -> None:
    page.goto(site)
    untouched = drop(page, "#drop", "own.jpg", examples[0].read_bytes())
    assert untouched == [False, False], "the browser would open the file in place of the page"
    expect_matches(page, 10)
    expect(page.locator("#name")).to_have_text("own.jpg")


def test_a_file_dropped_beside_the_box_does_not_replace_the_page(page: Page, site: str, examples: list[Path]) -> None:
    page.goto(site)
    assert drop(page, "h1", "own.jpg", examples[0].read_bytes()) == [False, False]
    expect(page.locator("#name")).to_be_hidden()


def test_a_bad_file_shows_the_servers_sentence_and_no_matches(page: Page, site: str) -> None:
    page.goto(site)
    click_example(page)
    expect_matches(page, 10)
    page.get_by_label("choose a file").set_input_files(payload("broken.jpg", b"broken"))
    expect_refusal(page, "broken.jpg: not a whole JPEG, PNG, WEBP or BMP image")
    expect(page.locator("#query")).to_be_hidden()  # no broken picture
    expect(page.locator("#time")).to_be_empty()
    click_example(page)
    expect_matches(page, 10)
    expect(page.locator("#query")).to_be_visible()
    expect(page.get_by_role("status")).not_to_have_class("wrong")


def test_options_apply_to_the_question_on_show(page: Page, site: str) -> None:
    page.goto(site)
    click_example(page)
    expect_matches(page, 10)
    page.get_by_label("How many").fill("3")
    page.get_by_label("How many").press("Enter")
    expect_matches(page, 3)
    page.get_by_label("Leave out camera").fill("1")
    with page.expect_response("**/search?*camera_id=1"):
        page.get_by_label("Leave out camera").press("Tab")
    expect(page.locator("#matches")).not_to_have_class("old")
    cameras = expect_matches(page, 3).locator("dd:nth-of-type(3)").all_inner_texts()
    assert set(cameras) <= {"2", "3"}
    page.get_by_label("How many").fill("0")
    page.get_by_label("How many").press("Enter")
    expect_refusal(page, re.compile("^k: .*greater than or equal to 1"))


def test_a_collection_without_crops_is_shown_without_asking_for_them(page: Page, site: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(site)
    page.get_by_label("Collection").select_option("lean")
    click_example(page)
    expect(page.locator("#matches li")).to_have_text([re.compile("no picture kept.*personunknowncameraunknown$")])
    assert not [url for url in asked if url.endswith("/crop")]


def test_a_calibrated_collection_answers_with_a_decision_and_probabilities(
    page: Page, site: str, examples: list[Path]
) -> None:
    page.goto(site)
    page.get_by_label("Collection").select_option("known")
    click_example(page)
    expect(page.locator("#message strong")).to_have_text(re.compile("^Match: "))
    query = examples[0].read_bytes()
    answer = page.request.post(f"{site}/v1/collections/known/search?k=10", data=query).json()
    shown = [f"{match['score']:.3f}likely{100 * match['probability']:.1f}%" for match in answer["matches"]]
    expect(page.locator("#matches dl")).to_have_text([re.compile(f"^score{re.escape(text)}person") for text in shown])
    assert answer["matches"][0]["probability"] > 0.9
    assert answer["matches"][1]["probability"] < 0.1
    page.get_by_label("Leave out camera").fill("9")
    page.get_by_label("Leave out camera").press("Enter")
    expect(page.locator("#message strong")).to_have_text(re.compile("^Unknown: "))


def test_a_stale_calibration_is_said_beside_the_decision(page: Page, site: str) -> None:
    def age(route: Route) -> None:
        answer = route.fetch().json()
        route.fulfill(json={**answer, "decision": "unsure", "decision_reason": "stale: <b>calibrated</b> long ago"})

    page.route("**/search?*", age)
    page.goto(site)
    page.get_by_label("Collection").select_option("known")
    click_example(page)
    expect(page.locator("#message strong")).to_have_text(
        re.compile(r"^Unsure: .* \(stale: <b>calibrated</b> long ago\)$")
    )


def test_names_with_markup_are_shown_as_text(page: Page, site: str, examples: list[Path]) -> None:
    page.goto(site)
    page.get_by_label("Collection").select_option("hostile")
    page.get_by_label("choose a file").set_input_files(payload(HOSTILE, examples[0].read_bytes()))
    expect(page.locator("#matches dd").nth(1)).to_have_text(HOSTILE)
    expect(page.locator("#matches dd").nth(2)).to_have_text(HOSTILE)
    expect(page.locator("#name")).to_have_text(HOSTILE)
    expect_picture(page.locator("#matches img"), 128)  # though its id needs quoting in a URL
    page.get_by_label("choose a file").set_input_files(payload(HOSTILE, b"broken"))
    expect_refusal(page, re.compile(re.escape(HOSTILE.replace('"', "%22")) + "|" + re.escape(HOSTILE)))
    expect(page.locator("img[src=x]")).to_have_count(0)
    expect(page).to_have_title("Person re-identification")


def test_the_policy_of_the_page_lets_no_other_script_run(browser: Browser, site: str) -> None:
    """Were a name ever set as markup, its handler would still not run."""
    page = browser.new_page()  # not watched: the refusal is an error in its console
    page.goto(site)
    with page.expect_console_message(lambda said: "Content Security Policy" in said.text) as refused:
        page.locator("h1").evaluate("(node, markup) => node.innerHTML = markup", HOSTILE)
    assert "inline" in refused.value.text
    expect(page).to_have_title("Person re-identification")
    page.close()


def test_the_answer_to_an_older_question_never_covers_a_newer_one(page: Page, site: str, examples: list[Path]) -> None:
    held: list[Route] = []

    def hold_the_first(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    page.route("**/search?*", hold_the_first)
    page.goto(site)
    with page.expect_request("**/search?*") as first:
        click_example(page, 0)
    with page.expect_event("requestfailed") as ended:
        click_example(page, 1)
    assert ended.value == first.value
    expect_matches(page, 10)
    expect(page.locator("#name")).to_have_text(examples[1].name)
    expect(page.locator('#examples [aria-current="true"]')).to_have_attribute("title", examples[1].name)


def test_a_server_that_is_gone_is_told_as_a_sentence(browser: Browser, site: str) -> None:
    page = browser.new_page()
    page.goto(site)
    expect(page.locator("#collection option")).to_have_count(4)
    page.route("**/search?*", lambda route: route.abort())
    click_example(page)
    expect_refusal(page, "The server does not answer.")
    page.close()


def test_without_a_collection_the_page_says_what_to_do(page: Page, empty_site: str) -> None:
    page.goto(empty_site)
    todo = re.compile(f"There is no collection.* reid index FOLDER --collection NAME --keep-crops --url {empty_site}$")
    expect(page.get_by_role("status")).to_have_text(todo)
    searches: list[Request] = []
    page.on("request", lambda request: searches.append(request) if request.method == "POST" else None)
    click_example(page)
    expect_refusal(page, todo)
    assert not searches


def test_an_older_question_that_finds_no_collection_does_not_cover_a_newer_ones_refusal(
    page: Page, empty_site: str
) -> None:
    page.goto(empty_site)
    expect(page.get_by_role("status")).to_have_text(re.compile("There is no collection"))
    held: list[Route] = []
    page.route("**/v1/collections", lambda route: route.continue_() if held else held.append(route))
    with page.expect_request("**/v1/collections"):
        click_example(page)
    page.get_by_label("choose a file").set_input_files(payload("x.jpg", b"x"))
    expect(page.get_by_role("status")).to_have_class("wrong")
    with page.expect_response("**/v1/collections") as late:
        held[0].continue_()
    late.value.finished()
    page.evaluate("fetch('/v1/model').then((response) => response.json())")  # by then the page has read the late answer
    expect(page.get_by_role("status")).to_have_class("wrong")


def test_a_collection_made_meanwhile_is_found_without_loading_again(
    page: Page, empty_site: str, examples: list[Path]
) -> None:
    page.goto(empty_site)
    expect(page.get_by_role("status")).to_have_text(re.compile("There is no collection"))
    page.request.put(f"{empty_site}/v1/collections/new")
    click_example(page)
    expect(page.get_by_role("status")).to_have_text("Nothing in new is left to match.")
    page.request.delete(f"{empty_site}/v1/collections/new")


def test_docs_are_shown_without_asking_elsewhere(page: Page, site: str) -> None:
    page.goto(f"{site}/docs")
    expect(page.locator(".swagger-ui .info .title")).to_contain_text("Person re-identification")
    expect(page.locator(".opblock-summary-path", has_text=re.compile("/search$"))).to_be_visible()


def test_the_watch_over_requests_sees_what_a_page_asks(browser: Browser, site: str) -> None:
    """What every test here asserts, tried: a page that asks somebody else is caught."""

    def ask_elsewhere() -> None:
        with watched(browser.new_page()) as page:
            page.route("https://elsewhere.invalid/**", lambda route: route.abort())
            page.goto(f"{site}/docs")  # the page at / forbids it to itself
            page.evaluate("fetch('https://elsewhere.invalid/').catch(() => {})")

    with pytest.raises(AssertionError, match=r"elsewhere\.invalid"):
        ask_elsewhere()


def test_a_photo_is_shown_as_the_server_reads_it(page: Page, site: str) -> None:
    """The server ignores the orientation mark of a photo; a query shown upright would hide why its matches are poor."""
    turned = Image.Exif()
    turned[0x0112] = 6  # orientation: turn by 90 degrees
    buffer = io.BytesIO()
    Image.new("RGB", (64, 128), "teal").save(buffer, "JPEG", exif=turned)
    page.goto(site)
    page.get_by_label("choose a file").set_input_files(payload("photo.jpg", buffer.getvalue()))
    expect_matches(page, 10)
    expect(page.locator("#query")).to_have_css("image-orientation", "none")
