// The live page: listens to the service and hands on what it says.
import { byId, setText } from "./dom.js";
import { Experiments } from "./experiments.js";
import { useKey } from "./key.js";
import { Serving } from "./serving.js";
import { listen } from "./stream.js";
import { Traffic } from "./traffic.js";
import * as words from "./words.js";

const traffic = new Traffic();
const serving = new Serving();
const experiments = new Experiments();

const TELL = {
  hello(hello) {
    traffic.begin(hello);
    experiments.begin();
  },
  points(points) {
    traffic.take(points);
    const newest = points.at(-1).at;
    byId("as-of").dateTime = new Date(1000 * newest).toISOString();
    setText(byId("as-of"), words.time(newest));
  },
  loaded: (loaded) => serving.take(loaded),
  experiments: (all) => experiments.take(all),
};
const LINES = { live: "good", lost: "bad", key: "warn" };

function line(state, told) {
  const badge = byId("line");
  badge.className = `badge ${LINES[state]}`;
  setText(badge, state === "live" ? "live" : state === "key" ? "needs a key" : "reconnecting");
  const trouble = byId("trouble");
  trouble.hidden = state === "live";
  setText(trouble, state === "live" ? "" : state === "key" ? `Put in an API key: ${told}`
    : `${told}. What is shown is as of the time above.`);
  if (state === "key") byId("key-place").open = true;
}

let go = null;
let waiting = new Promise((resolve) => { go = resolve; });

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(byId("key").value.trim());
  byId("key").value = "";
  byId("key-place").open = false;
  setText(byId("told"), "The key is used from now on.");
  go();
  waiting = new Promise((resolve) => { go = resolve; });
});
byId("key-forget").addEventListener("click", () => {
  useKey("");
  setText(byId("told"), "The key is forgotten.");
});

listen((event, data) => TELL[event]?.(data), line, () => waiting);
