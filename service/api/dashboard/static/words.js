// Numbers and names as people read them.

const whole = new Intl.NumberFormat("en");
const fine = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const tight = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

export const count = (value) => whole.format(value);
export const rate = (value) => (value >= 100 ? whole.format(Math.round(value)) : tight.format(value));
export const percent = (value, digits = 1) => value === null || value === undefined
  ? "–" : `${(100 * value).toFixed(digits)} %`;
export const ms = (value) => value === null || value === undefined
  ? "–" : `${value >= 100 ? whole.format(Math.round(value)) : tight.format(value)} ms`;
export const share = (bp) => `${fine.format(bp / 100)} %`;

export function signed(value, digits = 1) {
  return `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(digits)} %`;
}

export const difference = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(4)}`;

export function time(seconds) {
  return new Date(1000 * seconds).toLocaleTimeString([], { hour12: false });
}

export function moment(seconds) {
  const date = new Date(1000 * seconds);
  const today = date.toDateString() === new Date().toDateString();
  return today ? time(seconds) : `${date.toLocaleDateString()} ${time(seconds)}`;
}

// `experiment:variant` of a metric, short where there is one experiment only.
export function variantName(label, all) {
  if (label === "none") return "outside experiments";
  const experiments = new Set(all.filter((one) => one !== "none").map((one) => one.split(":")[0]));
  return experiments.size > 1 ? label.replace(":", " · ") : label.slice(label.indexOf(":") + 1);
}

export const STATES = {
  draft: ["quiet", "draft"], running: ["good", "running"], aa: ["good", "A/A test"],
  paused: ["warn", "paused"], rolled_back: ["bad", "rolled back"],
  promoted: ["good", "promoted"], stopped: ["quiet", "stopped"],
};

export const SPLITS = {
  ok: ["good", "users split as planned"],
  mismatch: ["bad", "users did not split as planned (SRM): do not trust this comparison"],
  unknown: ["quiet", "the split is not checked yet"],
};

export const ENGINES = {
  ready: ["good", "ready"], loading: ["warn", "loading"], failing: ["warn", "failing"],
  probing: ["warn", "being probed"], open: ["bad", "left alone"], hung: ["bad", "hung"],
  refused: ["bad", "refused"],
};
