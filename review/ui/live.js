// The live page: incidents, nodes with their freshness, opening a collection and following it, downloads.

import { h, link, replace, table, toast } from "./dom.js";
import { amount, counted, duration, isoTime, parseTime, stamp } from "./words.js";
import { go } from "./state.js";

const PHASES = {
  "waiting": ["○", "not asked yet"], "asked": ["◔", "asked"], "answering": ["◑", "evidence arrives"], "answered": ["●", "everything is here"],
  "trimmed": ["◕", "cut short"], "last-words": ["▲", "no answer; its last words are used"], "silent": ["✕", "nothing of it is here"],
};
const FINAL = ["answered", "trimmed", "last-words", "silent"];
// Bytes of a download that a page keeps in memory; more goes through the command.
const MOST_IN_MEMORY = 512 * 1048576;
// How far a clock may be off, in milliseconds, before it is worth a word.
const CLOCK_BAD = 50;

function stateBadge(state, failure) {
  return h("span", { class: "state " + state, title: failure || null }, state);
}

async function download(source, incident, archive, button) {
  const command = "casefile download " + incident;
  if (archive.size > MOST_IN_MEMORY && !window.showSaveFilePicker) {
    toast("it has " + amount(archive.size, "bytes") + ": " + command + " fetches it, and goes on where it stopped");
    return;
  }
  const before = button.textContent;
  button.disabled = true;
  try {
    const file = archive.size > MOST_IN_MEMORY && await window.showSaveFilePicker({ suggestedName: archive.file_name });
    const answer = await source.fetch("/incidents/" + encodeURIComponent(incident) + "/archive");
    const reader = answer.body.getReader();
    const out = file ? await file.createWritable() : null;
    const pieces = [];
    let got = 0;
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      got += value.length;
      button.textContent = Math.floor(got / archive.size * 100) + " %";
      if (out) await out.write(value);
      else pieces.push(value);
    }
    if (out) await out.close();
    if (got !== archive.size) throw new Error("only " + amount(got, "bytes") + " of " + amount(archive.size, "bytes") + " came; " + command + " goes on where it stopped");
    if (!out) {
      const address = URL.createObjectURL(new Blob(pieces, { type: "application/gzip" }));
      const anchor = h("a", { href: address, download: archive.file_name });
      anchor.click();
      setTimeout(() => URL.revokeObjectURL(address), 60000);
    }
  } catch (error) {
    if (error.name !== "AbortError") toast(error.message);
  } finally {
    button.disabled = false;
    button.textContent = before;
  }
}

function downloadButton(source, incident) {
  const button = h("button", { type: "button", class: "link", on: { click: (event) => {
    event.stopPropagation();
    download(source, incident.id, incident.archive, button);
  } } }, "download " + amount(incident.archive.size, "bytes"));
  return button;
}

export async function incidentsScreen(source) {
  const answer = await source.incidents();
  const open = (incident) => incident.archive ? go({ screen: "verdict", inc: incident.id }) : go({ screen: "progress", inc: incident.id });
  const rows = answer.incidents.map((i) => h("tr", { class: "row", on: { click: () => open(i) } },
    h("td", null, link(i.id, () => open(i))),
    h("td", null, stateBadge(i.state, i.failure)),
    h("td", null, i.ask.severity),
    h("td", { class: "text" }, i.ask.title || i.ask.reason || h("span", { class: "muted" }, "no title"), i.ask.title && i.ask.reason && h("span", { class: "muted" }, " " + i.ask.reason)),
    h("td", { class: "time" }, stamp(parseTime(i.ask.window.from)), " ", h("span", { class: "muted" }, "+" + duration(parseTime(i.ask.window.until) - parseTime(i.ask.window.from)))),
    h("td", { class: "num" }, i.expected.length),
    h("td", null, i.archive ? h("span", { class: i.archive.whole ? "good" : "bad" }, i.archive.whole ? "whole" : "not whole") : "–", i.archive && i.archive.revision > 1 && h("span", { class: "muted" }, " revision " + i.archive.revision)),
    h("td", null, i.archive && downloadButton(source, i))));
  return h("div", { class: "incidents-screen list-screen" },
    h("div", { class: "tools" }, h("h2", null, "Incidents"), source.canCollect && h("button", { type: "button", class: "primary", on: { click: () => go({ screen: "collect" }) } }, "open a collection")),
    rows.length === 0 ? h("p", { class: "muted" }, "No incident has been opened yet. ", source.canCollect && link("Open a collection", () => go({ screen: "collect" })), " or run: casefile collect --since 30m")
      : table([{ title: "incident" }, { title: "state" }, { title: "severity" }, { title: "title" }, { title: "window", class: "time" }, { title: "nodes", class: "num" }, { title: "evidence" }, { title: "" }], rows, { class: "rows" }),
    answer.more && h("p", { class: "muted" }, "older ones: casefile incidents"));
}

export async function fleetScreen(source) {
  const answer = await source.nodes();
  const now = parseTime(answer.now);
  const nodes = answer.nodes;
  const away = nodes.filter((n) => n.link !== "connected");
  const rows = nodes.map((n) => {
    const age = n.last_frame ? now - parseTime(n.last_frame) : null;
    const clockBy = n.clock ? Math.abs(n.clock.ahead_nanos) / 1e6 : null;
    return [
      h("b", null, n.node),
      h("span", { class: n.link === "connected" ? "good" : "bad" }, n.link === "connected" ? "● connected" : "✕ away"),
      age === null ? "–" : h("span", { class: age < 10000 ? "" : "bad" }, duration(Math.max(0, age)) + " ago"),
      clockBy === null ? "–" : h("span", { class: clockBy < CLOCK_BAD ? "" : "bad" }, (n.clock.ahead_nanos / 1e6).toFixed(1) + " ±" + (n.clock.bound_nanos / 1e6).toFixed(1) + " ms"),
      n.last_words ? duration(parseTime(n.last_words.until) - parseTime(n.last_words.from)) + ", " + amount(Number(n.last_words_bytes), "bytes") : "–",
      n.agent_version || "–",
      h("span", { class: "muted" }, (n.troubles || []).join(", "))];
  });
  return h("div", { class: "fleet-screen list-screen" }, h("div", { class: "tools" }, h("h2", null, counted(nodes.length, "node")), away.length > 0 && h("span", { class: "bad" }, away.length + " away"), h("span", { class: "muted" }, "at " + stamp(now))),
    nodes.length === 0 ? h("p", { class: "muted" }, "No agent has streamed to this collector yet.")
      : table([{ title: "node" }, { title: "link" }, { title: "last frame", class: "num" }, { title: "clock", class: "num" }, { title: "last words held", class: "num" }, { title: "agent" }, { title: "sources that are not complete" }], rows, { class: "rows" }));
}

const LENGTHS = [["5 minutes", 5], ["15 minutes", 15], ["30 minutes", 30], ["1 hour", 60], ["2 hours", 120], ["6 hours", 360]];

export async function collectScreen(source) {
  const answer = await source.nodes();
  const field = (title, input, hint) => h("label", { class: "field" }, h("span", null, title), input, hint && h("span", { class: "muted" }, hint));
  const since = h("select", null, LENGTHS.map(([text, minutes]) => h("option", { value: minutes, selected: minutes === 30 }, "the last " + text)));
  const from = h("input", { type: "text", placeholder: "2026-11-23T02:44:10Z" }), until = h("input", { type: "text", placeholder: "2026-11-23T03:14:10Z" });
  const title = h("input", { type: "text", maxlength: 200 }), reason = h("input", { type: "text", maxlength: 500 });
  const severity = h("select", null, ["SEV1", "SEV2", "SEV3", "SEV4"].map((s) => h("option", { selected: s === "SEV3" }, s)));
  const nodes = h("select", { multiple: true, size: Math.min(8, Math.max(3, answer.nodes.length)) }, answer.nodes.map((n) => h("option", { value: n.node }, n.node + (n.link === "connected" ? "" : " (away)"))));
  const namespaces = h("input", { type: "text", placeholder: "shop, payments" });
  const failed = h("p", { class: "bad", role: "alert" });
  const send = async (event) => {
    event.preventDefault();
    const now = parseTime(answer.now) + (performance.now() - asked);
    const [a, b] = [from.value.trim(), until.value.trim()];
    if (Boolean(a) !== Boolean(b) || a && (parseTime(a) === null || parseTime(b) === null)) {
      replace(failed, "both times, with their zone: 2026-11-23T02:44:10Z");
      return;
    }
    const window = a ? { from: a, until: b } : { from: isoTime(now - Number(since.value) * 60000), until: isoTime(now) };
    const names = namespaces.value.split(",").map((n) => n.trim()).filter(Boolean);
    const body = { window, title: title.value.trim(), reason: reason.value.trim(), severity: severity.value, nodes: [...nodes.selectedOptions].map((o) => o.value) };
    if (names.length > 0) body.scope = { select: { namespaces: names } };
    try {
      const opened = await source.collect(body);
      go({ screen: "progress", inc: opened.incident.id });
    } catch (error) {
      replace(failed, error.message);
    }
  };
  const asked = performance.now();
  return h("form", { class: "collect-screen", on: { submit: send } }, h("h2", null, "Open a collection"),
    field("evidence of", since), field("or exactly from", from), field("until", until, "empty: up to now"),
    field("title", title), field("reason", reason), field("severity", severity),
    field("nodes", nodes, "none chosen: all " + answer.nodes.length), field("namespaces", namespaces, "of the pod logs only these; empty: all"),
    failed, h("p", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, "collect"), link("back", () => go({ screen: "incidents" }))));
}

function progressTable(view) {
  const names = [...new Set(view.nodes.flatMap((n) => n.sources.map((s) => s.source)))].sort();
  const cell = (node, name) => {
    const s = node.sources.find((one) => one.source === name);
    if (!s) return h("td", { class: "cov" }, "");
    // What a node that is done never called done is a part of another source.
    if (!s.done && FINAL.includes(node.phase)) return h("td", { class: "cov absent", title: node.node + ", " + name + ": told with its parts" }, "·");
    return h("td", { class: "cov " + (s.done ? s.gaps > 0 ? "part" : "whole" : "busy"), title: node.node + ", " + name + ": " + counted(s.records, "record") + ", " + amount(Number(s.bytes), "bytes") + (s.gaps ? ", " + counted(s.gaps, "gap") : "") }, s.done ? s.gaps > 0 ? "◐" : "✓" : "…");
  };
  return h("div", { class: "scroll" }, h("table", { class: "coverage progress" },
    h("thead", null, h("tr", null, h("th", null, "node"), h("th", null, ""), names.map((n) => h("th", { scope: "col" }, h("span", null, n))), h("th", { class: "num" }, "bytes"))),
    h("tbody", null, view.nodes.map((n) => {
      const [mark, words] = PHASES[n.phase] || ["?", n.phase];
      return h("tr", null, h("th", { scope: "row" }, n.node), h("td", { class: "phase " + n.phase, title: words }, mark + " " + words), names.map((name) => cell(n, name)),
        h("td", { class: "num" }, amount(n.sources.reduce((sum, s) => sum + Number(s.bytes), 0), "bytes")));
    }))));
}

export async function progressScreen(source, at, signal) {
  const head = h("div", { class: "tools" });
  const bar = h("progress", { max: 1, value: 0, "aria-label": "nodes that are done" });
  const body = h("div", null, h("p", { class: "muted" }, "connecting …"));
  const show = (view) => {
    const i = view.incident;
    const done = view.nodes.filter((n) => FINAL.includes(n.phase)).length;
    bar.value = view.nodes.length ? done / view.nodes.length : 0;
    replace(head, h("h2", null, i.id), stateBadge(i.state, i.failure), h("span", null, i.ask.title),
      h("span", { class: "muted" }, done + "/" + view.nodes.length + " nodes"), i.failure && h("span", { class: "bad" }, i.failure),
      i.archive && [h("button", { type: "button", class: "primary", on: { click: () => go({ screen: "verdict", inc: i.id }) } }, "open the case file"), downloadButton(source, i)]);
    replace(body, progressTable(view));
  };
  const follow = async () => {
    // A stream that breaks is asked for again; what it says is always the whole.
    for (let tries = 0; tries < 20 && !signal.aborted; tries += 1) {
      let ended = false;
      try {
        await source.events("/incidents/" + encodeURIComponent(at.inc) + "/events", (name, data) => {
          if (name !== "update") return;
          show(data);
          ended = data.incident.state === "sealed" || data.incident.state === "failed";
        }, signal);
      } catch (error) {
        if (signal.aborted) return;
        if (error.status) {
          replace(body, h("p", { class: "bad" }, error.message));
          return;
        }
      }
      if (ended) return;
      await new Promise((done) => setTimeout(done, Math.min(1000 * 2 ** tries, 15000)));
    }
  };
  follow();
  return h("div", { class: "progress-screen" }, head, bar, body);
}

// Without a token nothing is answered: ask for one.
export function tokenScreen(source, why, again) {
  const input = h("input", { type: "password", autocomplete: "off", "aria-label": "token" });
  return h("form", { class: "collect-screen", on: { submit: (event) => {
    event.preventDefault();
    source.setToken(input.value.trim());
    again();
  } } }, h("h2", null, "A token, please"), h("p", null, why), h("label", { class: "field" }, h("span", null, "token"), input),
  h("p", { class: "muted" }, "casefile-collector token create makes one; on the collector's own machine it lies in keys/owner.token of its data directory. It stays in this tab."),
  h("p", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, "go on")));
}
