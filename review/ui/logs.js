// All logs as one, by time; or what they have in common, counted, with what is new since the first anomaly marked.

import { h, link, replace } from "./dom.js";
import { clock, counted, isoTime, parseTime } from "./words.js";
import { go, view } from "./state.js";
import { logTable } from "./node.js";

function templateTable(answer) {
  return h("div", { class: "scroll" }, h("table", { class: "rows log templates" }, h("thead", null, h("tr", null, ["lines", "", "first", "where", "template"].map((t) => h("th", { scope: "col" }, t)))),
    h("tbody", null, answer.templates.map((t) => h("tr", { class: "row" + (t.new ? " new" : ""), on: { click: () => go({ screen: "evidence", e: null, entry: t.entry, line: String(t.line) }) } },
      h("td", { class: "num" }, "×" + t.count),
      h("td", null, t.new && h("span", { class: "badge", title: "no such line before the first anomaly" }, "new")),
      h("td", { class: "time" }, t.first ? clock(parseTime(t.first)) : "–"),
      h("td", { class: "label" }, t.label, h("span", { class: "muted" }, " " + (t.nodes.length > 2 ? t.nodes.length + " nodes" : t.nodes.join(", ")))),
      h("td", { class: "text" }, h("code", null, t.template)))))));
}

export async function logsScreen(source, at) {
  const review = await source.review();
  const body = h("div", null, h("p", { class: "muted" }, "reading …"));
  const whole = view.from <= view.all[0] && view.until >= view.all[1];
  const asked = { node: at.node, source: at.src, grep: at.q, from: whole ? null : isoTime(view.from), until: whole ? null : isoTime(view.until) };
  const grep = h("input", { type: "search", id: "filter", value: at.q || "", placeholder: "/ filter: a regular expression", "aria-label": "filter lines by a regular expression", on: {
    change: () => go({ q: grep.value.trim() || null }),
    keydown: (event) => {
      if (event.key === "Escape") grep.blur();
      if (event.key === "Enter") grep.blur();
    },
  } });
  const nodes = h("select", { "aria-label": "node", on: { change: () => go({ node: nodes.value || null }) } },
    h("option", { value: "" }, "all nodes"), review.nodes.map((n) => h("option", { value: n.node, selected: n.node === at.node }, n.node)));
  const sources = h("select", { "aria-label": "log source", on: { change: () => go({ src: sources.value || null }) } },
    ["", "kernel", "journal", "pods", "files"].map((s) => h("option", { value: s, selected: (at.src || "") === s }, s || "all logs")));
  const collapsed = at.view !== "lines";
  const tools = h("div", { class: "tools" }, grep, nodes, source.live && sources,
    h("span", { class: "switch", role: "group", "aria-label": "templates or lines" },
      h("button", { type: "button", "aria-pressed": String(collapsed), on: { click: () => go({ view: null }) } }, "templates"),
      h("button", { type: "button", "aria-pressed": String(!collapsed), on: { click: () => go({ view: "lines" }) } }, "lines")),
    h("span", { class: "muted" }, whole ? "whole window" : clock(view.from) + " – " + clock(view.until)));
  const lines = async (after, into) => {
    const answer = await source.logs({ ...asked, after, limit: 1000 });
    if (answer.lines.length === 0 && !after) replace(into, h("p", { class: "muted" }, "no line" + (at.q ? " matches" : "")));
    else into.appendChild(logTable(answer.lines, { node: Boolean(at.node) }));
    if (answer.note) into.prepend(h("p", { class: "muted" }, answer.note));
    for (const [entry, why] of answer.damaged || []) into.prepend(h("p", { class: "bad" }, entry + ": " + why));
    if (answer.gaps > 0 && !after) into.prepend(h("p", { class: "muted" }, "▨ " + counted(answer.gaps, "known gap") + " in these logs"));
    if (answer.next) {
      const more = link("more lines", () => {
        more.remove();
        lines(answer.next, into).catch((error) => into.appendChild(h("p", { class: "bad" }, error.message)));
      });
      into.appendChild(more);
    }
  };
  const show = async () => {
    try {
      if (collapsed) {
        const answer = await source.templates(asked);
        const total = answer.templates.reduce((n, t) => n + t.count, 0);
        replace(body, h("p", { class: "muted" }, counted(total, "line") + " in " + counted(answer.templates.length, "template"),
          answer.anomaly ? "; new: not before the first anomaly at " + clock(parseTime(answer.anomaly)) : "; there is no first anomaly, so none is marked as new",
          answer.left_out > 0 && "; " + answer.left_out + " more templates are not shown", answer.note && "; " + answer.note), templateTable(answer));
      } else {
        replace(body);
        await lines(null, body);
      }
    } catch (error) {
      replace(body, h("p", { class: "bad" }, error.message));
    }
  };
  show();
  return h("div", { class: "logs-screen" }, tools, body);
}
