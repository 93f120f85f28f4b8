// A node against another: only what differs, by how much.

import { h, link, replace, table } from "./dom.js";
import { amount, isoTime, labelText, metricTitle, parseTime, second } from "./words.js";
import { go, view } from "./state.js";
import { nodePicker } from "./node.js";

// What stands for the node itself, over the four windows before.
const ITSELF = "~before";

// Of what a counter counts, a second: "bytes/second" is a unit of its own, "seconds/second" a part of the time.
function perSecond(unit) {
  return unit.endsWith("/second") ? [unit.slice(0, -7), "counter"] : [unit, "gauge"];
}

function sides(row) {
  const [unit, kind] = perSecond(row.unit);
  const of = (s) => s ? [amount(s.mean, unit, kind), h("span", { class: "muted" }, " p95 " + amount(s.p95, unit, kind) + ", max " + amount(s.max, unit, kind))] : h("span", { class: "muted" }, "not read");
  return [of(row.a), of(row.b)];
}

export async function compareScreen(source, at) {
  const review = await source.review();
  const worst = review.findings.find((f) => f.node);
  const a = at.a || at.node || (worst && worst.node) || (review.nodes[0] || {}).node;
  const pairs = source.pairs();
  const known = pairs && pairs.find(([x]) => x === a);
  const whole = view.from <= view.all[0] && view.until >= view.all[1];
  // Without a word the other node is one of the same kind of which nothing was found: whoever answers knows which.
  const b = at.b || (known ? known[1] : null);
  const other = nodePicker(review, b, (n) => go({ a, b: n || null }), "the other node");
  if (!pairs) {
    other.prepend(h("option", { value: "", selected: !b }, "a healthy one like it"));
    if (!whole) other.append(h("option", { value: ITSELF, selected: b === ITSELF }, "itself, before"));
  }
  const tools = h("div", { class: "tools" }, nodePicker(review, a, (n) => go({ a: n, b: null }), "the node"), h("span", { class: "muted" }, "against"),
    other, b && b !== ITSELF && link("swap", () => go({ a: b, b: a })));
  const body = h("div", null, h("p", { class: "muted" }, "comparing …"));
  const show = async () => {
    if (!a || a === b || review.nodes.length < 2 && b !== ITSELF) {
      replace(body, h("p", { class: "muted" }, review.nodes.length < 2 ? "There is only one node in this case file: nothing to compare it with." : "Two different nodes can be compared."));
      return;
    }
    try {
      const answer = whole || pairs ? await source.compare(a, b) : await source.compare(a, b, isoTime(view.from), isoTime(view.until));
      const size = (r) => Math.min(Math.abs(r.effect ?? 0), 20);
      const top = Math.max(1e-9, ...answer.rows.map(size));
      const bar = (r) => r.effect === null ? h("span", { class: "muted" }, "only " + (r.a ? answer.a : answer.b))
        : h("span", { class: "measure", title: "effect size " + r.effect.toFixed(1) }, h("i", { class: r.effect < 0 ? "less" : "more", style: { width: Math.max(2, Math.round(size(r) / top * 100)) + "%" } }));
      const rows = answer.rows.map((r) => [
        h("span", { class: "metric", title: r.metric }, link(metricTitle(r.metric), () => go({ screen: "node", node: a, m: r.metric })), " ", h("span", { class: "muted" }, labelText(r.labels || {}))),
        ...sides(r), bar(r)]);
      replace(body,
        h("p", { class: "muted" }, answer.a + " against " + (answer.b_window ? "itself " + second(parseTime(answer.b_window.from)) + " – " + second(parseTime(answer.b_window.until)) : answer.b) + ", " + second(parseTime(answer.from)) + " – " + second(parseTime(answer.until))
          + "; mean first; the longer the bar, the more they differ than either varies; " + answer.alike + " series are alike" + (answer.more > 0 ? ", " + answer.more + " more differ less" : "")),
        rows.length === 0 ? h("p", null, "Nothing that was read of both differs.") : table([{ title: "what" }, { title: answer.a, class: "num" }, { title: answer.b_window ? "before" : answer.b, class: "num" }, { title: "difference", class: "bars" }], rows, { class: "rows compare" }),
        h("h2", null, "What they are"),
        answer.changes && answer.changes.length > 0 ? table([{ title: "what" }, { title: answer.a }, { title: answer.b_window ? "before" : answer.b }], answer.changes.map((c) => [c.what, c.a ?? "–", c.b ?? "–"]), { class: "rows" })
          : h("p", { class: "muted" }, "no difference in kernel, drivers, settings, mounts and routes as they were recorded"));
    } catch (error) {
      replace(body, h("p", { class: "muted" }, error.message),
        pairs && pairs.length > 0 && h("p", null, "In this report: ", pairs.map(([x, y]) => link(x + " against " + y, () => go({ a: x, b: y }), { class: "link item" }))));
    }
  };
  show();
  return h("div", { class: "compare-screen" }, tools, body);
}
