// What proves a claim: the raw lines with where they stand, or the samples, and which findings rest on them.

import { copy, h, link, replace } from "./dom.js";
import { amount, clock, isoTime, metricTitle, parseTime } from "./words.js";
import { go, lookAround, view } from "./state.js";
import { chart } from "./chart.js";
import { badge, citation, showAt } from "./verdict.js";

function rawLines(around, cited) {
  return h("div", { class: "raw scroll" }, h("table", null, h("tbody", null, around.lines.map((l) => h("tr", { class: l.line === cited ? "cited" : null },
    h("td", { class: "line" }, l.line), h("td", { class: "offset", title: "byte " + l.offset + " of the entry" }, "+" + l.offset), h("td", null, h("code", null, l.text + (l.cut ? " …" : ""))))))));
}

function entryFacts(around, review) {
  const file = (review.incident.id || "FILE") + "_….tar.gz";
  return h("dl", { class: "facts" },
    h("div", { class: "fact" }, h("dt", null, "entry"), h("dd", null, h("code", null, around.entry), " ", link("copy", () => copy(around.entry)))),
    h("div", { class: "fact" }, h("dt", null, "sha256"), h("dd", null, around.sha256 ? [h("code", null, around.sha256), " ", link("copy", () => copy(around.sha256))] : "not in the manifest")),
    h("div", { class: "fact" }, h("dt", null, "size"), h("dd", null, amount(around.size, "bytes"))),
    around.damaged && h("div", { class: "fact bad" }, h("dt", null, "damaged"), h("dd", null, around.damaged)),
    h("div", { class: "fact" }, h("dt", null, "read it"), h("dd", null, h("code", null, "casefile cat " + file + " " + around.entry))));
}

async function samples(source, evidence) {
  const from = parseTime(evidence.from), until = parseTime(evidence.until) ?? parseTime(evidence.at);
  const answer = await source.series(evidence.node, [evidence.metric], isoTime(view.all[0]), isoTime(view.all[1]), 900);
  const has = (s) => Object.entries(evidence.labels || {}).every(([k, v]) => s.labels[k] === undefined || s.labels[k] === v);
  const strands = answer.series.filter((s) => s.metric === evidence.metric && has(s)).slice(0, 8);
  if (strands.length === 0) return h("p", { class: "muted" }, "the samples of " + evidence.metric + " are " + (source.inArchive || "not in the case file"));
  if (from !== null && until !== null) {
    const margin = Math.max((until - from) * 0.5, 20000);
    lookAround((from + until) / 2, until - from + 2 * margin);
  }
  return chart({ title: metricTitle(evidence.metric), metric: evidence.metric, answer, strands, gaps: [],
    refine: source.live ? (a, b, cols) => source.series(evidence.node, [evidence.metric], isoTime(a), isoTime(b), cols) : null });
}

async function oneEvidence(source, review, ref) {
  const cited = await source.evidence(ref);
  const e = cited.evidence;
  const findings = review.findings.filter((f) => f.evidence.some((one) => one.ref === ref));
  const part = e.kind === "series" && e.metric && e.node ? await samples(source, e) : null;
  return h("article", null,
    h("h2", null, ref, " ", h("span", { class: "muted" }, [e.kind, e.node, e.at && clock(parseTime(e.at))].filter(Boolean).join(" · "))),
    h("blockquote", null, h("code", null, e.text)),
    e.value !== undefined && e.value !== null && h("p", null, "value ", h("b", null, amount(e.value, e.unit)), e.metric && [" of ", h("code", null, e.metric)]),
    findings.map((f) => h("p", { class: "rests" }, badge(f.severity), " ", link(f.id + " " + f.summary, () => showAt(f)), " rests on it")),
    h("p", { class: "buttons" }, link("copy as citation", () => copy(citation(review, findings[0] || {}, e))),
      e.at && link("on the timeline", () => {
        go({ screen: "timeline", node: e.node });
        lookAround(parseTime(e.at), 120000);
      }),
      e.node && link("the node", () => go({ screen: "node", node: e.node }))),
    part,
    cited.unread && h("p", { class: "bad" }, cited.unread),
    cited.around && [entryFacts(cited.around, review), rawLines(cited.around, e.line)],
    !cited.around && e.entry && h("p", { class: "muted" }, "in ", h("code", null, e.entry)));
}

export async function evidenceScreen(source, at) {
  const review = await source.review();
  const all = review.findings.flatMap((f) => f.evidence.map((e) => ({ e, f })));
  const body = h("div", { class: "evidence-body" });
  const ref = at.e || (at.entry ? null : all.length > 0 ? all[0].e.ref : null);
  const show = async () => {
    try {
      if (ref) replace(body, await oneEvidence(source, review, ref));
      else if (at.entry) {
        const around = await source.lines(at.entry, Number(at.line) || 1, 40);
        replace(body, h("h2", null, "line " + (at.line || 1)), entryFacts(around, review), rawLines(around, Number(at.line) || 1));
      } else replace(body, h("p", { class: "muted" }, "Nothing is cited: there are no findings."));
    } catch (error) {
      replace(body, h("p", { class: "muted" }, error.message));
    }
  };
  await show();
  const index = h("nav", { class: "evidence-index", "aria-label": "all evidence" }, all.slice(0, 400).map(({ e, f }) => h("button", {
    type: "button", class: e.ref === ref ? "chosen" : null, on: { click: () => go({ screen: "evidence", e: e.ref, entry: null, line: null }) },
  }, h("span", { class: "sev " + f.severity }, e.ref), h("span", { class: "node" }, e.node || "all"), h("span", { class: "text" }, e.text))));
  return h("div", { class: "evidence-screen" }, index, body);
}
