// Experiments: how each stands, its CTRs with intervals, and what was decided.
import { byId, drawing, element, light, setText, Table } from "./dom.js";
import { buttons } from "./actions.js";
import { colourOf, lineOf } from "./chart.js";
import * as words from "./words.js";

const NONE = "No experiment is defined. Name a file of experiments in the settings "
  + "([experiments] file = \"experiments.toml\"), and write one into it; it is read at once.";
const RULES = {
  automatic: "The rule moves the traffic, promotes and rolls back by itself.",
  dry_run: "The rule only records what it would do.",
  off: "People move the traffic; the rule does not.",
};

const STANDING = ["state", "phase", "generation", "since", "stage", "promoted", "traffic_bp"];

// Whether each unit sees one variant; else both are in every slate, and neither has a CTR.
const splits = (experiment) => experiment.method === "split";

// The standing of one in the place of another's, figures and the rest as they are.
const standingAs = (experiment, other) =>
  ({ ...experiment, ...Object.fromEntries(STANDING.map((name) => [name, other[name]])) });

export class Experiments {
  constructor() {
    this.cards = new Map();
    this.decided = new Decisions();
    this.all = [];
  }

  // Another service may be there after a pause: what was newest is not held against it.
  begin() {
    this.all = [];
  }

  take(told) {
    const known = new Map(this.all.map((one) => [one.key, one]));
    // A change is known here before every worker goes by it; none takes it back for a moment.
    this.show(told.map((one) => known.get(one.key)?.generation > one.generation
      ? standingAs(one, known.get(one.key)) : one));
  }

  show(experiments) {
    this.all = experiments;
    for (const one of experiments.filter(splits)) one.arms.forEach((arm) => lineOf(`${one.key}:${arm.name}`));
    const place = byId("experiments");
    const known = new Set(experiments.map((one) => one.key));
    for (const [key, card] of this.cards) {
      if (known.has(key)) continue;
      card.place.remove();
      this.cards.delete(key);
    }
    if (!experiments.length) {
      place.replaceChildren(element("p", { class: "card quiet" }, NONE));
    } else if (!this.cards.size) place.replaceChildren();
    for (const experiment of experiments) {
      if (!this.cards.has(experiment.key)) {
        const card = new Card(experiment.key, (standing) => this.stands(standing));
        this.cards.set(experiment.key, card);
        place.append(card.place);
      }
      this.cards.get(experiment.key).take(experiment);
    }
    this.decided.take(experiments);
  }

  // The answer to a change: shown at once, and not only with the next message.
  stands(standing) {
    this.show(this.all.map((one) => one.key !== standing.key ? one
      : standingAs(one, { ...standing, traffic_bp: standing.traffic_bp ?? one.traffic_bp })));
  }
}

class Card {
  constructor(key, changed) {
    const id = `experiment-${key}`;
    this.state = element("span");
    this.facts = element("p", { class: "quiet" });
    this.ladder = element("ol", { class: "ladder", "aria-label": "Stages of the rollout" });
    this.split = element("p");
    this.verdict = element("p", { class: "verdict" });
    this.intervals = element("div", { class: "intervals", role: "img" });
    this.notes = element("div");
    this.table = new Table(`${key}: the figures`, ["variant", "share", "users", "impressions", "clicks",
      "CTR", "low", "high", "against control", "low", "high", "p50", "p95", "p99", "hit rate",
      "degraded", "cost of 10⁶ rankings", "of 10⁶ predictions"]);
    this.buttons = buttons(key, changed);
    this.place = element("article", { class: "card experiment", "aria-labelledby": id, "data-key": key },
      element("div", { class: "headline" }, element("h3", { id }, key), this.state),
      this.facts, this.ladder, this.buttons.place, this.split, this.intervals, this.verdict, this.notes,
      element("details", { class: "figures" }, element("summary", {}, "Figures"), this.table.place));
  }

  take(experiment) {
    const { figures } = experiment;
    this.state.replaceChildren(light(...words.STATES[experiment.state]));
    setText(this.facts, facts(experiment));
    this.drawLadder(experiment);
    this.buttons.take(experiment);
    const current = figures && figures.phase === experiment.phase ? figures : null;
    this.drawSplit(experiment, current);
    this.drawIntervals(experiment, current);
    setText(this.verdict, current ? current.verdict : "");
    this.notes.replaceChildren(...notes(experiment, current).map(([tone, text]) =>
      element("p", { class: tone }, text)));
    this.fillTable(experiment, current);
  }

  drawLadder({ stages_bp: stages, stage, state }) {
    this.ladder.hidden = !stages.length;
    const told = JSON.stringify([stages, stage, state]);
    if (told === this.ladderTold) return;
    this.ladderTold = told;
    this.ladder.replaceChildren(...stages.map((bp, at) => element("li", {
      class: stage !== null && at < stage ? "passed" : at === stage ? "current" : null,
      "aria-current": at === stage ? "step" : null,
    }, words.share(bp))));
  }

  drawSplit(experiment, figures) {
    this.split.hidden = !splits(experiment);
    const [tone, told] = words.SPLITS[figures?.split.verdict ?? "unknown"];
    const p = figures?.split.always_valid_p;
    const known = p === null || p === undefined ? "" : ` (always-valid p ${p < 0.001 ? "< 0.001" : p.toFixed(3)})`;
    const why = figures?.split.missing ? `: ${figures.split.missing}` : "";
    this.split.replaceChildren(light(tone, told + known + why));
  }

  drawIntervals(experiment, figures) {
    this.intervals.hidden = !splits(experiment);
    const all = figures?.variants ?? [];
    const rows = all.some((one) => one.impressions) ? all : []; // each would say that it has none
    const drawn = rows.filter((one) => one.ctr.low !== null && one.ctr.value !== null);
    const level = figures ? Math.round(100 * figures.confidence) : 95;
    const plan = figures?.plan ?? "";
    const said = rows.map((one) => `${one.name}: ${inWords(one, plan)}`);
    this.intervals.setAttribute("aria-label",
      `CTR with always-valid ${level} % intervals. ${said.join("; ") || "No figures yet."}`);
    const range = rangeOf(drawn);
    this.intervals.replaceChildren(
      element("p", { class: "quiet" }, `CTR with always-valid ${level} % intervals: right at every look`),
      ...rows.map((one) => element("div", { class: "interval" },
        element("span", { class: "name" }, one.name), track(one.ctr, range, drawn[0], lineOf(`${experiment.key}:${one.name}`)),
        element("span", { class: "numbers" }, inWords(one, plan)))));
    if (!drawn.length) this.intervals.append(element("p", { class: "quiet" }, whyEmpty(experiment, all)));
  }

  fillTable(experiment, figures) {
    const shares = new Map(experiment.arms.map((arm) => [arm.name, arm.share_bp]));
    this.table.rows((figures?.variants ?? []).map((one) => [
      one.name, words.share(shares.get(one.name) ?? 0), words.count(one.users),
      words.count(one.impressions), words.count(one.clicks),
      words.percent(one.ctr.value, 2), words.percent(one.ctr.low, 2), words.percent(one.ctr.high, 2),
      ...(one.change ? [one.change.value, one.change.low, one.change.high].map((c) => words.signed(c, 2))
        : [one.change_missing ?? "control", null, null]),
      words.ms(one.p50_ms), words.ms(one.p95_ms), words.ms(one.p99_ms), words.percent(one.hit_rate),
      words.percent(one.degraded_share), price(one.cost?.per_million_rankings),
      price(one.cost?.per_million_predictions),
    ]));
  }
}

const price = (value) => value === null || value === undefined ? "–"
  : value.toLocaleString("en", { maximumSignificantDigits: 3 });

function facts(experiment) {
  const { state, phase, traffic_bp: traffic, since, promoted, rule, figures } = experiment;
  const told = [`phase ${phase}`, `${words.share(traffic)} of the eligible units take part`];
  if (promoted) told.push(`“${promoted}” serves everybody`);
  if (since !== null && since !== undefined) told.push(`${words.STATES[state][1]} since ${words.moment(since)}`);
  const cost = figures?.variants.map((one) => one.cost && one.cost.per_million_rankings !== null
    ? `${one.name} ${price(one.cost.per_million_rankings)}` : null).filter(Boolean) ?? [];
  if (cost.length) told.push(`cost of a million rankings: ${cost.join(", ")}`);
  return `${told.join(" · ")}. ${RULES[rule]}`;
}

function notes(experiment, figures) {
  const found = [];
  if (experiment.unready) found.push(["warn", `Assigns nobody now: ${experiment.unready}`]);
  if (experiment.missing) found.push(["warn", `No newer figures: ${experiment.missing}`]);
  if (!figures) found.push(["quiet", "The first figures of this phase come with its report in a few seconds."]);
  else if (figures.plan) found.push(["quiet", figures.plan]);
  return [...found, ...(figures?.notes ?? []).map((note) => ["quiet", note])];
}

function whyEmpty(experiment, rows) {
  if (experiment.state !== "running" && experiment.state !== "aa") {
    return `It is ${words.STATES[experiment.state][1]}, so nobody is counted. Start it to compare its variants.`;
  }
  if (!rows.length) return ""; // no report yet, which the notes say
  if (!rows.some((one) => one.users)) {
    return "Nobody was served by it in this phase yet: rank something for users that it targets.";
  }
  if (!rows.some((one) => one.impressions)) {
    return "No impressions yet: report what was shown and clicked to POST /v1/events.";
  }
  return "Too few clicks for intervals yet: report clicks to POST /v1/events.";
}

// A variant's CTR, and its change or why there is none unless the plan below says the same.
function inWords({ ctr, change, change_missing: missing }, plan) {
  if (ctr.value === null) return ctr.missing ?? "–";
  const own = ctr.low === null ? `${words.percent(ctr.value)} (no interval: ${ctr.missing})`
    : `${words.percent(ctr.value)} [${words.percent(ctr.low)}, ${words.percent(ctr.high)}]`;
  if (change) return `${own}, ${words.signed(change.value)} against control`
    + ` [${words.signed(change.low)}, ${words.signed(change.high)}]`;
  return missing && ctr.low !== null && !plan.includes(missing) ? `${own}, against control: ${missing}` : own;
}

function rangeOf(drawn) {
  const low = Math.min(...drawn.map((one) => one.ctr.low));
  const high = Math.max(...drawn.map((one) => one.ctr.high));
  const margin = 0.05 * (high - low || 0.01);
  return { low: low - margin, high: high + margin };
}

// A variant's interval, with the control's CTR as a broken line behind it.
function track(ctr, range, control, line) {
  const place = (value) => `${(100 * (value - range.low)) / (range.high - range.low)}%`;
  const svg = drawing("svg", { class: `track line-${colourOf(line)}`, "aria-hidden": "true" });
  if (ctr.low === null) return svg;
  if (control) {
    svg.append(drawing("line", { class: "control", x1: place(control.ctr.value), x2: place(control.ctr.value),
      y1: "0", y2: "100%" }));
  }
  svg.append(
    drawing("line", { x1: place(ctr.low), x2: place(ctr.high), y1: "50%", y2: "50%" }),
    drawing("line", { x1: place(ctr.low), x2: place(ctr.low), y1: "30%", y2: "70%" }),
    drawing("line", { x1: place(ctr.high), x2: place(ctr.high), y1: "30%", y2: "70%" }),
    drawing("circle", { cx: place(ctr.value), cy: "50%", r: "5", class: "fill" }));
  return svg;
}

// The audit log of all experiments, the newest first; what is new is announced.
class Decisions {
  constructor() {
    this.known = new Map();
  }

  take(experiments) {
    const found = experiments.flatMap((one) => (one.figures?.decisions ?? [])
      .map((decision) => ({ ...decision, key: one.key })));
    found.sort((one, other) => Date.parse(other.at) - Date.parse(one.at));
    const place = byId("decisions");
    if (!found.length) {
      this.known.clear();
      const why = experiments.map((one) => one.figures?.decisions_missing).find(Boolean);
      const text = why ? `The audit log cannot be read: ${why}` : "Nothing was decided yet.";
      if (place.textContent !== text) place.replaceChildren(element("li", { class: "quiet" }, text));
      return;
    }
    if (!this.known.size) place.replaceChildren();
    const first = !this.known.size;
    const wanted = new Map(found.map((one) => [JSON.stringify(one), one]));
    for (const [told, item] of this.known) {
      if (wanted.has(told)) continue;
      item.remove();
      this.known.delete(told);
    }
    let before = place.firstChild;
    for (const [told, one] of wanted) {
      if (this.known.has(told)) {
        before = this.known.get(told).nextSibling;
        continue;
      }
      const item = entry(one, first);
      this.known.set(told, item);
      place.insertBefore(item, before);
    }
  }
}

function entry(one, isOld) {
  const at = Date.parse(one.at) / 1000;
  const after = one.state ? `now ${words.STATES[one.state]?.[1] ?? one.state}`
    + (one.traffic_bp === null ? "" : ` at ${words.share(one.traffic_bp)}`) : "";
  return element("li", { class: isOld ? null : "new" },
    element("time", { datetime: one.at, class: "quiet" }, words.moment(at)),
    element("span", {}, element("b", {}, one.action), ` ${one.key}`,
      one.dry_run ? " (only recorded)" : "", ` by ${one.by}`, after ? `: ${after}` : "",
      one.reason ? element("span", { class: "quiet" }, " — ", element("bdi", {}, one.reason)) : null,
      one.figures.length ? element("details", {}, element("summary", {}, "On these figures"),
        element("ul", {}, one.figures.map((line) => element("li", {}, line)))) : null));
}
