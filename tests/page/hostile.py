"""Case files of payloads in a headless Chromium, on every screen: nothing runs, asks, navigates, or is markup.

What a page makes of payloads must have no element and no attribute that the same page does not make of ordinary words; that holds
without a content security policy, which is only the second wall.
"""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import cmarkgfm
from cmarkgfm.cmark import Options
from markdown_it import MarkdownIt
from playwright.sync_api import sync_playwright

OUT = Path(sys.argv[1]).resolve()
CASEFILE = "target/debug/casefile"
SCREENS = ["verdict", "verdict&f=F40", "timeline", "node", "node&node=n__2__", "compare&a=n__1__-javascript&b=n__2__", "evidence",
           "evidence&e=E40", "evidence&e=E121", "logs", "logs&view=lines", "logs&view=lines&node=n__2__", "heat", "postmortem"]
# Of a server: each kind of answer once; a build without optimisation takes its time for some.
LIVE = ["verdict", "timeline", "node&node=n__2__", "compare&a=n__1__-javascript&b=n__2__", "evidence&e=E40", "logs", "logs&view=lines",
        "heat", "postmortem"]
# What Markdown may become of a draft or a citation of ours.
MARKDOWN = {"blockquote", "h1", "h2", "h3", "p", "strong", "em", "ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td", "code", "hr", "br"}

problems = []
started = time.monotonic()

# Before anything of the page runs: who calls the payloads' function is caught, and so is what hides or reorders text on a canvas and
# in the clipboard, where no element shows it.
WATCH = r"""
(() => {
  const hidden = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb]|[\udb40-\udb43][\udc00-\udfff]/;
  const seen = { pwned: [], drawn: [], copied: [] };
  Object.defineProperty(window, "__casefile_seen", { value: seen });
  Object.defineProperty(window, "__casefile_pwned", { value: (n) => { seen.pwned.push(n); }, writable: false });
  for (const name of ["fillText", "strokeText"]) {
    const draw = CanvasRenderingContext2D.prototype[name];
    CanvasRenderingContext2D.prototype[name] = function (text, ...rest) {
      if (hidden.test(text)) seen.drawn.push(String(text).slice(0, 100));
      return draw.call(this, text, ...rest);
    };
  }
  if (navigator.clipboard) navigator.clipboard.writeText = async (text) => { seen.copied.push(text); };
  window.__casefile_hidden = () => {
    const bad = [];
    const look = (text, where) => { if (text && hidden.test(text)) bad.push(where + ": " + text.slice(0, 100)); };
    look(document.title, "title");
    for (const element of document.querySelectorAll("body, body *")) {
      if (element.tagName === "SCRIPT") continue;
      for (const node of element.childNodes) if (node.nodeType === Node.TEXT_NODE) look(node.data, element.tagName);
      for (const attribute of element.attributes) look(attribute.value, element.tagName + " " + attribute.name);
    }
    return bad.slice(0, 5);
  };
})();
"""

# Every element with the names of its attributes, and what must not be whatever anybody else has.
SHAPES = r"""
(root) => {
  const all = {}, bad = [];
  for (const element of root.querySelectorAll("*")) {
    const names = element.getAttributeNames().sort();
    const shape = element.tagName.toLowerCase() + " " + names.join(" ");
    all[shape] = (all[shape] || 0) + 1;
    for (const name of names) {
      const value = element.getAttribute(name);
      if (/^on/i.test(name)) bad.push(shape);
      if (/^(href|src|action|formaction|data|poster|srcset|xlink:href|ping|srcdoc)$/i.test(name) && !/^(#|data:,|\/ui\/)/.test(value)) bad.push(shape + " = " + value.slice(0, 80));
    }
  }
  return { all, bad };
}
"""


def shapes_of(page, html):
    """What a browser's parser makes of a file, without running it."""
    return page.evaluate("(html) => (" + SHAPES + ")(new DOMParser().parseFromString(html, 'text/html'))", html)


def watch(context, allowed, name):
    context.add_init_script(WATCH)
    context.on("request", lambda r: r.url.startswith(allowed) or problems.append(f"{name}: asks {r.url[:200]}"))
    context.on("page", lambda page: page.on("dialog", lambda d: (problems.append(f"{name}: dialog {d.message[:100]}"), d.dismiss())))


def listen(page, allowed, name):
    page.on("console", lambda m: m.type == "error" and problems.append(f"{name}: console: {m.text[:300]}"))
    page.on("pageerror", lambda e: problems.append(f"{name}: {str(e)[:300]}"))
    page.on("popup", lambda p: problems.append(f"{name}: opens {p.url[:200]}"))
    page.on("download", lambda d: problems.append(f"{name}: downloads {d.url[:200]}"))
    page.on("framenavigated", lambda f: f.url.startswith(allowed + ("about:blank",)) or problems.append(f"{name}: goes to {f.url[:200]}"))


def until(page, what, name, seconds=20):
    """Waits for an expression. Playwright's own waiting needs `eval`, which a policy refuses."""
    end = time.monotonic() + seconds
    while not page.evaluate(what):
        if time.monotonic() > end:
            problems.append(f"{name}: not within {seconds} s: {what}")
            return
        page.wait_for_timeout(30)


def settled(page, name):
    until(page, "document.documentElement.dataset.ready === '1' && !document.querySelector('#screen[aria-busy]')", name)
    until(page, "!/^(reading|comparing|connecting) …/m.test(document.querySelector('#screen').innerText)", name)
    page.wait_for_timeout(30)


def touched(page):
    """What somebody does who reads: opens things, moves over them, focuses them."""
    page.evaluate("""() => {
        for (const one of [...document.querySelectorAll("#screen details")].slice(0, 40)) one.open = true;
        for (const one of [...document.querySelectorAll("#screen *")].slice(0, 1500)) {
            one.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
            one.dispatchEvent(new MouseEvent("mouseover", { bubbles: true }));
            one.dispatchEvent(new Event("animationstart", { bubbles: true }));
        }
        for (const one of [...document.querySelectorAll("#screen button, #screen input, #screen [tabindex]")].slice(0, 200)) one.focus({ preventScroll: true });
    }""")
    for x, y in ((300, 300), (700, 450), (200, 700)):
        page.mouse.move(x, y)


def walked(page, screens, name, shapes):
    """All screens; what their elements are goes into `shapes`."""
    for screen in screens:
        where = f"{name}, {screen}"
        page.evaluate("(hash) => { location.hash = hash; }", "#screen=" + screen)
        page.wait_for_timeout(30)
        settled(page, where)
        touched(page)
        page.wait_for_timeout(20)
        found = page.evaluate("() => (" + SHAPES + ")(document)")
        problems.extend(f"{where}: {bad}" for bad in found["bad"][:3])
        for shape in found["all"]:
            shapes.setdefault(shape, where)
        problems.extend(f"{where}: hidden text in {bad!r}" for bad in page.evaluate("window.__casefile_hidden()"))
        text = page.inner_text("#screen")
        if len(text) < 40 or "This cannot be shown" in text:
            problems.append(f"{where}: the screen is empty: {text[:200]!r}")
    # What is copied: the draft, a citation, a finding; and what the keys show.
    page.evaluate("() => { for (const one of document.querySelectorAll('#screen button.link')) if (/copy/.test(one.textContent)) one.click(); }")
    for screen in ("evidence&e=E43", "verdict&f=F2"):
        page.evaluate("(hash) => { location.hash = hash; }", "#screen=" + screen)
        page.wait_for_timeout(100)
        settled(page, name)
        page.keyboard.press("p")
        page.wait_for_timeout(80)
    for key in ("y", "?", ":"):
        page.keyboard.press(key)
        page.wait_for_timeout(120)
        problems.extend(f"{name}, key {key}: hidden text in {bad!r}" for bad in page.evaluate("window.__casefile_hidden()"))
        for shape in page.evaluate("() => (" + SHAPES + ")(document)")["all"]:
            shapes.setdefault(shape, f"{name}, key {key}")
        page.keyboard.press("Escape")
    for key in "jjkeE]wsadlxx":
        page.keyboard.press(key)
        page.wait_for_timeout(40)
    settled(page, name)
    return seen(page, name)


def seen(page, name):
    seen = page.evaluate("window.__casefile_seen")
    if seen["pwned"]:
        problems.append(f"{name}: payloads ran: {sorted(set(seen['pwned']))[:20]}")
    problems.extend(f"{name}: drawn: {text!r}" for text in seen["drawn"][:3])
    # In Markdown a space of no width keeps an address a text: ours, and no other.
    broken = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e0fff]")
    for text in seen["copied"]:
        hidden = broken.search(re.sub("(?<=/)\u200b|(?<=@)\u200b|\u200b(?=\\.)", "", text))
        if hidden:
            problems.append(f"{name}: copied: {text[max(0, hidden.start() - 60):hidden.end() + 20]!r}")
    return seen["copied"]


def reports(browser):
    """The reports: as a parser sees them, then alive, without their policy."""
    context = browser.new_context()
    page = context.new_page()
    found = {}
    for name in ("hostile", "harmless", "hostile-forged", "harmless-forged"):
        html = (OUT / f"{name}.html").read_text()
        found[name] = shapes_of(page, html)
        problems.extend(f"{name}: {bad}" for bad in found[name]["bad"][:3])
        policy = re.search(r'<meta http-equiv="Content-Security-Policy"[^>]*>', html)
        if not policy:
            problems.append(f"{name}: the report has no policy")
            continue
        (OUT / f"{name}-open.html").write_text(html.replace(policy[0], "", 1))
    context.close()
    if found["hostile-forged"]["all"] != found["harmless-forged"]["all"]:
        ours, theirs = found["harmless-forged"]["all"], found["hostile-forged"]["all"]
        differ = {shape: (ours.get(shape), theirs.get(shape)) for shape in ours | theirs if ours.get(shape) != theirs.get(shape)}
        problems.append(f"of payloads the report is another page than of words: {differ}")
    more = set(found["hostile"]["all"]) - set(found["harmless"]["all"])
    if more:
        problems.append(f"of payloads the report has {sorted(more)[:5]}")

    shapes, copied = {}, []
    for name in ("harmless-open", "harmless-forged-open", "hostile-open", "hostile-forged-open", "hostile", "hostile-forged"):
        own = shapes.setdefault(name.split("-")[0], {})
        address = (OUT / f"{name}.html").as_uri()
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        watch(context, (address, "data:,"), name)
        page = context.new_page()
        listen(page, (address,), name)
        page.goto(address)
        settled(page, name)
        if name.endswith("-open"):
            copied += [(name, text) for text in walked(page, SCREENS, name, own)]
        else:
            touched(page)
            seen(page, name)
        context.close()
    compared(shapes["harmless"], shapes["hostile"], "report")
    for name in ("hostile-open", "hostile-forged-open"):
        address = (OUT / f"{name}.html").as_uri()
        context = browser.new_context(java_script_enabled=False)
        watch(context, (address, "data:,"), f"{name}, still")
        page = context.new_page()
        listen(page, (address,), f"{name}, still")
        page.goto(address)
        page.wait_for_timeout(300)
        if not page.locator("#static").is_visible():
            problems.append(f"{name}: without scripts nothing is shown")
        context.close()
    return shapes["harmless"], copied


def compared(ours, theirs, name):
    for shape in sorted(set(theirs) - set(ours)):
        problems.append(f"{name}: of payloads alone there is <{shape}> ({theirs[shape]})")


def review(browser, name, ours, theirs):
    """The page of `casefile review`, with its policy and with that taken out of every answer."""
    command = [CASEFILE, "review", str(OUT / f"{name}.tar.gz"), "--no-open"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "NO_COLOR": "1"})
    copied = []
    try:
        address = next((line.strip() for line in server.stdout if line.startswith("http://127.0.0.1:")), None)
        if address is None:
            problems.append(f"review {name}: it prints no address")
            return copied
        origin = address.split("#")[0]
        for open_ in (True, False) if ours else (True,):
            context = browser.new_context(viewport={"width": 1440, "height": 900})
            who = f"review {name}{'' if open_ else ', with its policy'}"
            watch(context, (origin, "data:,", "blob:" + origin), who)
            page = context.new_page()
            listen(page, (origin,), who)
            answers = []
            page.on("response", lambda r: answers.append((r.url, r.headers.get("content-type", ""), r.headers.get("x-content-type-options", ""))))
            if open_:
                def without(route):
                    got = route.fetch()
                    headers = {k: v for k, v in got.headers.items() if k.lower() != "content-security-policy"}
                    route.fulfill(response=got, headers=headers)
                page.route(lambda url: url.startswith(origin), without)
            page.goto(address)
            settled(page, who)
            if open_:
                copied = [(who, text) for text in walked(page, LIVE, who, theirs)]
            else:
                touched(page)
                seen(page, who)
            for url, kind, sniff in answers:
                if "/api/" in url and (not kind.startswith(("application/json", "application/problem+json")) or sniff != "nosniff"):
                    problems.append(f"{who}: {url[:120]} is {kind}, {sniff}")
            context.close()
        if ours:
            compared(ours, theirs, f"review {name}")
    finally:
        server.terminate()
        server.wait(10)
    return copied


def markdown(browser, texts):
    """Two readers of Markdown, both of which take HTML and make links of bare addresses, make neither of what is ours."""
    # A reader that takes any `a.com` for an address leads where the text says, and would make links of file names too.
    guesses = lambda reader: (reader.linkify.set({"fuzzy_link": False}), reader.render)[1]
    readers = {
        "markdown-it": guesses(MarkdownIt("commonmark", {"html": True, "linkify": True}).enable(["linkify", "table", "strikethrough"])),
        "cmark-gfm": lambda text: cmarkgfm.github_flavored_markdown_to_html(text, options=Options.CMARK_OPT_UNSAFE),
    }
    context = browser.new_context()
    page = context.new_page()
    for name, text in texts:
        for reader, render in readers.items():
            found = shapes_of(page, render(text))
            wrong = [shape for shape in found["all"] if shape.split()[0] not in MARKDOWN | {"html", "head", "body"}]
            if wrong:
                where = next((line for line in text.splitlines() if any(s.split()[0] not in MARKDOWN | {"html", "head", "body"} for s in shapes_of(page, render(line))["all"])), "")
                problems.append(f"{name}: {reader} makes {wrong[:3]} of {where[:300]!r}")
    context.close()


def cited(name):
    """`casefile cite` of some findings and of what they rest on."""
    rows = [json.loads(line) for line in subprocess.run([CASEFILE, "findings", OUT / f"{name}.tar.gz", "-o", "jsonl"], capture_output=True, text=True, check=True).stdout.splitlines()]
    wanted = [row["id"] for row in rows[:: max(1, len(rows) // 40)]] + [e["ref"] for row in rows for e in row["evidence"]][:: max(1, len(rows) // 20)]
    for ref in wanted:
        if "\0" not in ref:
            done = subprocess.run([CASEFILE, "cite", OUT / f"{name}.tar.gz", "--", ref], capture_output=True, text=True)
            if done.returncode == 0:
                yield f"cite {name} {ref}", done.stdout


def main():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox", "--disable-gpu"])
        ours, texts = reports(browser)
        # The page of a server has elements that a report has not.
        live = {}
        review(browser, "harmless", None, live)
        for name in ("hostile", "hostile-forged"):
            texts += review(browser, name, ours | live, {})
            texts.append((f"{name}.md", (OUT / f"{name}.md").read_text()))
        took = time.monotonic() - started
        for name in ("hostile", "hostile-forged"):
            texts += cited(name)
        if sum("copy" not in name and not name.endswith(".md") for name, _ in texts) < 8:
            problems.append("nothing was copied")
        markdown(browser, texts)
        browser.close()
    print(f"hostile: every screen of nine pages in {took:.0f} s; {len(texts)} texts in two readers of Markdown")
    for problem in sorted(set(problems))[:80]:
        print("PROBLEM", problem)
    sys.exit(1 if problems else 0)


main()
