// Elements out of data. Every text goes through visible() into a text node: nothing from a node or an archive is ever markup.

// What reorders, hides or controls text is shown as its number: an attacker wrote the log line.
// The ranges are those of display.rs.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb]|[\u{1bca0}-\u{1bca3}\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]/gu;

export function visible(text) {
  return String(text).replace(HIDDEN, (c) => "\\u{" + c.codePointAt(0).toString(16) + "}");
}

// JSON that means the same, in which nothing hides text or controls a terminal that it is pasted into.
export function safeJson(value) {
  const unit = (c, n) => "\\u" + c.charCodeAt(n).toString(16).padStart(4, "0");
  return JSON.stringify(value, null, 2).replace(HIDDEN, (c) => Array.from({ length: c.length }, (_, n) => unit(c, n)).join(""));
}

// Text that Markdown shows as it is, on one line: no markup, link, mention or element; as told.rs does it.
export function markdownText(text) {
  return visible(text).replace(/[\n\t]/g, " ").replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;")
    .replace(/[\\`*_{}[\]()#+!|~$^]/g, "\\$&").replace(/^[-=]/, "\\$&")
    .replace(/\/(?=\/)/g, "/\u200b").replaceAll("@", "@\u200b").replace(/www\./gi, (www) => www.slice(0, 3) + "\u200b.");
}

export function markdownCode(text) {
  return "`" + (visible(text).replace(/[\n\t]/g, " ").replaceAll("`", "'").replaceAll("|", "\\|").trim() || "(empty)") + "`";
}

// An element: attributes (on: {event: function}, style: {property: value}), then children: elements, texts, lists; null is nothing.
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") {
      for (const [event, run] of Object.entries(value)) element.addEventListener(event, run);
    } else if (name === "style") {
      for (const [property, to] of Object.entries(value)) element.style.setProperty(property, to);
    } else {
      element.setAttribute(name, value === true ? "" : visible(value));
    }
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children) {
    if (child === null || child === undefined || child === false) continue;
    if (Array.isArray(child)) append(element, child);
    else if (child instanceof Node) element.appendChild(child);
    else element.appendChild(document.createTextNode(visible(child)));
  }
}

export function replace(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

// A table: columns [{title, class}], rows of cells (a cell is what h() takes as a child).
export function table(columns, rows, attributes) {
  return h("div", { class: "scroll" },
    h("table", attributes,
      h("thead", null, h("tr", null, columns.map((c) => h("th", { class: c.class, scope: "col" }, c.title)))),
      h("tbody", null, rows.map((row) => row instanceof Node ? row
        : h("tr", null, row.map((cell, n) => h("td", { class: columns[n].class }, cell)))))));
}

export function link(text, run, attributes) {
  return h("button", { type: "button", class: "link", ...attributes, on: { click: (event) => { event.stopPropagation(); run(event); } } }, text);
}

let toastTimer = 0;

export function toast(text) {
  let box = document.getElementById("toast");
  if (!box) {
    box = h("div", { id: "toast", role: "status", "aria-live": "polite" });
    document.body.appendChild(box);
  }
  replace(box, text);
  box.classList.add("shown");
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => box.classList.remove("shown"), 3500);
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast("copied: " + (text.length > 120 ? text.slice(0, 120) + "…" : text));
  } catch {
    // Without permission (a file, a plain http address) the text is shown, to be copied by hand.
    ask("Copy this", text, null);
  }
}

// A dialog with one line of text; run(text) when it is accepted.
export function ask(title, value, run) {
  const input = h("textarea", { rows: run ? 1 : 6, "aria-label": title });
  input.value = value || "";
  const dialog = h("dialog", null,
    h("form", { method: "dialog" }, h("label", null, title, input),
      h("p", { class: "buttons" },
        h("button", { value: "no" }, "close"), run && h("button", { value: "yes", class: "primary" }, "ok"))));
  input.addEventListener("keydown", (event) => {
    event.stopPropagation();
    if (event.key === "Enter" && run) {
      event.preventDefault();
      dialog.close("yes");
    }
  });
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (dialog.returnValue === "yes" && run) run(input.value.trim());
  });
  document.body.appendChild(dialog);
  dialog.showModal();
  input.select();
}
