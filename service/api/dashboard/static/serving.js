// What serves: engines of every deployment, and the parts of the service.
import { byId, element, light, setText, Table } from "./dom.js";
import * as words from "./words.js";

const READINESS = {
  ready: ["good", "ready"], degraded: ["warn", "degraded"], not_ready: ["bad", "not ready"],
  draining: ["warn", "shutting down"],
};
const PARTS = { ok: ["good", "well"], degraded: ["warn", "degraded"], failed: ["bad", "failed"] };

const word = (text) => ({ text, words: true });

export class Serving {
  constructor() {
    this.engines = new Table("Engines in the order in which they are asked, over all workers", [
      word("deployment"), word("model"), word("engine"), word("state"), "rows scored", "calls",
      "failed calls", "rows waiting", word("why, or the last error"),
    ], { stack: true });
    this.modes = new Table("What each mode of the cache costs against exact scores, on held-out " +
      "rows, with 95 % intervals; rows are saved once all are cached", [
      word("model"), word("mode"), "scored exactly", "rows saved", "NDCG", "AUC of lists",
      "same top",
    ], { stack: true });
    this.parts = new Table("Parts of the service, as this worker sees them",
      [word("part"), word("state"), word("what that means")], { stack: true });
  }

  take({ readiness, models }) {
    const badge = byId("readiness");
    const [tone, told] = READINESS[readiness.status];
    badge.className = `badge ${tone}`;
    setText(badge, told);
    this.engines.rows(models.deployments.flatMap(rowsOf));
    this.parts.rows(Object.entries(readiness.components).map(([name, part]) => [
      name, light(...PARTS[part.status]), part.detail,
    ]));
    const modes = modesOf(models.deployments);
    this.modes.rows(modes);
    byId("modes").hidden = !modes.length;
    show("engines", this.engines);
    show("mode-costs", this.modes);
    show("parts", this.parts);
  }
}

function show(place, table) {
  if (!byId(place).contains(table.place)) byId(place).replaceChildren(table.place);
}

function rowsOf(deployment) {
  const { model } = deployment;
  const bundle = `${model.name}@${model.version}`;
  const name = `${bundle} ${model.precision}`;
  const serves = deployment.surfaces.length ? ` (${deployment.surfaces.join(", ")})` : "";
  if (!deployment.engines.length) {
    return [[deployment.name + serves, bundle, "none", light("good", "popularity"), null, null, null,
      null, "ranks by popularity, without asking the model"]];
  }
  return deployment.engines.map((engine) => [
    deployment.name + serves, name,
    engine.precision === model.precision ? engine.name : `${engine.name} (${engine.precision})`,
    element("span", {}, light(...ENGINE(engine)), element("span", { class: "quiet since" },
      ` since ${words.moment(engine.since)}`)),
    words.count(engine.rows), words.count(engine.calls), words.count(engine.failed_calls),
    words.count(deployment.queue_rows), engine.last_error,
  ]);
}

// Of each bundle once: what was measured last, else what its manifest says.
function modesOf(deployments) {
  const measured = new Map(deployments.map(({ model, cache_modes, cache_evaluation }) => [
    `${model.name}@${model.version}`, (cache_evaluation ?? cache_modes)?.modes ?? [],
  ]).filter(([, modes]) => modes.length));
  return [...measured].flatMap(([name, modes]) => modes.map((mode) => [
    name, mode.mode, mode.top ?? null, words.percent(mode.rows_saved, 0), cost(mode, "ndcg"),
    cost(mode, "list_auc"), mode.figures.overlap ? words.percent(mode.figures.overlap.value) : null,
  ]));
}

// The figure of exact scores; how that of another mode differs.
function cost({ figures, change }, name) {
  const one = change[name];
  if (one === undefined) return figures[name]?.value.toFixed(4) ?? null;
  const [value, low, high] = [one.value, one.low, one.high].map(words.difference);
  return `${value} (${low} to ${high})`;
}

const ENGINE = (engine) => words.ENGINES[engine.status] ?? ["warn", engine.status];
