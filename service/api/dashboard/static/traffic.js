// Charts of what the service does over time, from the points of all workers.
import { byId, element } from "./dom.js";
import { Chart, lineOf } from "./chart.js";
import * as words from "./words.js";

const NO_TRAFFIC = "No rankings in the last ten minutes. Send one to POST /v1/rank; "
  + "the service prints a command for it when it starts, and `podium simulate` plays shoppers.";
const BOUNDS = ["1", "2", "4", "8", "16", "32", "64", "128", "256", "400", "512", "1024", "2048",
  "4096", "more"];
const DEGRADED = { fallback_engine: "by another engine", stale: "stale", popularity: "by popularity" };
const FAILED = ["unavailable", "error"];

const sum = (counts) => Object.values(counts ?? {}).reduce((all, one) => all + one, 0);

export class Traffic {
  constructor() {
    this.points = new Map();
    this.slot = 2;
    this.kept = 600;
    this.quantile = "p99";
    this.picked = "";
    this.picker = element("select", {});
    this.picker.addEventListener("change", () => {
      this.picked = this.picker.value;
      this.draw();
    });
    const seconds = "time";
    this.rates = new Chart({ name: "traffic", title: "Traffic",
      about: "Rankings a second over the last ten seconds, by variant", value: words.rate, empty: NO_TRAFFIC, kind: seconds,
      choice: element("label", { class: "choice", hidden: "" }, element("span", { class: "unseen" },
        "Experiment, for traffic and latency"), this.picker) });
    this.latency = new Chart({ name: "latency", title: "Latency",
      about: "Of the last ten seconds, from arrival to slate, by variant", value: words.ms,
      empty: NO_TRAFFIC, kind: seconds, choice: this.choice() });
    this.hits = new Chart({ name: "hits", title: "Cache hits",
      about: "Share of the rankings that asked the cache", value: words.percent,
      empty: "No ranking asked the cache in the last ten minutes: there was none, or no deployment "
        + "that serves has a cache.", kind: seconds });
    this.queue = new Chart({ name: "queue", title: "Queue wait",
      about: "Of the last ten seconds, from a job's arrival to its batch", value: words.ms,
      empty: "Nothing waited for an engine in the last ten minutes: there was no traffic, or the "
        + "cache and popularity answered all of it.", kind: seconds });
    this.batches = new Chart({ name: "batches", title: "Batch sizes",
      about: "Batches of the last ten minutes by their rows, up to the bound", value: words.count,
      empty: "No batch was scored in the last ten minutes.", kind: "rows, up to", bars: true });
    this.trouble = new Chart({ name: "trouble", title: "Sheds, degraded and failed",
      about: "Rankings a second", value: words.rate, kind: seconds,
      empty: "Nothing was refused, degraded or failed in the last ten minutes." });
    byId("charts-first").append(this.rates.place, this.latency.place);
    byId("charts-second").append(this.hits.place, this.queue.place, this.batches.place,
      this.trouble.place);
  }

  choice() {
    return element("fieldset", { class: "choice" },
      element("legend", { class: "unseen" }, "Quantile"),
      ["p50", "p95", "p99"].map((name) => {
        const input = element("input", { type: "radio", name: "quantile", value: name });
        input.checked = name === this.quantile;
        input.addEventListener("change", () => {
          this.quantile = name;
          this.draw();
        });
        return element("label", {}, input, name);
      }));
  }

  begin(hello) {
    [this.slot, this.kept] = [hello.slot_s, hello.kept_s];
  }

  take(points) {
    for (const point of points) this.points.set(point.at, point);
    const newest = Math.max(...this.points.keys());
    for (const at of this.points.keys()) if (at <= newest - this.kept) this.points.delete(at);
    this.draw();
  }

  draw() {
    const shown = [...this.points.values()].sort((one, other) => one.at - other.at);
    if (!shown.length) return;
    const times = shown.flatMap((point, at) => this.gapBefore(shown, at) ? [point.at - this.slot, point.at]
      : [point.at]);
    // A line for each; where the service was away there is none.
    const line = (value) => shown.flatMap((point, at) => this.gapBefore(shown, at)
      ? [null, value(point)] : [value(point)]);
    this.drawVariants(shown, times, line);
    this.drawCache(times, line);
    this.queue.show(["p50", "p95", "p99"], [times,
      ...["p50", "p95", "p99"].map((q) => line((point) => point.queue_ms?.[q] ?? null))]);
    this.drawBatches(shown);
    this.drawTrouble(times, line);
    this.tiles(shown);
  }

  gapBefore(shown, at) {
    return at > 0 && shown[at].at - shown[at - 1].at > 1.5 * this.slot;
  }

  // The experiments to pick from, where there are so many that their lines hide each other.
  pick(labels) {
    const keys = [...new Set(labels.filter((label) => label !== "none").map((label) => label.split(":")[0]))];
    if (!keys.includes(this.picked)) this.picked = "";
    const told = JSON.stringify(keys);
    if (told !== this.pickerTold) {
      this.pickerTold = told;
      this.picker.parentElement.hidden = keys.length < 2;
      this.picker.replaceChildren(element("option", { value: "" }, "all experiments"),
        ...keys.map((key) => element("option", { value: key }, key)));
      this.picker.value = this.picked;
    }
    return labels.filter((label) => !this.picked || label.startsWith(`${this.picked}:`));
  }

  drawVariants(shown, times, line) {
    const labels = this.pick(
      [...new Set(shown.flatMap((point) => Object.keys(point.variants ?? {})))].sort());
    const names = labels.map((label) => words.variantName(label, labels));
    const lines = labels.map(lineOf);
    this.rates.show(names, [times,
      ...labels.map((label) => line((point) => point.variants?.[label]?.per_s ?? 0))], { lines });
    this.latency.show(names.map((name) => `${name}, ${this.quantile}`), [times,
      ...labels.map((label) => line((point) => point.variants?.[label]?.ms?.[this.quantile] ?? null))],
    { lines });
  }

  drawCache(times, line) {
    const part = (count) => line((point) => {
      const asked = sum(point.cache) - (point.cache?.bypass ?? 0);
      return asked ? count(point) / asked : null;
    });
    this.hits.show(["hit or stale", "in this process", "on the server", "in part"], [times,
      part((point) => (point.cache.hit ?? 0) + (point.cache.stale ?? 0)),
      part((point) => point.levels?.process ?? 0),
      part((point) => point.levels?.server ?? 0),
      part((point) => point.cache.partial ?? 0)]);
  }

  drawBatches(shown) {
    const found = new Map();
    for (const point of shown) {
      for (const [bound, batches] of Object.entries(point.batches ?? {})) {
        found.set(bound, (found.get(bound) ?? 0) + batches);
      }
    }
    const used = BOUNDS.map((bound, at) => (found.has(bound) ? at : -1)).filter((at) => at >= 0);
    const labels = used.length ? BOUNDS.slice(Math.min(...used), Math.max(...used) + 1) : [];
    this.batches.show(["batches"], [labels.map((_, at) => at),
      labels.map((bound) => found.get(bound) ?? 0)], { labels });
  }

  drawTrouble(times, line) {
    const lines = [
      ["refused", (point) => sum(point.shed)],
      ["past their deadline", (point) => point.expired ?? 0],
      ...Object.entries(DEGRADED).map(([reason, name]) => [name, (point) => point.degraded?.[reason] ?? 0]),
      ["failed", (point) => FAILED.reduce((all, one) => all + (point.outcomes?.[one] ?? 0), 0)],
    ];
    this.trouble.show(lines.map(([name]) => name),
      [times, ...lines.map(([, value]) => line((point) => value(point) / this.slot))]);
  }

  tiles(shown) {
    const last = shown.at(-1);
    const recent = shown.slice(-Math.round(60 / this.slot));
    const all = (value) => recent.reduce((total, point) => total + value(point), 0);
    const asked = all((point) => sum(point.cache) - (point.cache?.bypass ?? 0));
    const hits = all((point) => (point.cache?.hit ?? 0) + (point.cache?.stale ?? 0));
    const ended = all((point) => sum(point.outcomes));
    const less = all((point) => sum(point.shed) + sum(point.degraded));
    const batches = all((point) => sum(point.batches));
    const told = [
      ["Rankings / s", words.rate(last.everything?.per_s ?? 0), "10 s"],
      ["P50", words.ms(last.everything?.ms?.p50), "10 s"],
      ["P99", words.ms(last.everything?.ms?.p99), "10 s"],
      ["Cache hits", asked ? words.percent(hits / asked) : "–", "1 min"],
      ["Rows a batch", batches ? words.rate(all((point) => point.rows ?? 0) / batches) : "–", "1 min"],
      ["Shed, degraded", ended ? words.percent(less / ended) : "–", "1 min"],
    ];
    byId("tiles").replaceChildren(...told.map(([name, value, over]) => element("div", {},
      element("dt", {}, name, " ", element("span", { class: "quiet" }, over)),
      element("dd", {}, value))));
  }
}
