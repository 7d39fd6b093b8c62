// Elements made and changed; text is always text, never markup.

export const byId = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...content) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...content.flat().filter((part) => part !== null && part !== undefined));
  return made;
}

export function drawing(tag, attributes = {}, ...content) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...content);
  return made;
}

// Changes text only if it is another: screen readers announce every change.
export function setText(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

// A state that shape and word tell as well as colour.
export function light(tone, words) {
  const sign = { good: "✓", warn: "!", bad: "✕", quiet: "○" }[tone];
  return element("span", { class: `light ${tone}` },
    element("span", { class: "sign", "aria-hidden": "true" }, sign), words);
}

// A table whose rows are put in later; it scrolls by itself where it is too wide, or, as a
// `stack`, stands below itself there. The roles say that it is a table all the same.
export class Table {
  constructor(caption, heads, { stack = false } = {}) {
    this.body = element("tbody", { role: "rowgroup" });
    this.head = element("tr", { role: "row" });
    this.place = element("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": caption },
      element("table", { role: "table", class: stack ? "stack" : null },
        element("caption", { class: "quiet" }, caption),
        element("thead", { role: "rowgroup" }, this.head), this.body));
    this.heads(heads);
  }

  // Columns: text, or {text, words: true} for those that hold words.
  heads(heads) {
    const told = JSON.stringify(heads);
    if (told === this.told) return;
    this.told = told;
    this.columns = heads.map((head) => ({ name: head.text ?? head, kind: head.words ? "words" : null }));
    this.head.replaceChildren(...this.columns.map(({ name, kind }) =>
      element("th", { role: "columnheader", scope: "col", class: kind }, name)));
  }

  rows(rows) {
    this.body.replaceChildren(...rows.map((row) => element("tr", { role: "row" }, row.map((value, at) => {
      const { name, kind } = this.columns[at];
      return at === 0 ? element("th", { role: "rowheader", scope: "row", class: kind }, value)
        : element("td", {
          role: "cell", "data-head": name,
          class: value === null || value === undefined ? `${kind ?? ""} none` : kind,
        }, value ?? "–");
    }))));
  }
}
