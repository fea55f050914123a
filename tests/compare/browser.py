"""Headless Chromium by the plain HTTP protocol of chromedriver (W3C WebDriver)."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import urllib.request

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-device-scale-factor=1",
    "--window-size=1100,1000",
)
KEYS = {
    "Left": "\ue012",
    "Right": "\ue014",
    "Home": "\ue011",
    "End": "\ue010",
    "Tab": "\ue004",
    "Shift": "\ue008",
}


def missing() -> str | None:
    """Why no browser can be driven here; None if one can."""
    if not (shutil.which("chromium") or shutil.which("google-chrome")):
        return "neither chromium nor google-chrome is installed"
    return None if shutil.which("chromedriver") else "chromedriver is not installed"


class Browser:
    """A window of Chromium with a fresh profile in `folder`."""

    def __init__(self, folder):
        self._driver = subprocess.Popen(
            ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        # Not through a proxy that the environment may name.
        self._http = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._url = None
        try:
            line = next((x for x in self._driver.stdout if "started successfully on port" in x), None)
            assert line, "chromedriver did not start"
            self._url = f"http://127.0.0.1:{line.rsplit(' ', 1)[1].strip().rstrip('.')}"
            binary = shutil.which("chromium") or shutil.which("google-chrome")
            options = {"binary": binary, "args": [*FLAGS, f"--user-data-dir={folder}"]}
            wanted = {
                "browserName": "chrome",
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }
            session = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self._url += f"/session/{session['sessionId']}"
        except BaseException:
            self._driver.kill()
            self._driver.wait()
            raise

    def _call(self, method: str, path: str, body: dict | None = None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self._url + path, data, {"Content-Type": "application/json"}, method=method
        )
        with self._http.open(request, timeout=300) as answer:
            return json.load(answer)["value"]

    def open(self, page) -> None:
        self._call("POST", "/url", {"url": page.resolve().as_uri()})

    def run(self, script: str):
        """The value of a JavaScript expression."""
        return self._call("POST", "/execute/sync", {"script": f"return {script}", "args": []})

    def drag(self, start, *others) -> None:
        """Press the button at `start`, CSS pixels in the window, move over `others` and let go."""
        moves = [
            {"type": "pointerMove", "duration": 0, "x": round(x), "y": round(y)} for x, y in (start, *others)
        ]
        moves.insert(1, {"type": "pointerDown", "button": 0})
        moves.append({"type": "pointerUp", "button": 0})
        self._act({"type": "pointer", "id": "mouse", "actions": moves})

    def wheel(self, at, amount: int) -> None:
        x, y = (round(v) for v in at)
        scroll = {"type": "scroll", "x": x, "y": y, "deltaX": 0, "deltaY": amount, "duration": 0}
        self._act({"type": "wheel", "id": "wheel", "actions": [scroll]})

    def press(self, *keys: str) -> None:
        """Type keys one after the other; "Shift+Left" is a chord."""
        actions = []
        for key in keys:
            chord = [KEYS.get(k, k) for k in (key.split("+") if len(key) > 1 else [key])]
            actions += [{"type": "keyDown", "value": k} for k in chord]
            actions += [{"type": "keyUp", "value": k} for k in reversed(chord)]
        self._act({"type": "key", "id": "keys", "actions": actions})

    def _act(self, source: dict) -> None:
        self._call("POST", "/actions", {"actions": [source]})

    def scheme(self, name: str) -> None:
        """Prefer "light" or "dark"."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self._call(
            "POST",
            "/goog/cdp/execute",
            {"cmd": "Emulation.setEmulatedMedia", "params": {"features": features}},
        )

    def screenshot(self) -> bytes:
        """PNG of the window."""
        return base64.b64decode(self._call("GET", "/screenshot"))

    def console(self) -> list[str]:
        """Messages of the console since the last call."""
        return [entry["message"] for entry in self._call("POST", "/se/log", {"type": "browser"})]

    def requests(self) -> list[str]:
        """Addresses asked for since the last call."""
        log = [
            json.loads(e["message"])["message"]
            for e in self._call("POST", "/se/log", {"type": "performance"})
        ]
        return [e["params"]["request"]["url"] for e in log if e["method"] == "Network.requestWillBeSent"]

    def close(self) -> None:
        try:
            self._call("DELETE", "")
        finally:
            self._driver.terminate()
            self._driver.wait()
