"""Chromium by the WebDriver protocol (https://www.w3.org/TR/webdriver2): the few verbs that a voter needs."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

from tests.waiting import LONG, wait_until

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
DRIVER = shutil.which("chromedriver")
MISSING = "needs Chromium and chromedriver" if CHROMIUM is None or DRIVER is None else ""

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class DriverError(Exception):
    """What chromedriver says went wrong."""


class Browser:
    """A headless Chromium with a profile of its own. Use it as a context manager."""

    def __init__(self, profile: Path, width: int = 1280, height: int = 800, dark: bool = False, phone: bool = False):
        self._profile, self._size, self._dark, self._phone = profile, (width, height), dark, phone

    def __enter__(self) -> Browser:
        self._process = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, text=True)
        for line in self._process.stdout:
            if found := re.search(r"started successfully on port (\d+)", line):
                self._base = f"http://127.0.0.1:{found[1]}"
                break
        arguments = [
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
            f"--user-data-dir={self._profile}",
        ]  # fmt: skip
        options = {"binary": CHROMIUM, "args": arguments}
        capabilities = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        try:
            answer = self._send("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})
        except BaseException:
            self._process.kill()
            raise
        self._base += f"/session/{answer['sessionId']}"
        self.show_as(*self._size, self._dark, self._phone)
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._send("DELETE", "")
        finally:
            self._process.terminate()
            self._process.wait(LONG)
            self._process.stdout.close()

    def _send(self, method: str, path: str, body: dict | None = None):
        data = None if method != "POST" else json.dumps(body or {}).encode()
        request = urllib.request.Request(self._base + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=LONG) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as e:
            raise DriverError(json.load(e)["value"]["message"].splitlines()[0]) from None

    def devtools(self, command: str, parameters: dict):
        return self._send("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def show_as(self, width: int, height: int, dark: bool, phone: bool) -> None:
        """The page's size in px; whether the system is dark; a phone has a finger and twice the pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1 + phone, "mobile": phone}
        self.devtools("Emulation.setDeviceMetricsOverride", size)
        self.devtools("Emulation.setTouchEmulationEnabled", {"enabled": phone})
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.devtools("Emulation.setEmulatedMedia", {"features": scheme})

    def open(self, url: str) -> None:
        self._send("POST", "/url", {"url": url})

    def run(self, script: str, *arguments: object):
        """The value that the body of a JavaScript function returns."""
        return self._send("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def press(self, *keys: str) -> None:
        """Real key presses, one after the other."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._send("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def click(self, selector: str) -> None:
        """A real click; fails where something covers the element."""
        element = self._send("POST", "/element", {"using": "css selector", "value": selector})[_ELEMENT]
        self._send("POST", f"/element/{element}/click")

    def wait(self, condition: str):
        """Waits until a JavaScript expression is true; returns its value. An error may be a page that still loads."""

        def value():
            with suppress(DriverError):
                return self.run(f"return {condition}")

        return wait_until(value, condition)

    def text(self) -> str:
        return self.run("return document.body.innerText")

    def errors(self) -> list[str]:
        """What the page put on the browser's console."""
        return [entry["message"] for entry in self._send("POST", "/se/log", {"type": "browser"})]

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._send("GET", "/screenshot")))
