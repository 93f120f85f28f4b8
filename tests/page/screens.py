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


def live(browser):
    """The page of a collector that records this machine: incidents, nodes, a collection from the form to the sealed case file."""
    sys.path.append(str(Path(__file__).resolve().parent.parent / "rest"))
    from local import collector

    with collector() as (at, token, _):
        for size, (width, height) in SIZES.items():
            scheme = "light" if size == "desk" else "dark"
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
            page = context.new_page()
            name = f"live-{size}"
            watch(page, at, name)
            page.goto(f"{at}/#token={token}")
            text = shown(page, name)
            if "INC-000001" not in text:
                problems.append(f"{name}: the first incident is not listed")
            if "token" in page.evaluate("location.href"):
                problems.append(f"{name}: the token stays in the address")
            take(page, f"{name}-incidents")
            page.evaluate("location.hash = '#screen=nodes'")
            until(page, "document.querySelector('#screen').innerText.includes('connected')")
            shown(page, name)
            take(page, f"{name}-nodes")
            page.evaluate("location.hash = '#screen=collect'")
            until(page, "document.querySelector('form.collect-screen')")
            page.locator("form label.field:has-text('title') input").fill("<b>opened</b> from the page")
            page.locator("form label.field:has-text('reason') input").fill("a test of the form")
            take(page, f"{name}-collect")
            page.locator("form button[type=submit]").click()
            until(page, "document.querySelector('.progress-screen table')")
            take(page, f"{name}-progress")
            until(page, "[...document.querySelectorAll('.progress-screen button')].some((b) => b.innerText === 'open the case file')", 90)
            page.wait_for_timeout(300)
            take(page, f"{name}-sealed")
            if "<b>opened</b> from the page" not in page.inner_text("#screen"):
                problems.append(f"{name}: the title is not told as it was typed")
            with page.expect_download() as download:
                page.locator(".progress-screen button.link", has_text="download").first.click()
            if Path(download.value.path()).stat().st_size < 10000:
                problems.append(f"{name}: the download is not whole")
            page.get_by_text("open the case file").click()
            until(page, "document.querySelector('.verdict-screen')", 90)
            shown(page, name)
            take(page, f"{name}-verdict")
            for screen in SCREENS:
                page.evaluate(f"location.hash = location.hash.replace(/screen=[a-z]+(&view=lines)?/, 'screen={screen}')")
                page.wait_for_timeout(200)
                shown(page, f"{name}-{screen}")
            take(page, f"{name}-case")
            context.close()


# What a careless page would run, follow or fetch.
PAYLOADS = [
    "<script>pwned()</script>", "<img src=x onerror=pwned()>", "<svg onload=pwned()>", "\"><img src=x onerror=pwned()>", "</script><script>pwned()</script>",
    "<iframe srcdoc='<script>parent.pwned()</script>'></iframe>", "<a href=javascript:pwned() autofocus onfocus=pwned()>x</a>", "<details open ontoggle=pwned()>",
    "javascript:pwned()", "{{constructor.constructor('pwned()')()}}", "${pwned()}", "' onmouseover='pwned()", "<style>@import 'https://evil.example/x';</style>",
    "<link rel=stylesheet href=https://evil.example/x>", "<meta http-equiv=refresh content='0;url=https://evil.example'>", "<base href=https://evil.example/>",
    "\u202e<script>pwned()</script>", "<!--<script>pwned()-->", "__proto__", "<form action=https://evil.example><input autofocus onfocus=pwned()>",
]
TEXTS = ["summary", "meaning", "now", "text", "message", "template", "sample", "title", "reason", "detail", "why", "label", "kind", "subject", "what", "sentence", "words", "name", "entry", "id", "check", "requested_by"]


def hostile(browser):
    """The report with hostile texts in every place where text stands, and its policy taken away: nothing runs, nothing is fetched."""
    page_text = (OUT / "report.html").read_text()
    match = re.search(r'<script id="casefile-data" type="application/json">(.*?)</script>', page_text, re.S)
    placed = 0

    def poison(value, name=None):
        nonlocal placed
        if isinstance(value, dict):
            return {key: poison(one, key) for key, one in value.items()}
        if isinstance(value, list):
            return [poison(one, name) for one in value]
        if isinstance(value, str) and name in TEXTS and not re.fullmatch(r"[FE]\d+|INC-\d+", value):
            placed += 1
            return PAYLOADS[placed % len(PAYLOADS)] + value[:20]
        return value

    data = json.dumps(poison(json.loads(match[1]))).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    page_text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page_text[: match.start(1)] + data + page_text[match.end(1) :])
    path = OUT / "hostile.html"
    path.write_text(page_text)
    if placed < 500 or "Content-Security-Policy" in page_text.split("</head>")[0].split("<style>")[0]:
        problems.append(f"hostile: only {placed} texts, or the policy is still there")
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    for screen in SCREENS:
        page = context.new_page()
        name = f"hostile-{re.sub('[^a-z]+', '-', screen)}"
        watch(page, path.as_uri(), name)
        page.on("dialog", lambda d: (problems.append(f"{name}: a dialog"), d.dismiss()))
        page.add_init_script("window.pwned = () => { window.ran = true; }")
        page.goto(f"{path.as_uri()}#screen={screen}")
        page.wait_for_timeout(700)
        if screen == "verdict":
            page.evaluate("for (const row of document.querySelectorAll('details')) row.open = true")
            page.wait_for_timeout(300)
        if page.evaluate("window.ran === true"):
            problems.append(f"{name}: a text ran")
        made = page.evaluate("document.querySelectorAll('#app script, #app img, #app iframe, #app svg, #app style, #app link, #app meta, #app base, #app form, #app object, #app [onerror], #app [onload], #app a[href]').length")
        if made:
            problems.append(f"{name}: {made} elements were made out of text")
        take(page, name)
        page.close()
    context.close()
    print(f"hostile: {placed} texts in the report, no policy, nothing ran")


def main():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox", "--disable-gpu"])
        report(browser)
        hostile(browser)
        review(browser)
        live(browser)
        browser.close()
    print(f"pictures: {OUT}")
    for problem in sorted(set(problems)):
        print("PROBLEM", problem)
    sys.exit(1 if problems else 0)


main()
