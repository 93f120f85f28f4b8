"""Every screen of a case file in a headless Chromium: the report from its file, and the page of `casefile review`.

A console error, an exception, or a request to anything but the page's own origin fails it. Pictures go to the directory given.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

OUT, CASE = Path(sys.argv[1]), sys.argv[2]
SIZES = {"desk": (1440, 900), "phone": (360, 740)}
SCREENS = ["verdict", "timeline", "node", "compare", "evidence", "logs", "logs&view=lines", "heat", "postmortem"]
FIRST_PAINT_MS = 1000
MAX_REPORT = 5 * 1024 * 1024

problems = []


def watch(page, origin, name):
    """Whatever goes wrong on a page, and whatever it asks of others."""
    page.on("console", lambda m: m.type in ("error", "warning") and problems.append(f"{name}: console: {m.text}"))
    page.on("pageerror", lambda e: problems.append(f"{name}: {e}"))
    page.on("requestfailed", lambda r: r.failure != "net::ERR_ABORTED" and problems.append(f"{name}: {r.url} failed: {r.failure}"))
    page.on("request", lambda r: r.url.startswith((origin, "data:", "blob:")) or problems.append(f"{name}: asks {r.url}"))
    page.on("response", lambda r: r.status >= 400 and problems.append(f"{name}: {r.status} of {r.url}"))


def until(page, what, seconds=60):
    """Waits for an expression to hold. Playwright's own waiting needs `eval`, which the page's policy refuses."""
    end = time.monotonic() + seconds
    while not page.evaluate(what):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {seconds} s: {what}")
        page.wait_for_timeout(50)


def shown(page, name):
    """The screen stands there: its content is made, nothing is being read any more, nothing is wider than the window."""
    until(page, "document.documentElement.dataset.ready === '1'", 30)
    until(page, "!document.querySelector('#screen[aria-busy]')", 30)
    until(page, "!/^(reading|comparing|connecting) …/m.test(document.querySelector('#screen').innerText)", 60)
    page.wait_for_timeout(500)
    wide = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    if wide > 1:
        problems.append(f"{name}: {wide} px wider than the window")
    text = page.inner_text("#screen")
    if len(text) < 40:
        problems.append(f"{name}: the screen is empty: {text!r}")
    for word in ("undefined", "NaN", "[object", "This cannot be shown"):
        if word in text:
            problems.append(f"{name}: it says {word}: …{text[max(0, text.find(word) - 80):text.find(word) + 80]}")
    return text


def take(page, name, whole=False):
    page.screenshot(path=OUT / f"{name}.png", full_page=whole)


def report(browser):
    path = OUT / "report.html"
    address = path.as_uri()
    if path.stat().st_size > MAX_REPORT:
        problems.append(f"the report has {path.stat().st_size} bytes")
    data = json.loads(re.search(r'<script id="casefile-data" type="application/json">(.*?)</script>', path.read_text(), re.S)[1])
    synthetic = data["review"]["synthetic"]
    sentence = data["review"]["review"]["verdict"]["sentence"]
    paints = []
    for size, (width, height) in SIZES.items():
        for scheme in ("light", "dark"):
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme, timezone_id="Asia/Tokyo")
            for screen in SCREENS:
                name = f"report-{size}-{scheme}-{re.sub('[^a-z]+', '-', screen)}"
                page = context.new_page()
                watch(page, address, name)
                page.goto(f"{address}#screen={screen}")
                text = shown(page, name)
                if synthetic and "SYNTHETIC" not in page.inner_text("#head"):
                    problems.append(f"{name}: does not say SYNTHETIC")
                if "UTC" not in page.inner_text("#head"):
                    problems.append(f"{name}: does not say UTC")
                if screen == "verdict":
                    paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
                    for part in re.split(": | at ", sentence.split("[")[0])[:2]:
                        if part not in text:
                            problems.append(f"{name}: the sentence is not there: {part}")
                take(page, name, whole=screen == "verdict")
                page.close()
            context.close()
    print(f"report: {path.stat().st_size / 1024:.0f} KiB, first paint {min(paints):.0f} ms at best, {max(paints):.0f} ms at worst of {len(paints)}")
    if min(paints) > FIRST_PAINT_MS:
        problems.append(f"first paint of the report takes {min(paints):.0f} ms")
    keys(browser, address, data)
    still(browser, address, data, sentence)


def keys(browser, address, data):
    """Each key does what the help says, without an error."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    watch(page, address, "keys")
    page.goto(address)
    shown(page, "keys")
    fragment = lambda: page.evaluate("location.hash")
    press = lambda key: (page.keyboard.press(key), page.wait_for_timeout(150))
    for number, screen in enumerate(["verdict", "timeline", "node", "compare", "evidence", "logs", "heat", "postmortem"], 1):
        press(str(number))
        if f"screen={screen}" not in fragment():
            problems.append(f"keys: {number} leads to {fragment()}")
    press("1")
    if data["review"]["findings"]:
        press("j")
        if "f=F1" not in fragment():
            problems.append(f"keys: j leads to {fragment()}")
    press("2")
    before = page.evaluate("location.hash")
    for key in ("w", "w", "d", "a", "e", "E", "j", "k", "x", "x", "0", "s"):
        press(key)
    page.wait_for_timeout(500)
    press("w")
    page.wait_for_timeout(600)
    if "t=" not in fragment():
        problems.append(f"keys: a zoom is not in the address: {before} {fragment()}")
    for key, where in (("]", "node="), ("l", "screen=logs"), ("c", "screen=compare")):
        press(key)
        if where not in fragment():
            problems.append(f"keys: {key} leads to {fragment()}")
    for key in ("?", "y", "t", ":", "b"):
        press(key)
        if page.locator("dialog[open]").count() != 1:
            problems.append(f"keys: {key} opens nothing")
        if key in "?y":
            take(page, f"dialog-{'help' if key == '?' else 'raw'}")
        page.keyboard.press("Escape")
        page.wait_for_timeout(100)
    press("6")
    press("/")
    if page.evaluate("document.activeElement.id") != "filter":
        problems.append("keys: / does not lead to the filter")
    page.keyboard.type("oom|nvme")
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    if "q=oom" not in fragment():
        problems.append(f"keys: a filter is not in the address: {fragment()}")
    page.locator("button.zone").click()
    page.wait_for_timeout(300)
    if "tz=local" not in fragment():
        problems.append("keys: the switch of the zone is not in the address")
    context.close()


def still(browser, address, data, sentence):
    """Without scripts, and on paper."""
    for size, (width, height) in SIZES.items():
        context = browser.new_context(viewport={"width": width, "height": height}, java_script_enabled=False)
        page = context.new_page()
        watch(page, address, f"still-{size}")
        page.goto(address)
        text = page.locator("#static").inner_text()
        for finding in data["review"]["findings"][:20]:
            if finding["summary"] not in text:
                problems.append(f"still-{size}: {finding['id']} is not told")
        if sentence.split("[")[0].strip() not in text:
            problems.append(f"still-{size}: the sentence is not there")
        take(page, f"still-{size}", whole=False)
        if size == "desk":
            page.pdf(path=OUT / "report.pdf", format="A4")
        context.close()


def review(browser):
    command = ["target/debug/casefile", "review", CASE, "--no-open"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"})
    try:
        address = next((line.strip() for line in server.stdout if line.startswith("http://")), None)
        if address is None:
            problems.append("review: it prints no address")
            return
        origin = address.split("#")[0]
        for size, (width, height) in SIZES.items():
            scheme = "light" if size == "desk" else "dark"
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            page = context.new_page()
            watch(page, origin, f"review-{size}")
            page.goto(address)
            shown(page, f"review-{size}")
            if "token" in page.evaluate("location.href"):
                problems.append("review: the token stays in the address")
            for screen in SCREENS:
                name = f"review-{size}-{re.sub('[^a-z]+', '-', screen)}"
                page.evaluate(f"location.hash = '#screen={screen}'")
                page.wait_for_timeout(200)
                shown(page, name)
                take(page, name)
            context.close()
        # Without the token nothing is told, and the page asks for it.
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        page = context.new_page()
        page.goto(origin)
        page.wait_for_selector("input[type=password]", timeout=10000)
        if "A token" not in page.inner_text("#screen"):
            problems.append("review: no token is asked for")
        context.close()
    finally:
        server.terminate()
        server.wait(10)


def main():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox", "--disable-gpu"])
        report(browser)
        review(browser)
        browser.close()
    print(f"pictures: {OUT}")
    for problem in sorted(set(problems)):
        print("PROBLEM", problem)
    sys.exit(1 if problems else 0)


main()
