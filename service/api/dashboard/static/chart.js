// A chart and the table behind it, always of the same numbers.
import { element, Table } from "./dom.js";

const HEIGHT = 190;
const MOST_ROWS = 60;
// Lines differ by dashes and not by colour alone.
const DASHES = [[], [7, 4], [2, 3], [11, 4, 2, 4], [4, 2], [14, 5]];
const COLOURS = 6;

// A variant looks the same wherever it is drawn: numbered as it is first met, past the number
// of rankings outside experiments, which nothing else has.
const OUTSIDE = COLOURS - 1;
const met = new Map([["none", OUTSIDE]]);
export function lineOf(label) {
  if (!met.has(label)) met.set(label, met.size - 1 < OUTSIDE ? met.size - 1 : met.size);
  return met.get(label);
}

// Past the first six the same colours come back with other dashes: 31 lines that differ.
export const colourOf = (at) => (at < COLOURS ? at : (at - COLOURS) % OUTSIDE) + 1;
export function dashOf(at) {
  const round = at < COLOURS ? 0 : 1 + Math.floor((at - COLOURS) / OUTSIDE);
  return DASHES[(colourOf(at) - 1 + round) % DASHES.length];
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const lineColour = (at) => colour(`--line-${colourOf(at)}`);
const dark = matchMedia("(prefers-color-scheme: dark)");

export class Chart {
  // `told`: {title, about, value: number to words, empty: what to say without data,
  // bars: whether it is a histogram, kind: what a row of the table is}.
  constructor(told) {
    this.told = told;
    this.series = [];
    this.columns = [[]];
    this.legend = element("ul", { class: "legend" });
    this.plot = element("div", { class: "plot", role: "img" });
    this.empty = element("p", { class: "empty quiet" }, told.empty);
    this.table = new Table(`${told.title}: the figures`, []);
    this.figures = element("details", { class: "figures" },
      element("summary", {}, "Figures"), this.table.place);
    this.place = element("figure", { class: "card chart", "data-chart": told.name },
      element("figcaption", {}, element("h2", {}, told.title),
        element("p", { class: "quiet" }, told.about)),
      told.choice ?? null, this.legend, this.plot, this.empty, this.figures);
    this.place.chart = this;
    this.figures.addEventListener("toggle", () => this.fillTable());
    new ResizeObserver(() => this.fit()).observe(this.plot);
    dark.addEventListener("change", () => this.make());
  }

  // `columns`: x, then one list per series; `series`: names; `lines`: how each is drawn, where
  // that is not by its place; `labels`: of x, for a histogram.
  show(series, columns, { lines = series.map((_, at) => at), labels = null } = {}) {
    const others = JSON.stringify([series, lines, labels]) !== this.shown;
    this.shown = JSON.stringify([series, lines, labels]);
    [this.series, this.columns, this.lines, this.labels] = [series, columns, lines, labels];
    const some = columns.slice(1).some((values) => values.some((value) => value !== null && value > 0));
    this.empty.hidden = some;
    this.plot.hidden = !some;
    this.legend.hidden = !some;
    if (!some) this.drop();
    else if (others || !this.drawn) this.make();
    else this.drawn.setData(columns);
    this.describe();
    if (this.figures.open) this.fillTable();
  }

  drop() {
    this.drawn?.destroy();
    this.drawn = null;
  }

  make() {
    if (this.plot.hidden || !this.columns[0].length) return;
    this.drop();
    this.drawn = new uPlot(this.options(), this.columns, this.plot);
  }

  fit() {
    const width = this.plot.clientWidth;
    if (this.drawn && width && width !== this.drawn.width) this.drawn.setSize({ width, height: HEIGHT });
  }

  options() {
    const axis = {
      stroke: colour("--quiet"), font: "12px system-ui, sans-serif",
      grid: { stroke: colour("--grid"), width: 1 }, ticks: { show: false },
    };
    const y = { ...axis, size: 62, values: (_, values) => values.map((value) => this.told.value(value)) };
    const bars = this.told.bars;
    return {
      width: this.plot.clientWidth || 300,
      height: HEIGHT,
      padding: [8, 26, 0, 0], // the last time stands half beyond the last point
      legend: { show: false },
      cursor: { drag: { x: false, y: false }, points: { size: 6 }, sync: bars ? {} : { key: "time" } },
      scales: {
        x: bars ? { time: false, range: (_, low, high) => [low - 0.6, high + 0.6] }
          : { time: true, range: (_, low, high) => [Math.min(low, high - 60), high] },
        y: { range: (_, __, high) => [0, high > 0 ? 1.08 * high : 1] },
      },
      axes: [bars ? {
        ...axis, grid: { show: false }, splits: () => this.columns[0],
        values: () => this.labels, space: 20, size: 34,
      } : { ...axis, space: 70, size: 34, values: [
        [60, "{HH}:{mm}", null, null, null, null, null, null, 1],
        [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1],
      ] }, y],
      series: [{}, ...this.series.map((name, at) => ({
        label: name,
        stroke: lineColour(this.lines[at]),
        width: bars ? 0 : 1.75,
        dash: bars ? undefined : dashOf(this.lines[at]),
        fill: bars ? lineColour(this.lines[at]) : undefined,
        paths: bars ? uPlot.paths.bars({ size: [0.78, 60] }) : undefined,
        points: { show: !bars && this.columns[0].length < 3 },
        spanGaps: false,
      }))],
    };
  }

  // The legend with the newest values, and the same in words for who cannot see the picture.
  describe() {
    const newest = this.series.map((_, at) => this.columns[at + 1].findLast((v) => v !== null) ?? null);
    const values = newest.map((value) => (value === null ? "–" : this.told.value(value)));
    this.legend.replaceChildren(...this.series.map((name, at) => element("li", {},
      swatch(this.lines[at], this.told.bars), name, this.told.bars ? null : element("b", {}, values[at]))));
    const words = this.series.map((name, at) => `${name} ${values[at]}`).join(", ");
    this.plot.setAttribute("aria-label", this.told.bars ? `${this.told.title}, as a bar chart`
      : `${this.told.title} over time; newest: ${words}`);
  }

  fillTable() {
    this.table.heads([this.told.kind, ...this.series]);
    const rows = this.columns[0].map((x, at) => [
      this.labels ? this.labels[at] : new Date(1000 * x).toLocaleTimeString([], { hour12: false }),
      ...this.series.map((_, of) => {
        const value = this.columns[of + 1][at];
        return value === null || value === undefined ? "–" : this.told.value(value);
      }),
    ]);
    this.table.rows(this.labels ? rows : rows.reverse().slice(0, MOST_ROWS));
  }
}

function swatch(at, filled) {
  const line = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  line.setAttribute("class", `swatch line-${colourOf(at)}`);
  line.setAttribute("viewBox", "0 0 26 10");
  line.setAttribute("aria-hidden", "true");
  const shape = document.createElementNS(line.namespaceURI, filled ? "rect" : "line");
  const drawn = filled ? { x: 8, y: 0, width: 10, height: 10, class: "fill" }
    : { x1: 0, x2: 26, y1: 5, y2: 5, "stroke-dasharray": dashOf(at).join(" ") };
  for (const [name, value] of Object.entries(drawn)) shape.setAttribute(name, value);
  line.append(shape);
  return line;
}
