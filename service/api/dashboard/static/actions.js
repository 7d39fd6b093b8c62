// Changes of experiments by a person: said first, then asked of the API with the reader's key.
import { byId, element, setText } from "./dom.js";
import { currentKey } from "./key.js";
import { words as inWords } from "./stream.js";
import { share } from "./words.js";

const VERBS = {
  start: { name: "Start", from: ["draft", "paused", "aa", "rolled_back", "promoted", "stopped"],
    what: (e) => e.state === "paused" ? "It goes on where it was paused."
      : "Units are drawn and counted in a new phase; figures of earlier phases are kept apart." },
  pause: { name: "Pause", from: ["running", "aa"],
    what: () => "Nobody is assigned for now: all are served by the surface's own deployment. "
      + "Start goes on with the same phase." },
  ramp: { name: "Ramp", from: ["running", "aa", "paused"],
    what: (e) => `Now ${share(e.traffic_bp)} of the eligible units take part. More or fewer do from `
      + "the next request on, and a new phase begins: its figures start at zero." },
  promote: { name: "Promote", from: ["running", "aa", "paused"],
    what: () => "One variant serves every eligible unit from the next request on. Nobody is counted "
      + "any more." },
  rollback: { name: "Roll back", from: ["running", "aa", "paused", "promoted"],
    what: () => "Everybody is served by the surface's own deployment from the next request on, until "
      + "it is started again." },
  stop: { name: "Stop", from: ["draft", "running", "aa", "paused", "rolled_back", "promoted"],
    what: () => "It ends: everybody is served by the surface's own deployment, and its part of the "
      + "layer is free for others." },
};

// The buttons of an experiment; they stay the same elements, so that the keyboard keeps its place.
export function buttons(key, changed) {
  let experiment = null;
  const made = new Map(Object.entries(VERBS).map(([verb, { name }]) => {
    const button = element("button", { type: "button", "data-verb": verb, "aria-label": `${name} ${key}` }, name);
    button.addEventListener("click", () => ask(verb, experiment, changed));
    return [verb, button];
  }));
  return {
    place: element("p", { class: "buttons" }, [...made.values()]),
    take(found) {
      experiment = found;
      for (const [verb, button] of made) button.disabled = !VERBS[verb].from.includes(found.state);
    },
  };
}

function ask(verb, experiment, changed) {
  const dialog = byId("ask");
  const form = byId("ask-form");
  const { name, what } = VERBS[verb];
  setText(byId("ask-title"), `${name} ${experiment.key}?`);
  setText(byId("ask-what"), what(experiment));
  setText(byId("ask-yes"), name);
  setText(byId("ask-trouble"), "");
  byId("ask-reason").value = "";
  byId("ask-more").replaceChildren(...(MORE[verb]?.(experiment) ?? []));
  form.onsubmit = async (event) => {
    event.preventDefault();
    byId("ask-yes").disabled = true;
    try {
      const standing = await change(verb, experiment, {
        ...(WANTED[verb]?.(form) ?? {}),
        ...(byId("ask-reason").value ? { reason: byId("ask-reason").value } : {}),
      });
      dialog.close();
      changed(standing);
      setText(byId("told"), `Done: ${experiment.key} is ${standing.state.replace("_", " ")} now.`);
    } catch (error) {
      setText(byId("ask-trouble"), error.message);
    } finally {
      byId("ask-yes").disabled = false;
    }
  };
  byId("ask-no").onclick = () => dialog.close();
  dialog.showModal();
}

async function change(verb, experiment, wanted) {
  const key = currentKey();
  let answer;
  try {
    answer = await fetch(`/v1/experiments/${encodeURIComponent(experiment.key)}/${verb}`, {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        ...(key ? { Authorization: `Bearer ${key}` } : {}),
      },
      // What was decided meanwhile by others must be seen before it is changed.
      body: JSON.stringify({ ...wanted,
        ...(experiment.generation === null ? {} : { if_generation: experiment.generation }) }),
    });
  } catch {
    throw new Error("The service does not answer; nothing is known to have changed.");
  }
  if (!answer.ok) throw new Error(await refusal(answer));
  return answer.json();
}

async function refusal(answer) {
  const told = await inWords(answer);
  if (answer.status === 401) return `${told}. Put in a key with the scope admin (API key, above).`;
  if (answer.status === 409) return `${told}. Close this to see how it stands now.`;
  return told;
}

// What else must be said, by verb.
const MORE = {
  ramp({ stages_bp: stages, stage, traffic_bp: traffic }) {
    const next = stage === null || stage === undefined ? 0 : stage + 1;
    const choices = stages.map((bp, at) => option(`stage ${at + 1}: ${share(bp)}`
      + (at === stage ? " (now)" : ""), { name: "to", value: `stage:${at}` }, at === next));
    const chosen = next < stages.length;
    return [element("fieldset", {}, element("legend", {}, "To"), ...choices,
      option("another share of the eligible units, in percent", { name: "to", value: "share" }, !chosen),
      element("input", { type: "number", name: "percent", min: "0.01", max: "100", step: "0.01",
        required: "", value: String(traffic / 100), "aria-label": "Share in percent" }))];
  },
  promote({ arms }) {
    return [element("fieldset", {}, element("legend", {}, "Which variant"),
      ...arms.map((arm, at) => option(`${arm.name}, served by ${arm.serves}`,
        { name: "variant", value: arm.name, required: "" }, arms.length === 2 && at === 1)))];
  },
};

const WANTED = {
  ramp(form) {
    const to = new FormData(form).get("to");
    return to === "share" ? { traffic_bp: Math.round(100 * form.elements.percent.valueAsNumber) }
      : { stage: Number(to.slice("stage:".length)) };
  },
  promote: (form) => ({ variant: new FormData(form).get("variant") }),
};

function option(words, attributes, chosen) {
  const input = element("input", { type: "radio", ...attributes });
  input.checked = chosen;
  return element("label", { class: "option" }, input, words);
}
