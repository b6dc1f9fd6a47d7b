// What answers cost: by the providers' own counts, in whole nano-dollars, from a file that may change.
import { rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import fc from '../../../scripts/harness/properties.ts';
import { isObject } from '../../node/json.ts';
import { noFacts, type Usage } from '../kinds/answer-facts.ts';
import { traitsOf } from '../kinds/operations.ts';
import type { Operation } from '../shared/operation.ts';
import { affordableOutput, costOf, mostCost } from './cost.ts';
import { LIST_PRICES } from './list-prices.ts';
import { PriceBook } from './price-book.ts';
import { PricesError, readPrices } from './prices.ts';

const NOW_MS = Date.parse('2026-11-30T12:00:00Z');
const openai = { name: 'openai', kind: { name: 'openai' } } as const;
const claude = { name: 'claude', kind: { name: 'anthropic' } } as const;
const gemini = { name: 'google', kind: { name: 'gemini' } } as const;

function usageOf(operation: Operation, ...answers: readonly object[]): Usage {
  const facts = noFacts();
  for (const answer of answers) if (isObject(answer)) traitsOf(operation).read(answer, facts);
  return facts.usage!;
}

t.test('answers in the form of each provider cost what its price list says', async (t) => {
  const book = new PriceBook();
  const cost = (
    place: typeof openai | typeof claude | typeof gemini,
    model: string,
    usage: Usage,
    tier = '',
  ) => costOf(book.of(place, model, NOW_MS)!, usage, tier);

  // OpenAI's prompt includes what came from the cache, its completion what was reasoning.
  const chat = usageOf('chat', {
    model: 'gpt-5-2025-08-07',
    choices: [{ finish_reason: 'stop', message: { content: 'hi' } }],
    usage: {
      prompt_tokens: 2_006,
      completion_tokens: 300,
      prompt_tokens_details: { cached_tokens: 1_920 },
      completion_tokens_details: { reasoning_tokens: 256 },
    },
  });
  // 86 × 1.25 + 1,920 × 0.125 + 300 × 10 dollars a million.
  t.equal(cost(openai, 'gpt-5-2025-08-07', chat), 107_500 + 240_000 + 3_000_000);
  t.equal(cost(openai, 'gpt-5', chat, 'default'), 3_347_500);
  t.equal(cost(openai, 'gpt-5', chat, 'flex'), 1_673_750);
  t.equal(cost(openai, 'gpt-5', chat, 'priority'), 6_695_000);
  t.equal(
    cost(openai, 'gpt-5', chat, 'invented'),
    undefined,
    'a tier without a price is unknown, not standard',
  );

  // Anthropic's input leaves out what was read from a cache, and what was written to one.
  const message = {
    type: 'message',
    model: 'claude-sonnet-4-5-20250929',
    usage: {
      input_tokens: 50,
      cache_read_input_tokens: 100_000,
      cache_creation_input_tokens: 700,
      cache_creation: { ephemeral_5m_input_tokens: 500, ephemeral_1h_input_tokens: 200 },
      output_tokens: 1_000,
    },
  };
  t.equal(
    cost(claude, message.model, usageOf('messages', message)),
    50 * 3_000 + 100_000 * 300 + 500 * 3_750 + 200 * 6_000 + 1_000 * 15_000,
  );

  // Gemini's prompt includes the cache, its thoughts stand beside the candidates, and long prompts cost more.
  const answer = (prompt: number) => ({
    candidates: [{ content: { parts: [{ text: 'hi' }] }, finishReason: 'STOP' }],
    usageMetadata: {
      promptTokenCount: prompt,
      cachedContentTokenCount: 1_000,
      candidatesTokenCount: 10,
      thoughtsTokenCount: 90,
    },
  });
  const short = usageOf('generate', answer(200_000));
  t.equal(cost(gemini, 'gemini-2.5-pro', short), 199_000 * 1_250 + 1_000 * 125 + 100 * 10_000);
  const long = usageOf('generate', answer(200_001));
  t.equal(cost(gemini, 'gemini-2.5-pro', long), 199_001 * 2_500 + 1_000 * 250 + 100 * 15_000);

  const embedded = usageOf('embeddings', { data: [], usage: { prompt_tokens: 8, total_tokens: 8 } });
  t.equal(cost(openai, 'text-embedding-3-small', embedded), 160);
  t.equal(book.of(openai, 'no-such-model', NOW_MS), undefined);
  t.equal(book.of(claude, 'gpt-5', NOW_MS), undefined, 'a price is that of a kind of provider');
});

t.test('no answer costs more than the most that its tokens can cost', async (t) => {
  const entries = readPrices(LIST_PRICES).entries;
  fc.assert(
    fc.property(
      fc.constantFrom(...entries),
      fc.nat(2_000_000),
      fc.nat(200_000),
      fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 3, maxLength: 3 }),
      ({ price }, input, output, parts) => {
        const [read = 0, write5 = 0, write1 = 0] = parts.map((part) => Math.floor((part * input) / 3));
        const usage = {
          inputTokens: input,
          cacheReadTokens: read,
          cacheWrite5mTokens: write5,
          cacheWrite1hTokens: write1,
          outputTokens: output,
          reasoningTokens: 0,
        };
        const most = mostCost(price, input, output);
        for (const tier of ['', ...price.tiers.keys()]) {
          const cost = costOf(price, usage, tier)!;
          if (!Number.isSafeInteger(cost) || cost > most) return false;
        }
        const afforded = Math.min(affordableOutput(price, input, most), output + 1_000_000);
        return mostCost(price, input, afforded) <= most || afforded === 0;
      },
    ),
  );
  t.pass('in every tier, with every use of a cache');
});

t.test('the nearest price counts, and the newest one that is in force', async (t) => {
  const folder = t.testdir({ 'prices.yaml': '' });
  const path = join(folder, 'prices.yaml');
  let touched = NOW_MS / 1_000;
  const write = (text: string): void => {
    writeFileSync(path, text);
    utimesSync(path, ++touched, touched);
  };
  write(`
as_of: 2026-11-01
prices:
  - { models: ["gpt-*"], usd_per_million: { input: 1, output: 1 } }
  - { models: [gpt-5], usd_per_million: { input: 2, output: 2 } }
  - { models: [gpt-5], valid_from: 2026-12-01, usd_per_million: { input: 3, output: 3 } }
  - { models: ["gpt-*"], upstreams: [contract], usd_per_million: { input: 4, output: 4 } }
`);
  const book = new PriceBook(path);
  let nowMs = NOW_MS;
  const input = (model: string, name = 'openai') =>
    (book.of({ name, kind: openai.kind }, model, (nowMs += 2_000))?.standard.rates.input ?? 0) / 1_000_000;
  t.equal(input('gpt-4'), 1);
  t.equal(input('gpt-5'), 2);
  t.equal(input('gpt-5', 'contract'), 4, 'a price of this upstream comes first');
  t.equal(input('claude'), 0, 'the file stands in place of the list');
  nowMs += 86_400_000;
  t.equal(input('gpt-5'), 3);
  t.equal(book.asOf, '2026-11-01');
  write('prices: [');
  t.equal(input('gpt-4'), 1, 'a broken file leaves the last prices');
  t.match(book.problem, /it is no YAML/);
  write('as_of: 2026-12-02\nprices: [{ models: [gpt-4], usd_per_million: { input: -1 } }]');
  t.equal(input('gpt-4'), 1);
  t.match(book.problem, /prices\.0\.usd_per_million\.input/);
  write('as_of: 2026-12-02\nprices: [{ models: [gpt-4], usd_per_million: { input: 9 } }]');
  t.equal(input('gpt-4'), 9);
  t.equal(book.problem, '');
  rmSync(path);
  t.equal(input('gpt-4'), 9);
  t.match(book.problem, /ENOENT/);
  t.throws(() => readPrices({ prices: [] }), PricesError);
});
