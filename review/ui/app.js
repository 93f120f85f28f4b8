// The whole: which screen is shown, the head above it, the keys.

import { ask, copy, h, link, replace, safeJson, toast, visible } from "./dom.js";
import { clock, duration, isoTime, parseTime, setLocal, severityOf, stamp, zoneName } from "./words.js";
import { clearDraw, go, look, lookAround, onState, pan, point, redraw, setWindow, startState, state, takeToken, view, zoom } from "./state.js";
import { Api, Embedded } from "./source.js";
import { citation, verdictScreen } from "./verdict.js";
import { bookmarks, timelineScreen } from "./timeline.js";
import { nodeScreen } from "./node.js";
import { compareScreen } from "./compare.js";
import { evidenceScreen } from "./evidence.js";
import { logsScreen } from "./logs.js";
import { heatScreen } from "./heat.js";
import { postmortemScreen } from "./postmortem.js";
import { collectScreen, fleetScreen, incidentsScreen, progressScreen, tokenScreen } from "./live.js";

const CASE_SCREENS = [
  ["verdict", "Verdict", verdictScreen], ["timeline", "Timeline", timelineScreen], ["node", "Node", nodeScreen], ["compare", "Compare", compareScreen],
  ["evidence", "Evidence", evidenceScreen], ["logs", "Logs", logsScreen], ["heat", "Cluster", heatScreen], ["postmortem", "Post-mortem", postmortemScreen],
];
const LIVE_SCREENS = [["incidents", "Incidents", incidentsScreen], ["nodes", "Nodes", fleetScreen], ["collect", "Collect", collectScreen], ["progress", "Progress", progressScreen]];
const FRESH_EVERY = 5000;

let source = null;
let head = null, main = null;
let leaving = new AbortController();
let turn = 0, loaded = null, freshTimer = 0;

function isLive(screen) {
  return LIVE_SCREENS.some(([name]) => name === screen);
}

function currentScreen() {
  const wanted = state().screen;
  if (source.collector && (isLive(wanted) || !state().inc)) return isLive(wanted) ? wanted : "incidents";
  return CASE_SCREENS.some(([name]) => name === wanted) ? wanted : "verdict";
}

function drawHead(review, screen) {
  const inCase = !isLive(screen);
  const tab = ([name, title]) => h("button", { type: "button", class: "tab", "aria-current": name === screen ? "page" : null, on: { click: () => go({ screen: name }) } }, title);
  const zone = h("button", { type: "button", class: "zone", title: "times in UTC or in this machine's zone", "aria-pressed": String(Boolean(state().tz)), on: { click: () => go({ tz: state().tz ? null : "local" }) } },
    h("span", { class: state().tz ? "" : "on" }, "UTC"), h("span", { class: state().tz ? "on" : "" }, state().tz ? zoneName() : "local"));
  const incident = review && review.incident;
  const window = incident && [parseTime(incident.window.from), parseTime(incident.window.until)];
  replace(head,
    review && review.synthetic && h("div", { class: "synthetic", role: "note" }, "SYNTHETIC", h("span", null, "made by a generator: no machine ever was in this state")),
    h("div", { class: "bar" },
      source.collector ? link("casefile", () => go({ screen: "incidents", inc: null, t: null, node: null, e: null }), { class: "link brand" }) : h("span", { class: "brand" }, "casefile"),
      inCase && incident && h("span", { class: "case" }, incident.id && h("b", null, incident.id), h("span", { class: "sev-case" }, incident.severity), h("span", { class: "title" }, incident.title)),
      inCase && incident && h("span", { class: "window" }, stamp(window[0]), " → ", clock(window[1]).slice(0, 8), " ", h("span", { class: "muted" }, duration(window[1] - window[0]))),
      h("span", { class: "right" }, zone, h("button", { type: "button", class: "help", title: "keys (?)", on: { click: help } }, "?"))),
    h("nav", { "aria-label": "screens" }, (inCase ? CASE_SCREENS : LIVE_SCREENS.filter(([name]) => name !== "progress" || screen === "progress")).map(tab),
      inCase && source.collector && h("button", { type: "button", class: "tab back", on: { click: () => go({ screen: "incidents", inc: null, t: null }) } }, "all incidents")));
  const tabs = head.querySelector("nav"), current = head.querySelector("[aria-current]");
  if (current) tabs.scrollLeft = current.offsetLeft - tabs.clientWidth / 2 + current.clientWidth / 2;
  document.title = (inCase && incident ? visible(incident.id || incident.title) + " · " : "") + "casefile";
}

async function render() {
  const now = turn += 1;
  leaving.abort();
  leaving = new AbortController();
  clearTimeout(freshTimer);
  setLocal(state().tz === "local");
  const screen = currentScreen();
  const [, , make] = [...CASE_SCREENS, ...LIVE_SCREENS].find(([name]) => name === screen);
  main.setAttribute("aria-busy", "true");
  try {
    let review = null;
    if (!isLive(screen)) {
      if (source.live) source.incident = state().inc || source.only;
      review = await source.review();
      const key = source.incident || "report";
      if (loaded !== key) {
        loaded = key;
        setWindow(parseTime(review.incident.window.from), parseTime(review.incident.window.until));
      }
    }
    if (now !== turn) return;
    clearDraw();
    drawHead(review, screen);
    const shown = await make(source, state(), leaving.signal);
    if (now !== turn) return;
    const kept = main.dataset.screen === screen ? scrollY : 0;
    replace(main, shown);
    main.dataset.screen = screen;
    scrollTo(0, kept);
    redraw();
    if (screen === "incidents" || screen === "nodes") freshTimer = setTimeout(() => !document.hidden && !document.querySelector("dialog[open]") ? render() : wakeLater(), FRESH_EVERY);
  } catch (error) {
    if (now !== turn) return;
    drawHead(null, screen);
    if (error.status === 401 || error.status === 403 && !source.token) replace(main, tokenScreen(source, error.message, render));
    else replace(main, h("section", { class: "failed" }, h("h2", null, "This cannot be shown"), h("p", { class: "bad" }, error.message), h("p", null, link("try again", render))));
  } finally {
    main.removeAttribute("aria-busy");
  }
}

function wakeLater() {
  freshTimer = setTimeout(render, FRESH_EVERY);
}

const KEYS = [
  ["1 … 8", "screens: verdict, timeline, node, compare, evidence, logs, cluster, post-mortem"],
  ["j k", "next, previous finding"], ["e E", "next, previous error on the timeline"], ["[ ]", "previous, next node"],
  ["w s", "zoom in, out at the cursor"], ["a d", "earlier, later"], ["t", "go to a time"], ["0", "the whole window"],
  ["c", "compare the node"], ["x", "faults only"], ["l", "logs of the node"], ["/ n N", "filter lines; next, previous match"],
  ["p", "copy as a citation for chat or post-mortem"], ["b", "bookmark the cursor with a note"], ["y", "what is shown, as raw JSON"],
  [":", "a screen, node, finding or evidence by name"], ["q", "back"], ["?", "this help"],
];

function help() {
  const dialog = h("dialog", { class: "help-box" }, h("h2", null, "Keys"),
    h("dl", null, KEYS.map(([key, what]) => h("div", null, h("dt", null, key.split(" ").map((k) => h("kbd", null, k))), h("dd", null, what)))),
    h("p", { class: "muted" }, "Shapes: ● fatal  ▲ error  △ warning  ○ info  ▨ not recorded. Wheel zooms the timeline, ctrl+wheel a chart; dragging moves; a double click shows the whole window."),
    h("form", { method: "dialog" }, h("button", { class: "primary" }, "close")));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.appendChild(dialog);
  dialog.showModal();
}

// The next of a list from where we are, round its ends.
function stepIn(list, index, by) {
  return list.length === 0 ? null : list[((index < 0 ? by > 0 ? -1 : 0 : index) + by + list.length) % list.length];
}

async function stepFinding(by) {
  const { findings } = await source.review();
  const shown = state().x ? findings.filter((f) => f.severity === "fatal" || f.severity === "error") : findings;
  const next = stepIn(shown, shown.findIndex((f) => f.id === state().f), by);
  if (!next) return;
  const screen = currentScreen();
  const at = parseTime(next.first);
  if (screen === "evidence") go({ f: next.id, e: next.evidence[0].ref });
  else if (screen === "verdict") {
    go({ f: next.id }, true);
    for (const row of document.querySelectorAll("details.finding")) row.open = row.dataset.id === next.id || row.dataset.id === next.part_of;
    await new Promise((done) => requestAnimationFrame(done));
    const row = [...document.querySelectorAll("details.finding")].find((one) => one.dataset.id === next.id);
    if (row) row.open = true;
    if (row) {
      row.scrollIntoView({ block: "nearest" });
      row.querySelector("summary").focus({ preventScroll: true });
    }
  } else {
    go({ screen: screen === "node" ? "node" : "timeline", f: next.id, node: next.node || null });
    if (at !== null) lookAround(at, 180000);
  }
}

async function stepError(by) {
  const { rows } = await source.timeline();
  const errors = rows.map((r) => [parseTime(r.datetime), r]).filter(([at, r]) => at !== null && ["fatal", "error"].includes(severityOf(r.severity)));
  const from = view.at ?? (by > 0 ? view.all[0] - 1 : view.all[1] + 1);
  const next = by > 0 ? errors.find(([at]) => at > from + 0.5) : errors.findLast(([at]) => at < from - 0.5);
  if (!next) {
    toast(by > 0 ? "no later error" : "no earlier error");
    return;
  }
  point(next[0]);
  if (next[0] < view.from || next[0] > view.until) lookAround(next[0], view.until - view.from);
  toast(clock(next[0]) + " " + (next[1].node ? next[1].node + ": " : "") + next[1].message);
}

async function stepNode(by) {
  const { nodes } = await source.review();
  const next = stepIn(nodes, nodes.findIndex((n) => n.node === state().node), by);
  if (next) go({ node: next.node, screen: ["node", "timeline", "logs"].includes(currentScreen()) ? currentScreen() : "node" });
}

function goToTime() {
  ask("Go to (03:11:42, or a whole time as 2026-11-23T03:11:42Z)", view.at === null ? "" : clock(view.at), (text) => {
    const day = stamp(view.all[0]).slice(0, 10);
    const zone = state().tz === "local" ? zoneName().replace("UTC", "").replace("−", "-") : "Z";
    let at = parseTime(text) ?? parseTime(day + "T" + text + (text.length === 5 ? ":00" : "") + zone);
    if (at !== null && at < view.all[0] - 3600000) at += 86400000;
    if (at === null) toast(text + " is no time");
    else lookAround(at, Math.min(view.until - view.from, 180000));
  });
}

function command() {
  ask(": a screen, a node, F2, E5, or a metric", "", async (text) => {
    const review = await source.review();
    const screen = CASE_SCREENS.find(([name, title]) => name.startsWith(text.toLowerCase()) || title.toLowerCase().startsWith(text.toLowerCase()));
    const finding = review.findings.find((f) => f.id.toLowerCase() === text.toLowerCase());
    if (/^e\d+$/i.test(text)) go({ screen: "evidence", e: text.toUpperCase() });
    else if (finding) go({ screen: "verdict", f: finding.id });
    else if (review.nodes.some((n) => n.node === text)) go({ screen: "node", node: text });
    else if (screen && text) go({ screen: screen[0] });
    else if (/^[a-zA-Z_]+$/.test(text)) go({ screen: "node", m: text });
    else toast("nothing here is called " + text);
  });
}

async function copyCitation() {
  const review = await source.review();
  const { e, f } = state();
  const byEvidence = review.findings.find((one) => one.evidence.some((x) => x.ref === e));
  const finding = byEvidence || review.findings.find((one) => one.id === f) || review.findings[0];
  if (!finding) toast("there is no finding to cite");
  else copy(citation(review, finding, currentScreen() === "evidence" && byEvidence ? finding.evidence.find((x) => x.ref === e) : null));
}

function bookmark() {
  const at = view.at ?? (view.from + view.until) / 2;
  ask("A note at " + clock(at), "", (note) => {
    const marks = [...bookmarks().map((m) => m.datetime + "!" + m.note), isoTime(at) + "!" + note.replaceAll("|", "/")];
    go({ b: marks.join("|") });
    toast("bookmarked; the link of this page carries it");
  });
}

async function raw() {
  const screen = currentScreen();
  const review = await source.review();
  const answers = { evidence: () => source.evidence(state().e || review.findings[0].evidence[0].ref), node: () => source.node(state().node || review.nodes[0].node), timeline: () => source.timeline(), postmortem: () => source.postmortem() };
  const data = await (answers[screen] || (() => source.review()))();
  const text = safeJson(data);
  const dialog = h("dialog", { class: "raw-box" }, h("form", { method: "dialog" }, h("button", { class: "primary" }, "close"), " ", link("copy", () => copy(text))), h("pre", null, text.slice(0, 400000)));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.appendChild(dialog);
  dialog.showModal();
}

let match = -1;

function stepMatch(by) {
  const rows = [...document.querySelectorAll("table.rows tr.row")];
  if (rows.length === 0) return;
  match = (match + by + rows.length) % rows.length;
  for (const row of document.querySelectorAll("tr.current")) row.classList.remove("current");
  rows[match].classList.add("current");
  rows[match].scrollIntoView({ block: "center" });
}

const ACTIONS = {
  "?": help, "j": () => stepFinding(1), "k": () => stepFinding(-1), "e": () => stepError(1), "E": () => stepError(-1), "]": () => stepNode(1), "[": () => stepNode(-1),
  "w": () => zoom(0.6), "s": () => zoom(1 / 0.6), "a": () => pan(-0.25), "d": () => pan(0.25), "t": goToTime, "0": () => look(view.all[0], view.all[1]),
  "c": () => go({ screen: "compare", a: state().node || null, b: null }), "x": () => go({ x: state().x ? null : "1" }), "l": () => go({ screen: "logs" }),
  "n": () => stepMatch(1), "N": () => stepMatch(-1), "p": copyCitation, "b": bookmark, "y": raw, ":": command, "q": () => history.back(),
  "/": () => {
    const filter = document.getElementById("filter");
    if (filter) filter.focus();
    else go({ screen: "logs" });
  },
};

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
  if (isLive(currentScreen()) && event.key !== "?") return;
  const screen = /^[1-8]$/.test(event.key) && CASE_SCREENS[Number(event.key) - 1];
  if (screen) go({ screen: screen[0] });
  else if (Object.hasOwn(ACTIONS, event.key)) ACTIONS[event.key]();
  else return;
  event.preventDefault();
}

async function begin() {
  const data = document.getElementById("casefile-data");
  if (data) source = new Embedded(JSON.parse(data.textContent));
  else {
    source = new Api("/api/v1", takeToken());
    const served = document.querySelector("meta[name=casefile-serves]");
    source.collector = !served || served.content === "collector";
    source.canCollect = source.collector;
    source.only = source.collector ? null : served.content;
  }
  startState();
  head = h("header", { id: "head" });
  main = h("main", { id: "screen", tabindex: -1 });
  document.body.append(h("div", { id: "app", class: data ? "covered" : null }, head, main));
  document.documentElement.classList.add("live");
  onState(render);
  addEventListener("keydown", onKey);
  addEventListener("resize", redraw);
  await render();
  document.documentElement.dataset.ready = "1";
}

begin();
