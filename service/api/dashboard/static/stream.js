// Server-sent events over fetch: unlike EventSource it can send a key.
import { currentKey } from "./key.js";

const SILENCE_MS = 15000; // the service says something every two seconds
const FIRST_MS = 500;
const LONGEST_MS = 5000;

export class Refused extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

// Calls `told(event, data)` for every message and `line(state, words)` about the connection;
// never returns. `again` resolves when it is worth trying at once.
export async function listen(told, line, again) {
  let last = null;
  let pause = FIRST_MS;
  for (;;) {
    try {
      await read((event, data, id) => {
        if (id !== null) last = id;
        pause = FIRST_MS;
        told(event, data);
      }, last, line);
      line("lost", "connection ended, trying again");
    } catch (error) {
      const needsKey = error.status === 401 || error.status === 403;
      line(needsKey ? "key" : "lost", needsKey ? error.message
        : `connection lost, trying again (${error.message})`);
      if (needsKey) await again();
    }
    await Promise.race([new Promise((go) => setTimeout(go, pause)), again()]);
    pause = Math.min(2 * pause, LONGEST_MS);
  }
}

async function read(told, last, line) {
  const stop = new AbortController();
  let watch = null;
  const alive = () => {
    clearTimeout(watch);
    watch = setTimeout(() => stop.abort(), SILENCE_MS);
  };
  alive();
  try {
    const key = currentKey();
    const answer = await fetch("/dashboard/events", {
      cache: "no-store",
      signal: stop.signal,
      headers: {
        ...(key ? { Authorization: `Bearer ${key}` } : {}),
        ...(last === null ? {} : { "Last-Event-ID": last }),
      },
    });
    if (!answer.ok) throw new Refused(answer.status, await words(answer));
    line("live", "live");
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      alive();
      const messages = (rest + value).split("\r\n\r\n");
      rest = messages.pop();
      for (const message of messages) tell(message, told);
    }
  } finally {
    clearTimeout(watch);
  }
}

function tell(message, told) {
  const fields = { id: null, event: "message", data: [] };
  for (const lineOf of message.split("\r\n")) {
    const at = lineOf.indexOf(":");
    const name = lineOf.slice(0, at);
    const value = lineOf.slice(at + 1).trimStart();
    if (name === "data") fields.data.push(value);
    else if (name in fields) fields[name] = value;
  }
  if (fields.data.length) told(fields.event, JSON.parse(fields.data.join("\n")), fields.id);
}

// What a problem says of itself, or at least its status.
export async function words(answer) {
  const problem = await answer.json().catch(() => null);
  return problem?.detail || `HTTP ${answer.status}`;
}
