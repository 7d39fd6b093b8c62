// Reads the public API every few seconds and shows what it says.
"use strict";

const REFRESH_MS = 5000;
const KEY = "podium-api-key";
const byId = (id) => document.getElementById(id);

async function read(path) {
  const key = sessionStorage.getItem(KEY);
  const answer = await fetch(path, { headers: key ? { Authorization: `Bearer ${key}` } : {} });
  if (answer.status === 401 || answer.status === 403) byId("key-form").hidden = false;
  const body = await answer.json();
  if (!answer.ok && !body.components) throw new Error(body.detail || `HTTP ${answer.status}`);
  return body;
}

function element(tag, content, attributes = {}) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...[content].flat().filter((part) => part !== null && part !== undefined));
  return made;
}

const TEXT_COLUMNS = new Set(["engines", "detail", "state", "model"]);

function table(caption, heads, rows) {
  const cell = (tag) => (value) => value instanceof Node && value.nodeName === "TD"
    ? value : element(tag, value === null || value === undefined ? "–" : value);
  const body = rows.map((row) => element("tr", row.map((value, at) =>
    at === 0 ? element("th", value, { scope: "row" }) : cell("td")(value))));
  return element("div", element("table", [
    element("caption", caption, { class: "quiet" }),
    element("thead", element("tr", heads.map((head) => element("th", head,
      { scope: "col", class: TEXT_COLUMNS.has(head) ? "text" : "" })))),
    element("tbody", body),
  ]), { class: "scroll" });
}

const count = (value) => value.toLocaleString("en");
const percent = (value, digits = 2) => value === null || value === undefined
  ? "–" : `${(100 * value).toFixed(digits)} %`;
const ms = (value) => value === null || value === undefined ? "–" : value.toFixed(1);

function withInterval(measure, show) {
  if (measure.value === null) return element("td", "–", { title: measure.missing || "" });
  const text = measure.low === null ? show(measure.value)
    : `${show(measure.value)} [${show(measure.low)}, ${show(measure.high)}]`;
  return element("td", text, measure.missing ? { title: measure.missing } : {});
}

function intervalPicture(measure, range) {
  const space = "http://www.w3.org/2000/svg";
  const cell = element("td", []);
  if (measure.low === null || measure.value === null) return cell;
  const at = (value) => 4 + 136 * (value - range.low) / (range.high - range.low || 1);
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("class", "interval");
  svg.setAttribute("viewBox", "0 0 144 16");
  svg.setAttribute("aria-hidden", "true");
  const draw = (tag, attributes) => {
    const shape = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(attributes)) shape.setAttribute(name, value);
    svg.append(shape);
  };
  draw("line", { x1: at(measure.low), x2: at(measure.high), y1: 8, y2: 8 });
  draw("circle", { cx: at(measure.value), cy: 8, r: 4 });
  cell.append(svg);
  return cell;
}

function against(difference) {
  if (!difference) return "control";
  if (!difference.ctr) return element("td", "–", { title: difference.missing || "" });
  return withInterval(difference.ctr.relative, (value) => percent(value, 1));
}

const SPLIT = {
  ok: ["good", "users split as planned"],
  mismatch: ["bad", "users did not split as planned: do not trust this comparison"],
  unknown: ["quiet", "too few users to check the split"],
};

function experiment(report) {
  const measures = report.variants.map((variant) => variant.ctr).filter((m) => m.low !== null);
  const range = {
    low: Math.min(...measures.map((m) => m.low)), high: Math.max(...measures.map((m) => m.high)),
  };
  const rows = report.variants.map((variant) => [
    variant.name, count(variant.users), count(variant.exposures), count(variant.impressions),
    count(variant.clicks), withInterval(variant.ctr, percent), intervalPicture(variant.ctr, range),
    against(variant.difference),
    ms(variant.latency_ms.all.p50.value), ms(variant.latency_ms.all.p95.value),
    ms(variant.latency_ms.all.p99.value), percent(variant.cache.hit_rate, 1),
    percent(variant.degraded_share, 2),
  ]);
  const [tone, words] = SPLIT[report.split.verdict];
  return [
    element("h3", `${report.key} · ${report.state} · phase ${report.phase}`),
    element("p", report.verdict),
    element("p", words, { class: tone }),
    table(`${Math.round(100 * report.confidence)} % intervals`,
      ["variant", "users", "slates", "impressions", "clicks", "CTR", "", "against control",
        "p50 ms", "p95 ms", "p99 ms", "hit rate", "degraded"], rows),
    ...report.notes.map((note) => element("p", note, { class: "quiet" })),
  ];
}

async function showExperiments() {
  const { experiments } = await read("/v1/experiments");
  const reports = await Promise.all(
    experiments.map((e) => read(`/v1/experiments/${encodeURIComponent(e.key)}/report`)));
  const shown = reports.flatMap(experiment);
  byId("experiments").replaceChildren(
    ...(shown.length ? shown : [element("p", "No experiment is defined.", { class: "quiet" })]));
}

async function showModels() {
  const { deployments } = await read("/v1/models");
  const rows = deployments.map((d) => [
    d.name, element("td", `${d.model.name}@${d.model.version}`, { class: "text" }), d.model.precision,
    element("td", d.engines.length ? d.engines.map((engine) => element("span",
      `${engine.name}: ${engine.status}, ${count(engine.rows)} rows, ${count(engine.calls)} calls`,
      { class: engine.status === "ready" ? "good" : "bad" })) : "popularity", { class: "text" }),
    d.cache, d.surfaces.join(", ") || "–", count(d.queue_rows), ...(d.quality
      ? [d.quality.auc, d.quality.log_loss, d.quality.ndcg_at_10].map((q) => q.toFixed(4))
      : [null, null, null]),
  ]);
  byId("models").replaceChildren(table("quality on held-out rows", ["deployment", "model",
    "precision", "engines", "cache", "surfaces", "rows queued", "AUC", "log loss", "NDCG@10"], rows));
}

async function showReadiness() {
  const readiness = await read("/health/ready");
  const badge = byId("readiness");
  badge.textContent = readiness.status;
  badge.className = `badge ${{ ready: "good", degraded: "warn" }[readiness.status] || "bad"}`;
  byId("components").replaceChildren(table("as the service sees them", ["component", "state", "detail"],
    Object.entries(readiness.components).map(([name, component]) => [
      name, element("td", component.status, { class: `text ${component.status === "ok" ? "good" : "warn"}` }),
      element("td", component.detail || "–", { class: "text" })])));
}

async function refresh() {
  const trouble = byId("trouble");
  const outcomes = await Promise.allSettled([showReadiness(), showExperiments(), showModels()]);
  const failed = outcomes.filter((outcome) => outcome.status === "rejected");
  trouble.hidden = failed.length === 0;
  trouble.textContent = failed.map((outcome) => outcome.reason.message).join("; ");
  byId("as-of").textContent = new Date().toLocaleTimeString();
  setTimeout(refresh, REFRESH_MS);
}

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, byId("key").value);
  byId("key-form").hidden = true;
});
refresh();
