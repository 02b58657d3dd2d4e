"""A real Chromium without a screen, driven over its own pipe."""

import base64
import json
import os
import select
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trtserve.clock import NS_PER_S, now_ns

PATIENCE_S = 60

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")


def program() -> str | None:
    """Where a Chromium is; None where there is none."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class Browser:
    """One page. `requests` has the addresses that it asked for, `complaints` what went wrong on
    it: errors of scripts, what the console was told, what its security policy refused."""

    def __init__(self, process: subprocess.Popen[bytes], write: int, read: int) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._process = process
        self._write = write
        self._read = read
        self._rest = b""
        self._last = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._session = ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the DevTools protocol. Raises AssertionError where it fails."""
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        end = now_ns() + PATIENCE_S * NS_PER_S
        while self._last not in self._answers:
            assert now_ns() < end, f"no answer to {method}"
            self._hear(end)
        answer = self._answers.pop(self._last)
        assert "error" not in answer, answer
        return dict(answer["result"])

    def show(self, url: str, *, width: int = 1280, height: int = 1000, dark: bool = False,
             scripts: bool = True) -> None:
        """Load a page in a window of that size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
        ])
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.call("Page.navigate", url=url)

    def value(self, expression: str) -> Any:
        """What an expression is on the page; promises are waited for."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, expression: str) -> Any:
        """Wait until an expression is true on the page, and return it."""
        end = now_ns() + PATIENCE_S * NS_PER_S
        while not (found := self.value(expression)):
            assert now_ns() < end, f"never true: {expression}"
            self._hear(now_ns() + NS_PER_S // 20)
        return found

    def screenshot(self, file: Path) -> None:
        """The whole page as a PNG."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        file.write_bytes(base64.b64decode(data))

    def _hear(self, end_ns: int) -> None:
        """Read what comes until that time, at most one chunk."""
        patience = max(0, end_ns - now_ns()) / NS_PER_S
        if not select.select([self._read], [], [], patience)[0]:
            return
        chunk = os.read(self._read, 1 << 20)
        assert chunk, "the browser has ended"
        *whole, self._rest = (self._rest + chunk).split(b"\0")
        for data in whole:
            self._take(json.loads(data))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers[message["id"]] = message
            return
        parameters = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled" | "Log.entryAdded":
                self.complaints.append(str(parameters))


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start one with its files in a folder. There must be one installed."""
    path = program()
    assert path is not None, "look at program() before"
    to_browser, write = os.pipe()
    read, from_browser = os.pipe()
    # It reads commands from descriptor 3 and answers on 4.
    command = f"exec 3<&{to_browser} 4>&{from_browser}; exec \"$@\""
    flags = (
        "--headless=new", "--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}",
        "--no-sandbox", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage",
        "--disable-background-networking", "--disable-component-update", "--disable-extensions",
        "--disable-sync", "--hide-scrollbars",
    )
    with (folder / "browser.log").open("wb") as log:
        process = subprocess.Popen(
            ["/bin/bash", "-c", command, "bash", path, *flags], pass_fds=(to_browser, from_browser),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )
    os.close(to_browser)
    os.close(from_browser)
    try:
        yield Browser(process, write, read)
    finally:
        process.terminate()
        process.wait()
        os.close(write)
        os.close(read)
