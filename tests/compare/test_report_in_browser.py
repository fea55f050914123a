"""The page of `rirn compare` in headless Chromium: what a person does with it."""

import io
import time

import pytest
from PIL import Image

from rirn.compare.maps import GateMaps, palette
from rirn.compare.report import write_report
from tests.compare.browser import Browser, missing
from tests.compare.test_maps import stepped
from tests.compare.test_report import flat, folder

pytestmark = pytest.mark.slow
WIDTH, HEIGHT, COUNT = 64, 48, 6
SHOWN = "document.body.dataset.shown"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Truth, and two versions of it: the left all red at first and bluer by the frame, the right all green."""
    place = tmp_path_factory.mktemp("folders")
    left = [flat(200, 0, 40 * i) for i in range(COUNT)]
    right = [flat(0, 160, 40 * i) for i in range(COUNT)]
    truth = [flat(10, 150, 40 * i) for i in range(COUNT)]
    truth[2] = right[2]
    return folder(place / "left", left), folder(place / "right", right), folder(place / "truth", truth)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    reason = missing()
    if reason:
        pytest.skip(reason)
    window = Browser(tmp_path_factory.mktemp("profile"))
    yield window
    window.close()


def until(browser, script, value, seconds=60):
    """Wait for a JavaScript expression to take a value."""
    end = time.monotonic() + seconds
    while (found := browser.run(script)) != value:
        assert time.monotonic() < end, f"{script} is {found}, not {value}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def page(tmp_path_factory, folders):
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_report(folders[0], folders[1], path, folders[2])
    return path


@pytest.fixture
def window(browser, page):
    browser.requests()
    browser.open(page)
    until(browser, SHOWN, "0")
    yield browser
    assert browser.console() == []


def box(window, selector):
    rectangle = f"document.querySelector({selector!r}).getBoundingClientRect()"
    return window.run(f"(r => [r.x, r.y, r.width, r.height])({rectangle})")


def colour(window, across):
    """RGB on the screen at a fraction of the width of the picture, a third down."""
    window.run("scrollTo(0, 0)")
    x, y, width, height = box(window, "#stage")
    screen = Image.open(io.BytesIO(window.screenshot())).convert("RGB")
    return screen.getpixel((round(x + across * width), round(y + height / 3)))


def is_red(window, across):
    red, green, _ = colour(window, across)
    assert abs(red - green) > 100
    return red > green


def test_loads_alone(window, page):
    asked = [url for url in window.requests() if not url.startswith(("data:", "chrome"))]
    assert asked == [page.as_uri()]


def test_divider(window):
    x, y, width, height = box(window, "#stage")
    assert [is_red(window, f) for f in (0.1, 0.45, 0.55, 0.9)] == [True, True, False, False]
    middle = y + height / 2
    window.drag((x + width / 2, middle), (x + width * 0.6, middle), (x + width * 0.8, middle))
    assert [is_red(window, f) for f in (0.1, 0.55, 0.75, 0.9)] == [True, True, True, False]
    assert window.run("document.getElementById('divider').getAttribute('aria-valuenow')") == "80"
    window.press("1")
    assert is_red(window, 0.99)
    window.press("3")
    assert not is_red(window, 0.01)
    window.press("2", *["Shift+Left"] * 5)
    assert window.run("document.getElementById('divider').getAttribute('aria-valuenow')") == "40"


def test_clicking_a_curve_goes_to_the_frame(window):
    window.run("document.querySelector('svg').scrollIntoView()")
    x, y, width, height = box(window, "svg")
    window.drag((x + width * 0.61, y + height / 2))
    until(window, SHOWN, "3")
    assert "frame 3 of 0–5, 0.120 s" in window.run("document.getElementById('where').textContent")
    window.drag((x + width * 0.61, y + height / 2), (x + width - 1, y + height / 2))
    until(window, SHOWN, "5")
    assert colour(window, 0.1) == pytest.approx([200, 0, 200], abs=4)


def test_figures(window):
    window.press("Right", "Right")
    until(window, SHOWN, "2")
    assert "right ∞" in window.run("document.querySelector('#curves .card').textContent")


def test_keys_step_and_reach_everything(window):
    window.press("Right", "Right")
    until(window, SHOWN, "2")
    window.press("Left")
    until(window, SHOWN, "1")
    window.press("End")
    until(window, SHOWN, "5")
    window.press("Right")
    window.press("Home")
    until(window, SHOWN, "0")
    reached = []
    for _ in range(14):
        window.press("Tab")
        reached.append(window.run("document.activeElement.id || document.activeElement.tagName"))
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert window.run(outline) != "none", reached[-1]
    controls = ["divider", "play", "back", "next", "speed", "frame", "only-a", "split", "only-b"]
    assert reached == [*controls, "out", "in", "fit", "native", "SUMMARY"]
    unnamed = "[...document.querySelectorAll('button,input,select')].filter(e => !(e.ariaLabel || e.innerText)).length"
    assert window.run(unnamed) == 0


def test_playing_shows_every_frame_and_stops_at_the_end(window):
    window.run(
        "(window.seen = [], new MutationObserver(() => seen.push(document.body.dataset.shown))"
        ".observe(document.body, {attributes: true}))"
    )
    window.press(" ")
    until(window, SHOWN, "5")
    until(window, "document.getElementById('play').textContent", "Play")
    assert list(dict.fromkeys(window.run("seen"))) == ["1", "2", "3", "4", "5"]


def test_zoom(window):
    x, y, width, height = box(window, "#stage")
    assert window.run("zoom") == 1
    corner = (x + width - 2, y + height - 2)
    window.wheel(corner, -400)
    until(window, "Math.round(10 * zoom)", 27)
    right, bottom = window.run("[centre[0] + width / zoom / 2, centre[1] + height / zoom / 2]")
    assert (right, bottom) == pytest.approx((WIDTH, HEIGHT), abs=0.5)
    window.drag((x + width * 0.2, y + height * 0.2), (x + width * 0.4, y + height * 0.3))
    moved = WIDTH * 0.2 / window.run("zoom")
    assert window.run("centre[0] + width / zoom / 2") == pytest.approx(WIDTH - moved, abs=0.5)
    assert window.run("split") == 0.5
    window.press("0")
    assert window.run("zoom") == 1
    window.press("+", "+")
    assert window.run("zoom") == pytest.approx(2.25)


def test_both_schemes_are_legible(window):
    luminance = {}
    for scheme in ("light", "dark"):
        window.scheme(scheme)
        ratios = window.run(
            """(() => {
            const channel = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
            const light = (text) => { const [r, g, b] = text.match(/[\\d.]+/g).map((v) => channel(v / 255));
              return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
            const page = light(getComputedStyle(document.body).backgroundColor);
            const card = light(getComputedStyle(document.querySelector('.card')).backgroundColor);
            const ratio = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            return [page, ...['body', 'h1 .a', 'h1 .b', '.quiet', 'h2', '.head .a', '.head .b', 'button'].map((s) => {
              const text = light(getComputedStyle(document.querySelector(s)).color);
              return Math.min(ratio(text, page), ratio(text, card)); })];
            })()"""
        )
        luminance[scheme] = ratios[0]
        assert min(ratios[1:]) >= 4.5, (scheme, ratios)  # WCAG 2.2, level AA
    assert luminance["light"] > 0.8 and luminance["dark"] < 0.05


@pytest.fixture
def gates(browser, folders, tmp_path):
    """A page with maps whose w~ is at the low end of the scale and whose w is at the high one."""
    path = tmp_path / "gates.html"
    write_report(folders[0], folders[1], path, maps=GateMaps(stepped()))
    browser.open(path)
    until(browser, SHOWN, "0")
    yield browser
    assert browser.console() == []


def test_gates_beside_and_over_the_video(gates):
    assert [gates.run(f"document.getElementById('{i}').hidden") for i in ("gates", "over")] == [False, False]
    assert gates.run("document.querySelector('.of-maps').checkVisibility()") is False  # the keys are folded
    pixel = "[...document.querySelectorAll('#gates canvas')].map(c => [...c.getContext('2d').getImageData(30, 20, 1, 1).data])"
    low, high = ([*colour, 255] for colour in palette()[[0, 255]].tolist())
    assert gates.run(pixel) == [low, high]
    before = colour(gates, 0.1)
    gates.press("m")
    assert gates.run("document.getElementById('over-0').ariaPressed") == "true"
    expected = [0.35 * b + 0.65 * c for b, c in zip(before, low, strict=False)]
    assert colour(gates, 0.1) == pytest.approx(expected, abs=3)
    gates.press("m")
    expected = [0.35 * b + 0.65 * c for b, c in zip(before, high, strict=False)]
    assert colour(gates, 0.1) == pytest.approx(expected, abs=3)
    gates.press("m")
    assert colour(gates, 0.1) == before
    assert gates.run("document.querySelectorAll('svg').length") == 2
    assert "w~ 0.500w 0.750" in gates.run(
        "[...document.querySelectorAll('#curves .card')].at(-1).textContent"
    )
    gates.run("document.getElementById('over-1').click()")
    gates.press("Right")
    until(gates, SHOWN, "1")


def test_a_page_without_gates_does_not_speak_of_them(window):
    hidden = "[...document.querySelectorAll('#gates, #over, .of-maps')].map(e => e.checkVisibility())"
    assert not any(window.run(hidden))
    window.press("m")
    assert window.run("over") == -1
