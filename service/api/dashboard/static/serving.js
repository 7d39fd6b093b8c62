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
    show("engines", this.engines);
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

const ENGINE = (engine) => words.ENGINES[engine.status] ?? ["warn", engine.status];
