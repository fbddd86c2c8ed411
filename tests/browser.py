"""A headless Chromium, driven by the DevTools protocol over two pipes, which needs no WebSocket."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import time
from pathlib import Path

#: What browsers are called, where there is one.
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
KEYS = {"Tab": (9, ""), "Enter": (13, "\r"), "End": (35, "")}


def find_browser():
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def open_browser(folder):
    """Starts a browser whose profile lies in a folder, and yields its one page."""
    ends = [*os.pipe(), *os.pipe()]
    theirs_in, ours_out, ours_in, theirs_out = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in ends)
    for end in ends:
        os.close(end)
    for end in (ours_in, ours_out):
        os.set_inheritable(end, False)
    arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    arguments += ["--no-first-run", "--disable-background-networking", "--remote-debugging-pipe"]
    actions = [
        (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, theirs_in, 3),
        (os.POSIX_SPAWN_DUP2, theirs_out, 4),
        (os.POSIX_SPAWN_CLOSE, theirs_in),
        (os.POSIX_SPAWN_CLOSE, theirs_out),
    ]
    program = find_browser()
    command = [program, *arguments, f"--user-data-dir={folder}", "about:blank"]
    process = os.posix_spawn(program, command, os.environ, file_actions=actions, setpgroup=0)
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Page(ours_in, ours_out)
    finally:
        os.killpg(process, signal.SIGKILL)
        os.waitpid(process, 0)
        os.close(ours_in)
        os.close(ours_out)


class Page:
    """A page, what it logged, and the requests that it made."""

    def __init__(self, receive, send):
        self._receive, self._send = receive, send
        self._rest, self._session, self._number = b"", None, 0
        self.log, self.requests = [], []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        answer = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = answer["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, /, **params):
        """Sends a command, and returns its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 60
        while True:
            answer = self._next(deadline)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def _next(self, deadline):
        while b"\0" not in self._rest:
            if not select.select([self._receive], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            part = os.read(self._receive, 1 << 20)
            assert part, "the browser ended"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, event):
        params = event.get("params", {})
        match event.get("method"):
            case "Runtime.exceptionThrown":
                self.log.append(str(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled" | "Log.entryAdded":
                self.log.append(str(params.get("entry", params)))
            case "Page.javascriptDialogOpening":
                self.log.append(f"dialog: {params['message']}")
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])

    def evaluate(self, script):
        """Returns the value of an expression, as JSON; a promise is awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def open(self, url):
        """Opens an address, and waits until the page has come to rest."""
        self.call("Page.navigate", url="about:blank")  # an address that differs by its fragment
        self.call("Page.navigate", url=url)
        self.wait("document.readyState == 'complete' && location.href != 'about:blank'")
        self.rest()

    def rest(self):
        """Waits until the page is not busy, and said how it stands."""
        self.wait(
            "!document.querySelector('main').ariaBusy && (document.querySelector('#status').textContent"
            " || !document.querySelector('#error').hidden)"
        )

    @contextlib.contextmanager
    def navigation(self):
        """Waits, after what is done within, until the page heard of its new address and came to rest.

        The address changes before the page hears of it: one that is asked in between still shows the old items.
        """
        self.evaluate(
            "window.heard = new Promise(done => addEventListener('hashchange', done, {once: true})); 0"
        )
        yield
        self.evaluate("window.heard.then(() => true)")
        self.rest()

    def wait(self, script):
        """Waits until an expression is true."""
        deadline = time.monotonic() + 30
        while not self.evaluate(f"Boolean({script})"):
            assert time.monotonic() < deadline, f"never true: {script}"
            time.sleep(0.02)

    def texts(self, selector):
        """Returns the texts of the elements that a selector finds, as shown."""
        return self.evaluate(
            f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.innerText.trim())"
        )

    def click(self, selector):
        """Clicks on the middle of an element."""
        box = self.evaluate(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2]; })"
            f"(document.querySelector({json.dumps(selector)}))"
        )
        for kind in ("mousePressed", "mouseReleased"):
            place = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, **place)

    def press(self, key):
        """Presses a key, as from the keyboard."""
        code, text = KEYS[key]
        given = {"key": key, "code": key, "windowsVirtualKeyCode": code, "text": text}
        self.call("Input.dispatchKeyEvent", type="keyDown", **given)
        self.call("Input.dispatchKeyEvent", type="keyUp", **given)

    def choose_file(self, selector, path):
        """Gives a file to an input of the page, as its dialog does."""
        found = self.call(
            "Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})"
        )
        files = {"files": [str(path)], "objectId": found["result"]["objectId"]}
        self.call("DOM.setFileInputFiles", **files)

    def resize(self, width, height=900):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def prefer(self, scheme):
        """Emulates a preference for ``light`` or ``dark``."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def screenshot(self, path):
        picture = self.call("Page.captureScreenshot", format="png")["data"]
        Path(path).write_bytes(base64.b64decode(picture))
