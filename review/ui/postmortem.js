// A post-mortem to begin with: what the case file knows, with its evidence; what only people know is left to them.

import { copy, h, link, markdownText } from "./dom.js";
import { clock, parseTime } from "./words.js";
import { bookmarks } from "./timeline.js";
import { cite, citedText } from "./verdict.js";

function asMarkdown(sections, title) {
  const cell = markdownText;
  const out = ["# Post-mortem: " + cell(title)];
  for (const s of sections) {
    out.push("", "## " + cell(s.title), "");
    for (const text of s.known) out.push("- " + cell(text));
    if (s.rows && s.rows.length > 0) {
      out.push("| Time (UTC) | Event | Data |", "| --- | --- | --- |");
      for (const [time, what, ref] of s.rows) out.push("| " + cell(time) + " | " + cell(what) + " | " + cell(ref) + " |");
    }
    if (s.todo) out.push("", "_TODO: " + cell(s.todo) + "_");
  }
  return out.join("\n") + "\n";
}

export async function postmortemScreen(source) {
  const [review, draft] = await Promise.all([source.review(), source.postmortem()]);
  const title = (review.incident.id || "") + " " + review.incident.title;
  const sections = draft.sections.map((s) => s.title !== "Timeline" ? s : {
    ...s, rows: [...(s.rows || []), ...bookmarks().map((mark) => [mark.datetime, "⚑ " + mark.note, ""])].sort((a, b) => parseTime(a[0]) - parseTime(b[0])),
  });
  return h("article", { class: "postmortem-screen" },
    h("div", { class: "tools" }, link("copy as Markdown", () => copy(asMarkdown(sections, title))), h("span", { class: "muted" }, "a draft: facts with their evidence; causes and lessons are for people")),
    sections.map((s) => h("section", null, h("h2", null, s.title),
      s.known.length > 0 && h("ul", null, s.known.map((text) => h("li", null, citedText(text)))),
      s.rows && s.rows.length > 0 && h("div", { class: "scroll" }, h("table", { class: "rows" },
        h("thead", null, h("tr", null, h("th", { scope: "col" }, "time"), h("th", { scope: "col" }, "event"), h("th", { scope: "col" }, "data"))),
        h("tbody", null, s.rows.map(([time, what, ref]) => h("tr", null, h("td", { class: "time" }, clock(parseTime(time))), h("td", { class: "text" }, what), h("td", { class: "cite" }, ref && cite(ref))))))),
      s.todo && h("p", { class: "todo" }, "TODO " + s.todo))));
}
