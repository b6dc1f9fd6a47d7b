// Affinity in a simulation of two hours: conversations on two providers that keep prefixes in steps of 1,024 tokens for five minutes,
// with outages of both. An oracle, which knows who is out and what each provider has in its cache, reads the most that can be read.
import t from 'tap';
import { seededRandom } from '../../../test/support/seeded-random.ts';
import type { ModelRequest } from '../request/model-request.ts';
import { bodyOf } from '../shared/body.ts';
import { Affinity } from './affinity.ts';
import type { Chain } from './routes.ts';

const MINUTE_MS = 60_000;
const KEPT_MS = 5 * MINUTE_MS;
const STEP_TOKENS = 1_024;
const BYTES_A_TOKEN = 4;

interface Cached {
  readonly tokens: number;
  readonly usedMs: number;
}

/** A provider's cache of prefixes, by conversation. */
class PrefixCache {
  private readonly prefixes = new Map<number, Cached>();

  readable(conversation: number, nowMs: number): number {
    const found = this.prefixes.get(conversation);
    if (found === undefined || nowMs - found.usedMs >= KEPT_MS) return 0;
    return Math.floor(found.tokens / STEP_TOKENS) * STEP_TOKENS;
  }

  ask(conversation: number, tokens: number, nowMs: number): number {
    const read = this.readable(conversation, nowMs);
    this.prefixes.set(conversation, { tokens, usedMs: nowMs });
    return read;
  }
}

const PLACES = ['first', 'second'] as const;
const OUTAGES: Readonly<Record<string, readonly (readonly [fromMinute: number, toMinute: number])[]>> = {
  first: [
    [30, 42],
    [80, 84],
  ],
  second: [[60, 66]],
};
const isOut = (place: string, nowMs: number): boolean =>
  OUTAGES[place]!.some(([from, to]) => nowMs >= from * MINUTE_MS && nowMs < to * MINUTE_MS);

const CHAIN = { targets: PLACES.map((name) => ({ id: name, upstream: { name } })) } as unknown as Chain;

/** A turn of a conversation: its prompt begins like the ones before. */
function turn(conversation: number, tokens: number): ModelRequest {
  const head = `{"model":"m","messages":[{"role":"system","content":"conversation ${conversation}: `;
  return {
    asked: { api: 'openai', path: '/chat/completions' },
    facts: { cacheKey: '', model: 'm', operation: 'chat', previousResponse: '' },
    body: bodyOf(Buffer.from(head.padEnd(tokens * BYTES_A_TOKEN, 'x'))),
  } as unknown as ModelRequest;
}

interface Turn {
  readonly conversation: number;
  readonly tokens: number;
  readonly atMs: number;
}

function turnsOf(conversations: number, random: () => number): Turn[] {
  const turns: Turn[] = [];
  for (let conversation = 0; conversation < conversations; conversation++) {
    let atMs = random() * 110 * MINUTE_MS;
    let tokens = 1_100 + random() * 2_000;
    for (let left = 4 + random() * 20; left > 0 && atMs < 120 * MINUTE_MS; left--) {
      turns.push({ conversation, tokens: Math.floor(tokens), atMs });
      // Mostly an agent that goes on at once, sometimes a person who thinks, or comes back after the cache has expired.
      atMs += random() < 0.8 ? 2_000 + random() * 30_000 : random() * 8 * MINUTE_MS;
      tokens += 200 + random() * 1_500;
    }
  }
  return turns.sort((a, b) => a.atMs - b.atMs);
}

type Choose = (turn: Turn, up: readonly string[], caches: ReadonlyMap<string, PrefixCache>) => string;

function readBy(turns: readonly Turn[], choose: Choose): number {
  const caches = new Map(PLACES.map((place) => [place as string, new PrefixCache()]));
  let read = 0;
  for (const one of turns) {
    const up = PLACES.filter((place) => !isOut(place, one.atMs));
    read += caches.get(choose(one, up, caches))!.ask(one.conversation, one.tokens, one.atMs);
  }
  return read;
}

const withMostCached: Choose = ({ conversation, atMs }, up, caches) =>
  up.reduce((best, place) =>
    caches.get(place)!.readable(conversation, atMs) > caches.get(best)!.readable(conversation, atMs)
      ? place
      : best,
  );

t.test(
  'affinity reads nearly all that an oracle reads, and goes back only from an expired prefix',
  async (t) => {
    for (const seed of [1, 2, 3]) {
      const turns = turnsOf(300, seededRandom(seed));
      const affinity = new Affinity();
      const last = new Map<number, string>();
      let early = 0;
      let moves = 0;
      const read = readBy(turns, (one, up, caches) => {
        const { chain, key } = affinity.belongingOf(CHAIN, turn(one.conversation, one.tokens), one.atMs);
        const { id: place } = chain.targets.find(({ id }) => up.includes(id))!;
        affinity.note(key!, { id: place }, one.atMs);
        const before = last.get(one.conversation) ?? place;
        if (place !== before) moves++;
        const isAlive = caches.get(before)!.readable(one.conversation, one.atMs) > 0;
        if (place !== before && up.includes(before) && isAlive) early++;
        last.set(one.conversation, place);
        return place;
      });
      const most = readBy(turns, withMostCached);
      t.ok(moves > 20, `the outages moved ${moves} conversations`);
      t.equal(early, 0, 'none left a place that was up and had its prefix');
      t.ok(read >= 0.95 * most, `${((100 * read) / most).toFixed(1)} % of what the oracle reads`);
      const without = readBy(turns, (_one, up) => up[0]!);
      t.ok(without < read, 'the first place that is up reads less');
    }
  },
);
