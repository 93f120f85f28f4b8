// The first screen: one sentence with its evidence, the findings in order of rank, what is missing, what had changed.

import { copy, h, link, markdownCode, markdownText, table } from "./dom.js";
import { clock, counted, duration, glyph, parseTime, second, SEVERITIES, severityOf, STATES } from "./words.js";
import { go, lookAround, onDraw, view } from "./state.js";
import { drawHatch, drawTimes, fit, navigable, theme } from "./chart.js";
import { drawShape } from "./lanes.js";

export function badge(severity) {
  return h("span", { class: "sev " + severity, title: severity }, glyph(severity), h("span", { class: "word" }, severity));
}

export function cite(ref) {
  return link("[" + ref + "]", () => go({ screen: "evidence", e: ref }), { class: "link cite", title: "the bytes that prove it (" + ref + ")" });
}

// Whole times within a text, as the head of the page has them.
function shortTimes(text) {
  return text.replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z/g, (time) => second(parseTime(time)));
}

// A text in which [E1, E2] leads to what it cites.
export function citedText(text) {
  return text.split(/(\[E\d+(?:, E\d+)*\])/).map((part) => /^\[E\d/.test(part)
    ? h("span", { class: "cites" }, part.slice(1, -1).split(", ").map((ref) => cite(ref))) : shortTimes(part));
}

// The sentence on top: where it names several things, a line for each.
function sentenceLines(sentence) {
  const [, named, tail] = /^(.*\])\.? ?([^\]]*)$/s.exec(sentence) || [null, sentence, ""];
  const parts = named.split(/; (?=[\w.-]+: )/);
  if (parts.length < 2) return h("p", { class: "sentence" }, citedText(sentence));
  return h("div", { class: "sentence many" }, parts.map((part) => {
    const [, node, rest] = /^([\w.-]+): (.*)$/s.exec(part) || [null, "", part];
    return h("p", null, h("span", { class: "where" }, node), h("span", null, citedText(rest)));
  }), tail && h("p", { class: "rest" }, shortTimes(tail.replace(/^; /, ""))));
}

// E1, E2, E3 → [E1] [E2] +1
export function cites(evidence, most) {
  const shown = evidence.slice(0, most || 4).map((e) => cite(e.ref));
  const more = evidence.length - shown.length;
  return h("span", { class: "cites" }, shown, more > 0 && h("span", { class: "muted" }, " +" + more));
}

export function showAt(finding) {
  const at = parseTime(finding.first);
  go({ screen: "timeline", f: finding.id, node: finding.node || null });
  if (at !== null) lookAround(at, 180000);
}

// A line for a chat or a post-mortem, with what it rests on.
export function citation(review, finding, evidence) {
  const id = markdownText(review.incident.id || review.incident.title);
  if (evidence) {
    const where = [evidence.node, evidence.entry && evidence.entry + (evidence.line ? ":" + evidence.line : ""), evidence.sha256 && "sha256 " + evidence.sha256.slice(0, 12)];
    return "> " + markdownCode(evidence.text.slice(0, 400)) + "\n> — " + id + " " + [evidence.ref, ...where].filter(Boolean).map(markdownText).join(", ");
  }
  const refs = finding.evidence.map((e) => markdownText(e.ref)).join(", ");
  return "- **" + finding.severity + "** " + markdownText((finding.node ? finding.node + ": " : "") + finding.summary) + " (" + (finding.first || "no time") + ") \\[" + refs + "\\] " + id;
}

export function findingDetails(review, finding) {
  const follows = finding.part_of && review.findings.find((f) => f.id === finding.part_of);
  const fact = (name, value) => value && h("div", { class: "fact" }, h("dt", null, name), h("dd", null, value));
  return h("div", { class: "finding-body" },
    h("dl", null,
      fact("means", finding.meaning),
      fact("first action", finding.now),
      finding.not_proof && finding.not_proof.length > 0 && fact("does not prove", finding.not_proof.join("; ")),
      follows && fact("beside", h("span", null, follows.id + " " + follows.summary)),
      fact("seen", h("span", null, clock(parseTime(finding.first)), finding.last && finding.last !== finding.first && " … " + clock(parseTime(finding.last)),
        ", " + counted(finding.count, "time") + ", confidence " + finding.confidence)),
      finding.pod && fact("pod", [finding.pod.namespace, finding.pod.name].filter(Boolean).join("/") || finding.pod.uid)),
    h("ol", { class: "proof" }, finding.evidence.slice(0, 12).map((e) => h("li", null, cite(e.ref), " ",
      h("span", { class: "muted" }, [e.node, e.at && second(parseTime(e.at)), e.kind].filter(Boolean).join(" · ")),
      h("code", null, e.text)))),
    finding.evidence.length > 12 && h("p", { class: "muted" }, "and " + (finding.evidence.length - 12) + " more"),
    h("p", { class: "buttons" },
      finding.first && link("on the timeline", () => showAt(finding)),
      finding.node && link("the node", () => go({ screen: "node", node: finding.node })),
      finding.node && link("compare", () => go({ screen: "compare", a: finding.node, b: null })),
      link("copy as citation", () => copy(citation(review, finding, null)))));
}

// A finding with those of the same node that are about the same thing.
function findingRow(review, finding, chosen) {
  const group = review.findings.filter((f) => f.part_of === finding.id);
  const inside = group.some((f) => f.id === chosen);
  const row = h("details", { class: "finding", "data-id": finding.id, open: chosen === finding.id || inside },
    h("summary", null,
      badge(finding.severity),
      h("span", { class: "what" },
        h("span", { class: "summary" }, finding.summary),
        h("span", { class: "meta" },
          h("span", { class: "kind" }, finding.kind),
          finding.node && h("span", { class: "node" }, finding.node),
          finding.subject && h("span", { class: "subject" }, finding.subject),
          finding.count > 1 && h("span", null, "×" + finding.count),
          group.length > 0 && h("span", { class: "beside" }, "+ " + group.length + " beside it"))),
      h("time", null, finding.first ? second(parseTime(finding.first)) : ""),
      cites(finding.evidence, 2)));
  let filled = false;
  const fill = () => {
    if (!filled && row.open) {
      filled = true;
      row.appendChild(findingDetails(review, finding));
      if (group.length > 0) row.appendChild(h("div", { class: "group" }, h("p", { class: "muted" }, "beside it, on the same node"), group.map((f) => findingRow(review, f, chosen))));
    }
  };
  row.addEventListener("toggle", fill);
  fill();
  return row;
}

// The whole window in one line: where the findings lie, where nothing was recorded.
function overviewStrip(review) {
  const canvas = h("canvas", { class: "strip", role: "img", "aria-label": "where in the window the findings lie" });
  const marks = review.findings.map((f) => ({ at: parseTime(f.first), f })).filter((m) => m.at !== null).reverse();
  const gaps = review.gaps.filter((g) => !g.source && g.from).map((g) => ({ from: parseTime(g.from), until: parseTime(g.until) }));
  const draw = () => {
    if (!canvas.isConnected) return;
    const { ctx, width, height } = fit(canvas);
    ctx.clearRect(0, 0, width, height);
    const bottom = height - 15;
    const x = (at) => (at - view.from) / (view.until - view.from) * width;
    drawTimes(ctx, 0, width, 0, bottom, height - 3);
    // Of which node nothing was recorded, and when: a band for each of the first few.
    gaps.slice(0, 5).forEach((gap, n) => drawHatch(ctx, Math.max(0, x(gap.from)), bottom - 6 * (n + 1), Math.min(width, x(gap.until)) - Math.max(0, x(gap.from)), 5));
    ctx.strokeStyle = theme().rule;
    ctx.strokeRect(0.5, 0.5, width - 1, bottom);
    const y = { fatal: 0.24, error: 0.42, warning: 0.62, info: 0.8 };
    for (const { at, f } of marks) drawShape(ctx, f.severity, Math.max(7, Math.min(width - 7, x(at))), bottom * y[f.severity], f.severity === "info" ? 3.5 : 5);
  };
  navigable(canvas, () => 0, {
    wheelZooms: false,
    onClick: () => go({ screen: "timeline" }),
  });
  onDraw(draw);
  return canvas;
}

const WHOLE = { "whole": "✓", "part": "◐", "missing": "✕", "absent": "·" };

function coverageBox(review) {
  const nodes = review.nodes;
  const notWhole = (n) => n.state !== "answered" || n.sources.some((s) => s.whole === "part" || s.whole === "missing");
  const cut = nodes.filter(notWhole);
  const answered = nodes.filter((n) => n.state === "answered").length;
  const clocks = nodes.filter((n) => n.clock).map((n) => [Math.abs(n.clock.ahead_nanos) / 1e6 + n.clock.bound_nanos / 1e6, n]);
  clocks.sort((a, b) => b[0] - a[0]);
  const reasons = new Map();
  for (const gap of review.gaps) reasons.set(gap.reason, (reasons.get(gap.reason) || 0) + 1);
  const lines = [
    h("li", { class: answered === nodes.length ? "good" : "bad" }, h("b", null, answered + "/" + nodes.length), " nodes answered"),
    ...nodes.filter((n) => n.state !== "answered").slice(0, 6).map((n) => h("li", { class: "bad" }, h("b", null, n.node), " " + STATES[n.state] + nodeWhy(review, n.node))),
    reasons.size > 0 ? h("li", null, counted(review.gaps.length + review.gaps_left_out, "gap"), ": ",
      [...reasons].sort((a, b) => b[1] - a[1]).slice(0, 5).map(([r, n]) => r + " " + n).join(", ")) : h("li", { class: "good" }, "no gaps"),
    clocks.length > 0 && h("li", null, "clocks within ", h("b", null, (Math.ceil(clocks[0][0] * 10) / 10) + " ms"), " (worst: " + clocks[0][1].node + ")"),
    review.truncated && h("li", { class: "bad" }, "the file ends early: what is listed may not all be in it"),
    !review.indexed && h("li", { class: "bad" }, "the file has no index: entries may be missing"),
    ...review.unread.slice(0, 4).map(([what, why]) => h("li", { class: "bad" }, what + ": " + why)),
  ];
  const matrix = cut.length > 0 && coverageMatrix(cut.slice(0, 40));
  return h("section", null, h("h2", null, "Coverage"), h("ul", { class: "plain" }, lines), matrix,
    nodes.length > cut.length && cut.length > 0 && h("p", { class: "muted" }, counted(nodes.length - cut.length, "other node") + ": whole"),
    cut.length > 40 && h("p", { class: "muted" }, (cut.length - 40) + " more are not whole"));
}

function nodeWhy(review, node) {
  const gap = review.gaps.find((g) => g.node === node && !g.source);
  return gap ? ": " + gap.reason + (gap.from ? " from " + second(parseTime(gap.from)) : "") : "";
}

// Node by source: what is whole, what is not. Only columns in which something is missing.
function coverageMatrix(nodes) {
  const key = (s) => s.kind + " " + s.source;
  const names = new Map();
  for (const node of nodes) for (const s of node.sources) if (s.whole === "part" || s.whole === "missing") names.set(key(s), s);
  if (names.size === 0) return null;
  const columns = [...names.entries()].sort().slice(0, 24);
  const cell = (node, name) => {
    const s = node.sources.find((one) => key(one) === name);
    const whole = s ? s.whole : "missing";
    const title = node.node + ", " + name + ": " + (s ? s.whole + (s.covered === null ? "" : " (" + Math.round(s.covered * 100) + " % of the window)") + (s.why ? "\n" + s.why : "") : "nothing is said of it");
    return h("td", { class: "cov " + whole, title }, WHOLE[whole]);
  };
  return h("div", { class: "scroll" }, h("table", { class: "coverage" },
    h("thead", null, h("tr", null, h("th", null, ""), columns.map(([name, s]) => h("th", { scope: "col", title: name }, h("span", null, s.source + (s.kind === "metrics" ? "" : " " + s.kind)))))),
    h("tbody", null, nodes.map((n) => h("tr", null, h("th", { scope: "row" }, link(n.node, () => go({ screen: "node", node: n.node }))), columns.map(([name]) => cell(n, name)))))),
    h("p", { class: "muted key" }, "✓ whole  ◐ a part  ✕ nothing  · the machine has none"));
}

function changesBox(review) {
  const changes = review.findings.filter((f) => f.check.startsWith("change."));
  return h("section", null, h("h2", null, "What had changed"),
    changes.length === 0 ? h("p", { class: "muted" }, "no change was found in what was recorded of it")
      : h("ul", { class: "plain" }, changes.slice(0, 14).map((f) => h("li", null, f.first && h("time", null, second(parseTime(f.first)) + " "), f.node && h("b", null, f.node + " "), f.summary, " ", cites(f.evidence, 1)))),
    changes.length > 14 && h("p", { class: "muted" }, "and " + (changes.length - 14) + " more among the findings"));
}

function checksBox(review) {
  const checks = review.review ? review.review.checks || [] : [];
  if (checks.length === 0) return null;
  const count = (verdict) => checks.filter((c) => c.verdict === verdict).length;
  const unknown = checks.filter((c) => c.verdict === "cannot-tell");
  const byTitle = new Map();
  for (const c of unknown) {
    const known = byTitle.get(c.id) || { title: c.title || c.id, nodes: [], missing: new Set() };
    known.nodes.push(...c.nodes || []);
    for (const m of c.missing || []) known.missing.add(m);
    byTitle.set(c.id, known);
  }
  return h("section", null, h("h2", null, "Checks"),
    h("p", { class: "tally" }, h("span", { class: "bad" }, "✕ " + count("found") + " found"), h("span", { class: "good" }, "✓ " + count("clear") + " clear"), h("span", null, "? " + unknown.length + " cannot tell")),
    byTitle.size > 0 && h("details", null, h("summary", null, "what cannot be told, and what is missing for it"),
      h("ul", { class: "plain" }, [...byTitle.values()].slice(0, 40).map((c) => h("li", null, h("b", null, c.title), c.nodes.length > 0 && " (" + (c.nodes.length > 3 ? c.nodes.length + " nodes" : c.nodes.join(", ")) + ")", ": ", [...c.missing].slice(0, 4).join(", "))))));
}

export async function verdictScreen(source, at) {
  const review = await source.review();
  const verdict = review.review ? review.review.verdict : null;
  const anomaly = verdict && verdict.first_anomaly;
  const first = anomaly && review.findings.find((f) => f.id === anomaly.finding);
  const window = [parseTime(review.incident.window.from), parseTime(review.incident.window.until)];
  const counts = SEVERITIES.map((s) => [s, review.findings.filter((f) => f.severity === s).length]);
  const shown = at.x ? review.findings.filter((f) => f.severity === "fatal" || f.severity === "error") : review.findings;
  const leads = shown.filter((f) => !f.part_of || !shown.some((lead) => lead.id === f.part_of));
  return h("div", { class: "verdict-screen" },
    h("section", { class: "verdict" + (counts[0][1] > 0 ? " fatal" : counts[1][1] > 0 ? " error" : "") },
      verdict ? sentenceLines(verdict.sentence) : h("p", { class: "sentence" }, "This case file holds no review: its findings have not been looked for."),
      anomaly && h("p", { class: "first" }, "First anomaly ", h("b", null, clock(parseTime(anomaly.at))), anomaly.node && [" on ", h("b", null, anomaly.node)],
        ", " + duration(Math.abs(parseTime(anomaly.at) - window[0])) + " into the window", first && [" · ", link(first.kind, () => showAt(first))]),
      overviewStrip(review)),
    h("div", { class: "columns" },
      h("section", { class: "findings" },
        h("h2", null, "Findings", h("span", { class: "counts" }, counts.filter(([, n]) => n > 0).map(([s, n]) => h("span", { class: "sev " + s }, glyph(s) + " " + n + " " + s)))),
        shown.length === 0 ? h("p", { class: "muted" }, at.x ? "no fatal finding and no error; x shows the rest" : "nothing was found in what was recorded")
          : h("div", { class: "list" }, leads.slice(0, 300).map((f) => findingRow(review, f, at.f)))),
      h("aside", null, coverageBox(review), changesBox(review), checksBox(review))));
}

// What stands in a row of the timeline, as a row of a table.
export function timelineTable(rows, most, onRow) {
  const shown = rows.slice(0, most);
  return table([{ title: "time", class: "time" }, { title: "", class: "mark" }, { title: "node", class: "node" }, { title: "what" }, { title: "", class: "cite" }],
    shown.map((r) => {
      const severity = severityOf(r.severity);
      const row = h("tr", { class: "row " + severity + " " + r.timestamp_desc },
        h("td", { class: "time" }, clock(parseTime(r.datetime))),
        h("td", { class: "mark" }, h("span", { class: "sev " + severity, title: r.severity + " " + r.timestamp_desc }, r.timestamp_desc === "gap" ? "▨" : glyph(severity))),
        h("td", { class: "node" }, r.node || ""),
        h("td", { class: "text" }, r.message, r.id && h("span", { class: "kind" }, r.id)),
        h("td", { class: "cite" }, r.evidence && cite(r.evidence)));
      if (onRow) onRow(row, r);
      return row;
    }), { class: "rows" });
}
