// Affinity in a simulation of two hours: conversations of four apps, each with one system prompt, on two providers that keep
// prefixes in steps of 1,024 tokens for five minutes, with outages of both. An oracle, which knows who is out and what each
// provider has in its cache, reads the most that can be read while new conversations go where the weights say.
import t from 'tap';
import { seededRandom } from '../../../test/support/seeded-random.ts';
import type { ModelRequest } from '../request/model-request.ts';
import { readRequestFacts, requestScan } from '../request/request-facts.ts';
import { bodyOf } from '../shared/body.ts';
import { Affinity } from './affinity.ts';
import type { Chain } from './routes.ts';

const MINUTE_MS = 60_000;
const KEPT_MS = 5 * MINUTE_MS;
const STEP_TOKENS = 1_024;

interface Cached {
  readonly tokens: number;
  readonly usedMs: number;
}

/** A provider's cache of prefixes: of conversations, and of the system prompts that conversations share. */
class PrefixCache {
  private readonly prefixes = new Map<string, Cached>();

  readable({ conversation, app }: Turn, nowMs: number): number {
    return Math.max(this.read(`c${conversation}`, nowMs), this.read(`a${app}`, nowMs));
  }

  /** The conversation's own prefix is there. */
  has({ conversation }: Turn, nowMs: number): boolean {
    return this.read(`c${conversation}`, nowMs) > 0;
  }

  private read(prefix: string, nowMs: number): number {
    const found = this.prefixes.get(prefix);
    if (found === undefined || nowMs - found.usedMs >= KEPT_MS) return 0;
    return Math.floor(found.tokens / STEP_TOKENS) * STEP_TOKENS;
  }

  ask(turn: Turn, nowMs: number): number {
    const read = this.readable(turn, nowMs);
    this.prefixes.set(`c${turn.conversation}`, { tokens: turn.tokens, usedMs: nowMs });
    this.prefixes.set(`a${turn.app}`, { tokens: systemTokens(turn.app), usedMs: nowMs });
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

/** The chain as the weights have drawn it. */
function chainFrom(first: string): Chain {
  const others = PLACES.filter((name) => name !== first);
  return {
    targets: [first, ...others].map((name) => ({ id: name, upstream: { name } })),
  } as unknown as Chain;
}

const APPS = 4;
const systemTokens = (app: number): number => 1_100 + app * 1_500;

type Form = (app: number, said: readonly string[]) => Buffer;

/** The first messages are examples that all conversations of an app have. */
const messagesOf = (app: number, said: readonly string[]) =>
  [`example ${app}`, ...said].flatMap((content, index) => [
    ...(index === 0 ? [] : [{ role: 'assistant', content: `an answer to "${index}" \\` }]),
    { role: 'user', content: content as unknown },
  ]);
const system = (app: number): string => `you are "${app}" `.padEnd(5_000, 'x');
/** What clients of each API send for the same turn. */
const FORMS: Readonly<Record<string, Form>> = {
  openai: (app, said) =>
    json({ messages: [{ role: 'system', content: system(app) }, ...messagesOf(app, said)] }),
  // The mark of what is to be cached moves on with each turn.
  anthropic: (app, said) => {
    const messages = messagesOf(app, said);
    const last = messages.at(-1)!;
    last.content = [{ type: 'text', text: last.content, cache_control: { type: 'ephemeral' } }];
    return json({ system: system(app), messages });
  },
  responses: (app, said) => json({ instructions: system(app), input: messagesOf(app, said) }),
  gemini: (app, said) =>
    json({
      contents: messagesOf(app, said).map(({ role, content }) => ({
        ...(role === 'assistant' ? { role: 'model' } : {}),
        parts: [{ text: content }],
      })),
      systemInstruction: { parts: [{ text: system(app) }] },
    }),
};
const json = (request: object): Buffer => Buffer.from(JSON.stringify({ model: 'm', ...request }));

/** A turn of a conversation: it repeats what was said before. */
function requestOf({ app, conversation, count }: Turn, form: string): ModelRequest {
  const said = Array.from({ length: count }, (_, index) => `question ${index} of ${conversation}`);
  const body = bodyOf(FORMS[form]!(app, said));
  const scan = requestScan('chat')!;
  for (const part of body.parts) scan.push(part);
  const facts = readRequestFacts('chat', body, scan);
  return { asked: { api: 'openai', path: '/chat/completions' }, facts, body } as unknown as ModelRequest;
}

interface Turn {
  readonly conversation: number;
  /** Its system prompt. */
  readonly app: number;
  /** The number of the turn in its conversation, from 1. */
  readonly count: number;
  readonly tokens: number;
  readonly atMs: number;
  /** The place that the weights have drawn for the request. */
  readonly drawn: string;
}

function turnsOf(conversations: number, shareOfSecond: number, random: () => number): Turn[] {
  const turns: Turn[] = [];
  for (let conversation = 0; conversation < conversations; conversation++) {
    const app = Math.floor(random() * APPS);
    let atMs = random() * 110 * MINUTE_MS;
    let tokens = systemTokens(app) + random() * 2_000;
    let count = 0;
    for (let left = 4 + random() * 20; left > 0 && atMs < 120 * MINUTE_MS; left--) {
      const drawn = PLACES[random() < shareOfSecond ? 1 : 0];
      turns.push({ conversation, app, count: ++count, tokens: Math.floor(tokens), atMs, drawn });
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
    read += caches.get(choose(one, up, caches))!.ask(one, one.atMs);
  }
  return read;
}

/** The oracle: a new conversation goes where the weights have drawn it, and a turn where the most of it is in the cache. */
const withMostCached: Choose = (turn, up, caches) => {
  const byWeight = up.includes(turn.drawn) ? turn.drawn : up[0]!;
  if (turn.count === 1) return byWeight;
  const readable = (place: string): number => caches.get(place)!.readable(turn, turn.atMs);
  return up.reduce((best, place) => (readable(place) > readable(best) ? place : best), byWeight);
};

for (const [form, shareOfSecond, seeds] of [
  ['openai', 0, [1, 2, 3]],
  ['openai', 0.1, [1, 2, 3]],
  ['anthropic', 0.5, [1]],
  ['responses', 0.1, [2]],
  ['gemini', 0.5, [3]],
] as const) {
  t.test(
    `${form}: affinity reads nearly all that an oracle reads, while ${shareOfSecond * 100} % of new conversations go to the second place`,
    async (t) => {
      for (const seed of seeds) {
        const turns = turnsOf(400, shareOfSecond, seededRandom(seed));
        const affinity = new Affinity();
        const last = new Map<number, string>();
        let early = 0;
        let moves = 0;
        const begun = { first: 0, second: 0 };
        const read = readBy(turns, (one, up, caches) => {
          const { conversation, atMs, count } = one;
          const { chain, key } = affinity.belongingOf(chainFrom(one.drawn), requestOf(one, form), atMs);
          const { id: place } = chain.targets.find(({ id }) => up.includes(id))!;
          affinity.note(key!, { id: place }, atMs);
          if (count === 1 && up.length === PLACES.length) begun[place as 'first' | 'second']++;
          const before = last.get(conversation) ?? place;
          if (place !== before) moves++;
          if (place !== before && up.includes(before) && caches.get(before)!.has(one, atMs)) early++;
          last.set(conversation, place);
          return place;
        });
        const most = readBy(turns, withMostCached);
        t.ok(moves > 20, `the outages moved ${moves} conversations`);
        t.equal(early, 0, 'none left a place that was up and had its prefix');
        t.ok(read >= 0.95 * most, `${((100 * read) / most).toFixed(1)} % of what the oracle reads`);
        const share = begun.second / (begun.first + begun.second);
        t.ok(Math.abs(share - shareOfSecond) < 0.05, `${(100 * share).toFixed(1)} % began at the second`);
      }
    },
  );
}
