/**
 * A shop page that Podium orders, in TypeScript: ask, show, report, and do without.
 *
 *     npm ci --ignore-scripts
 *     export PODIUM_URL=http://127.0.0.1:8080
 *     npm run generate && npm run build && npm start
 */
import { client } from './podium/client.gen.js';
import { events, itemRecommendations, rank } from './podium/sdk.gen.js';
import type { FeedbackEvent, RankReply } from './podium/types.gen.js';

const CANDIDATES = ['i1', 'i2', 'i3', 'i4'];
const TIMEOUT_MS = 200;

client.setConfig({
  baseUrl: process.env.PODIUM_URL ?? 'http://127.0.0.1:8080',
  ...(process.env.PODIUM_KEY ? { auth: process.env.PODIUM_KEY } : {}),
});

/** The ids to show, and the reply if Podium ordered them. Never throws. */
async function shopWindow(user: string): Promise<{ ids: string[]; reply: RankReply | null }> {
  const { data, error, response } = await rank({
    body: { candidates: CANDIDATES, user: { id: user }, timeout_ms: TIMEOUT_MS - 10 },
    headers: { traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01' },
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  if (data) return { ids: data.items.map((item) => item.id), reply: data };
  // Without a response nobody was reached in time, and the error is none of Podium's.
  console.log(`in input order: ${response ? error.code : 'unreachable'}`);
  return { ids: CANDIDATES, reply: null };
}

function seen(reply: RankReply, type: FeedbackEvent['type'], place: number): FeedbackEvent {
  const item = reply.items[place - 1];
  if (!item) throw new RangeError(`the slate has no place ${place}`);
  return {
    // Made of what it says, so that a repeated report counts once.
    event_id: `${reply.slate_id}:${type}:${place}`,
    type,
    slate_id: reply.slate_id,
    item_id: item.id,
    position: place,
    timestamp: new Date().toISOString(),
    exposure: reply.exposure,
  };
}

const { ids, reply } = await shopWindow('u1');
console.log(`window: ${ids.join(' ')}`);

if (reply) {
  const shown = reply.items.map((_, index) => seen(reply, 'impression', index + 1));
  const reported = await events({ body: [...shown, seen(reply, 'click', 1)] });
  console.log(`events: ${reported.data?.results.map((result) => result.status).join(' ')}`);

  const page = await itemRecommendations({
    path: { item_id: 'i1' },
    query: { k: 3, user_id: 'u1', context: { surface: 'default' } },
  });
  console.log(`page: ${page.data?.items.length} items, ${page.data?.experiments[0]?.variant}`);

  const wrong = await rank({ body: { candidates: [] } });
  console.log(`refused: ${wrong.error?.code} at ${wrong.error?.path}`);
}
