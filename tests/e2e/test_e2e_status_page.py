"""The status page in a real Chromium, while requests come and go."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tests.e2e.browser import Browser, browser, program
from tests.e2e.daemon_process import Daemon
from trtserve.client import Client, InferenceError

BARS = "document.querySelectorAll('#chart g rect').length"
WIDTHS = "[document.documentElement.scrollWidth, document.documentElement.clientWidth].join()"


@pytest.fixture(scope="module")
def traffic(house: Daemon) -> Iterator[None]:
    """Requests as long as the tests here run: long ones, short ones and ones that fail."""
    over = threading.Event()

    def ask(call: Callable[[Client], object]) -> None:
        with Client(house.grpc, retry=False) as client:
            while not over.wait(0.02):
                with suppress(InferenceError):
                    call(client)

    calls: tuple[Callable[[Client], object], ...] = (
        lambda client: client.infer("plus", {"x": np.zeros((2, 4), np.float32)}),
        lambda client: client.infer(
            "work", {"x": np.zeros(16, np.float32), "steps": np.array([100])}
        ),
        lambda client: client.infer("look_up", {"x": np.array([[99]])}),
    )
    threads = [threading.Thread(target=ask, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    yield
    over.set()
    for thread in threads:
        thread.join()


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests here."""
    if program() is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    with browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def show(house: Daemon, traffic: None, window: Browser) -> Iterator[Callable[..., Browser]]:
    """Load the page; afterwards nothing may have gone wrong on it."""
    window.requests.clear()
    window.complaints.clear()
    base = f"http://{house.ready['http']}/"

    def load(**options: object) -> Browser:
        window.show(base, **options)  # type: ignore[arg-type]
        return window

    yield load
    assert window.complaints == []
    asked = [url for url in window.requests if not url.startswith("data:,")]
    assert asked
    assert [url for url in asked if not url.startswith(base)] == []


def text_of(page: Browser, part: str) -> str:
    return str(page.value(f"document.querySelector('[data-part={part}]').innerText"))


@pytest.mark.parametrize("options", [
    {}, {"dark": True}, {"width": 390, "height": 844},
], ids=["light", "dark", "phone"])
def test_the_lanes_move_and_the_tables_are_filled(show, tmp_path, options):
    page = show(**options)
    page.until(f"{BARS} > 3")
    for part, word in (
        ("models", "plus"), ("variants", "model.onnx"), ("devices", "cpu"),
        ("processes", "worker cpu"), ("errors", "execution"),
    ):
        assert word in text_of(page, part)
    legend = page.value("document.getElementById('legend').innerText")
    for model in ("plus", "work", "look_up"):
        assert model in legend
    # The bars stand for the newest batches: others are drawn a moment later.
    newest = page.value("Math.max(...batches.map(b => b.ended))")
    page.until(f"Math.max(...batches.map(b => b.ended)) > {newest}")
    wide, fits = str(page.value(WIDTHS)).split(",")
    assert wide == fits  # nothing sticks out
    picture = tmp_path / "status.png"
    page.screenshot(picture)
    assert picture.stat().st_size > 20_000


def test_a_batch_tells_its_rows_and_stages(show):
    page = show()
    page.until(f"{BARS} > 3")
    page.value("document.getElementById('chart').focus()")
    told = page.until("document.getElementById('detail').textContent.includes('row') && "
                      "document.getElementById('detail').textContent")
    assert "version 1" in told
    stages = "bars.find(bar => bar.list.length === 1 && bar.list[0].model === 'work')"
    page.until(f"(paused = false, draw(), {stages}) ? (choose({stages}), paused = true) : false")
    told = page.value("document.getElementById('detail').textContent")
    for word in ("work version 1", "1 row of 1 request", "compute", "stage"):
        assert word in told
    page.value("choose(seen().at(-1))")
    page.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowLeft")
    page.until("seen().indexOf(chosen) === seen().length - 2")
    page.value("document.getElementById('chart').blur()")
    x, y = page.value("(r => [r.x + r.width / 2, r.y + r.height / 2])"
                      "(seen()[0].rect.getBoundingClientRect())")
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    page.until("paused")
    page.call("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
    page.until("!paused")
    assert "Point at a batch" in page.value("document.getElementById('detail').textContent")


def test_without_scripts_the_tables_are_there(show):
    page = show(scripts=False)
    page.until("document.querySelectorAll('table').length === 5")
    for part, word in (("models", "READY"), ("errors", "execution"), ("devices", "cpu")):
        assert word in text_of(page, part)
    assert page.value("document.getElementById('timeline').hidden") is True
    count = len(page.requests)
    page.until("document.readyState === 'complete'")
    while len(page.requests) == count:  # it loads itself anew
        page.until("true")


def test_the_docs_are_a_page_too(show, house):
    page = show()
    page.until("document.readyState === 'complete'")
    page.call("Page.navigate", url=f"http://{house.ready['http']}/docs")
    page.until("document.body && document.body.innerText.includes('trtserve_requests_total')")


def test_scripts_get_the_same(house, traffic):
    house.until(
        lambda: json.loads(house.get("/status.json")[1])["batches"], "batches on the status page"
    )
    status = json.loads(house.get("/status.json")[1])
    assert status["ready"]
    assert {batch["model"] for batch in status["batches"]} <= {
        model["model"] for model in status["models"]
    }
    (error,) = (error for error in status["errors"] if error["model"] == "look_up")
    assert error["count"] > 0
    assert "99" in error["message"]
    for secret in ("/tmp", str(Path.home())):
        assert secret not in json.dumps(status["errors"])
