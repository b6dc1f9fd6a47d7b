// An agent that wants to use more than its task's token budget: what can't be bounded is refused, the rest is counted.
import { request as httpRequest } from 'node:http';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { answerWhole } from '../../scripts/harness/llm/provider.ts';
import { startSidecar } from '../../scripts/harness/sidecar.ts';
import { type Answer, chat } from '../llm/send.ts';
import { providerFor } from '../llm/set-up.ts';

const provider = await providerFor(t);
const url = provider.script('spent', answerWhole);
const sidecar = await startSidecar(t, { llm: { upstreams: [{ name: 'one', url }] } }, { until: 'live' });

const BUDGET = 20_000;
const HUGE = 1_000_000;
const CHAT = '/chat/completions';

interface Attack {
  readonly path?: string;
  readonly body: string | Buffer;
  readonly headers?: Record<string, string>;
}

/** The path goes out byte for byte. */
function ask({ path = CHAT, body, headers = {} }: Attack): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(
      {
        host: '127.0.0.1',
        port: sidecar.llmPort,
        path: `/v1${path}`,
        method: 'POST',
        agent: false,
        headers: {
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(body),
          ...headers,
        },
      },
      (response) => {
        const parts: Buffer[] = [];
        response.on('data', (part: Buffer) => parts.push(part));
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(parts),
            broken: !response.complete,
          }),
        );
      },
    );
    request.on('error', reject);
    request.end(body);
  });
}

let tasks = 0;
/** Each request is a task of its own. */
const budgeted = (attack: Attack): Promise<Answer> =>
  ask({
    ...attack,
    headers: { 'outrigger-token-budget': String(BUDGET), 'x-task-id': `task-${tasks++}`, ...attack.headers },
  });

const last = () => provider.requests('spent').at(-1)!;
const count = () => provider.requests('spent').length;
/** JSON with this text in the place of a value that JSON has no word for. */
const raw = (more: string): string => `{"model":"m","messages":[{"role":"user","content":"x"}],${more}}`;
const parts = (...content: object[]): string =>
  chat({ max_tokens: 5, messages: [{ role: 'user', content }] });
const reversed = (text: string): Buffer => Buffer.from(text, 'utf16le').swap16();

const NOT_UNDERSTOOD: readonly (readonly [name: string, attack: Attack])[] = [
  ['a byte order mark', { body: `\uFEFF${chat({ max_tokens: HUGE })}` }],
  ['UTF-16', { body: Buffer.from(`\uFEFF${chat({ max_tokens: HUGE })}`, 'utf16le') }],
  ['UTF-16, the other way round', { body: reversed(`\uFEFF${chat({ max_tokens: HUGE })}`) }],
  ['NaN', { body: raw('"max_tokens":NaN') }],
  ['NaN elsewhere', { body: raw('"temperature":NaN,"max_tokens":5') }],
  ['Infinity', { body: raw('"max_tokens":Infinity') }],
  ['a trailing comma', { body: raw(`"max_tokens":${HUGE},`) }],
  ['a comment', { body: raw(`/* x */"max_tokens":${HUGE}`) }],
  ['a key without quotes', { body: raw(`max_tokens:${HUGE}`) }],
  ['a form', { body: `model=m&max_tokens=${HUGE}` }],
  ['two values', { body: `${chat({ max_tokens: 5 })}${chat({ max_tokens: HUGE })}` }],
  ['gzip that is not said to be', { body: gzipSync(chat({ max_tokens: HUGE })) }],
  ['an encoding that nobody knows', { body: chat(), headers: { 'content-encoding': 'x-own' } }],
  ['another case', { body: chat({ max_tokens: 5, MAX_TOKENS: HUGE }) }],
  ['letters that fold', { body: chat({ max_tokens: 5, 'max_to\u212Aen\u017F': HUGE }) }],
  ['a NUL in a key', { body: chat({ max_tokens: 5, 'n\0': 1_000 }) }],
  ['a maximum that is no number', { body: chat({ max_tokens: true }) }],
  ['a maximum in words', { body: chat({ max_tokens: 'many' }) }],
  ['a maximum of many digits', { body: raw(`"max_tokens":1${'0'.repeat(5_000)}`) }],
  ['a list of numbers of answers', { body: chat({ max_tokens: 5, n: [HUGE] }) }],
  ['a file by its name', { body: parts({ type: 'file', file: { file_id: 'file-1' } }) }],
  [
    'a document by its address',
    { body: parts({ type: 'document', source: { type: 'url', url: 'https://x' } }) },
  ],
  ['another path of completions', { path: '/engines/x/completions', body: chat({ max_tokens: HUGE }) }],
  ['a batch', { path: '/batches', body: '{"input_file_id":"file-1"}' }],
  ['a run of an assistant', { path: '/threads/t/runs', body: '{"assistant_id":"a"}' }],
];

const TOO_MUCH: readonly (readonly [name: string, attack: Attack])[] = [
  ['said in gzip', { body: gzipSync(chat({ max_tokens: HUGE })), headers: { 'content-encoding': 'gzip' } }],
  ['the first of two', { body: raw(`"max_tokens":${HUGE},"max_tokens":1`) }],
  ['the second of two', { body: raw(`"max_tokens":1,"max_tokens":${HUGE}`) }],
  ['the one of two names', { body: chat({ max_completion_tokens: 1, max_tokens: HUGE }) }],
  ['the other of two names', { body: chat({ max_completion_tokens: HUGE, max_tokens: 1 }) }],
  ['as a string', { body: chat({ max_tokens: String(HUGE) }) }],
  ['with underscores', { body: chat({ max_tokens: '1_000_000' }) }],
  ['for each answer', { body: chat({ max_tokens: 1_000, n: 30 }) }],
  ['for each answer, as a string', { body: chat({ max_tokens: 1_000, n: '30' }) }],
  ['for each of the best', { body: chat({ max_tokens: 1_000, n: 1, best_of: 30 }) }],
  [
    'for each prompt',
    {
      path: '/completions',
      body: JSON.stringify({ model: 'm', prompt: Array(30).fill('x'), max_tokens: 1_000 }),
    },
  ],
  [
    'for each prompt of tokens',
    {
      path: '/completions',
      body: JSON.stringify({ model: 'm', prompt: Array(30).fill([1]), max_tokens: 1_000 }),
    },
  ],
  ['in a file', { body: parts({ type: 'file', file: { file_data: 'x '.repeat(15_000) } }) }],
  ['beside a file', { body: parts({ type: 'file', text: 'x '.repeat(15_000) }) }],
  ['beside a picture', { body: parts({ type: 'image_url', text: 'x '.repeat(15_000) }) }],
  [
    'in what is no picture',
    { body: parts({ type: 'image_url', image_url: { url: `data:text/plain,${'x'.repeat(30_000)}` } }) },
  ],
  [
    'in a document that is called a picture, too',
    {
      body: raw(
        `"max_tokens":5,"x":[{"type":"image","type":"document","source":{"type":"text","data":"${'A'.repeat(30_000)}"}}]`,
      ),
    },
  ],
  [
    'the same with an escape',
    {
      body: raw(
        `"max_tokens":5,"x":[{"type":"image","\\u0074ype":"document","source":{"data":"${'A'.repeat(30_000)}"}}]`,
      ),
    },
  ],
  ...[
    '//chat//completions',
    '/chat/completions/',
    '/chat/completions//',
    '/./chat/./completions',
    '/%63hat/completions',
    '/%2563hat%2fcompletions',
    '/Chat/COMPLETIONS',
    '/chat;v=1/completions;x',
    '/chat\\completions',
    '/chat/completions%20',
  ].map((path) => [`at ${path}`, { path, body: chat({ max_tokens: HUGE }) }] as const),
];

t.test('a request that a server may parse differently is refused with a reason', async (t) => {
  for (const [name, attack] of NOT_UNDERSTOOD) {
    const before = count();
    const { status, headers, body } = await budgeted(attack);
    t.equal(status, 400, name);
    t.match(headers, { 'outrigger-reason': 'bad_request', 'x-should-retry': 'false' }, name);
    t.match(
      body.toString(),
      /has a budget, and what this request may use can't be bounded: \w|the request must be read, and its content-encoding/,
      name,
    );
    t.equal(count(), before, `${name}: nothing was spent`);
  }
});

t.test('the highest count counts', async (t) => {
  for (const [name, attack] of TOO_MUCH) {
    const before = count();
    const { status, headers } = await budgeted(attack);
    t.equal(status, 429, name);
    t.match(headers, { 'outrigger-reason': 'budget_exhausted' }, name);
    t.equal(count(), before, `${name}: nothing was spent`);
  }
});

t.test('an invalid maximum is replaced by the rest of the budget', async (t) => {
  for (const body of [
    chat({ max_tokens: -1 }),
    chat({ max_tokens: 0 }),
    raw('"max_tokens":null,"max_tokens":9'),
  ]) {
    t.equal((await budgeted({ body })).status, 200);
    const { max_tokens: most, max_completion_tokens: other } = last().json as Record<string, number>;
    t.ok(most! > 0 && most! < BUDGET, `${body}: ${most}`);
    t.equal(other, undefined);
  }
});

t.test('ordinary requests within a budget are served', async (t) => {
  const picture = {
    type: 'image_url',
    image_url: { url: `data:image/png;base64,${'iVBORw0KGgo'.repeat(90_000)}` },
  };
  const photo = {
    type: 'image',
    source: { type: 'base64', media_type: 'image/jpeg', data: '/9j/4AAQSkZJRgAB'.repeat(60_000) },
  };
  const small = chat({ max_tokens: 50, temperature: 0.5, stop: null, n: 1, top_p: 1e-1, stream: false });
  for (const [name, attack] of [
    ['a plain one', { body: small }],
    ['written for people', { body: JSON.stringify(JSON.parse(small), null, '\t') }],
    ['in gzip', { body: gzipSync(small), headers: { 'content-encoding': 'gzip' } }],
    ['with a picture', { body: parts({ type: 'text', text: 'what is it?' }, picture) }],
    ['with a photo', { body: parts(photo) }],
    ['with a picture in PHP', { body: parts(picture).replaceAll('/', '\\/') }],
    [
      'with tools',
      {
        body: chat({
          max_tokens: 5,
          tools: [
            {
              type: 'function',
              function: {
                name: 'f',
                parameters: {
                  type: 'object',
                  properties: { file_id: { type: 'string' }, url: { type: 'string' } },
                },
              },
            },
          ],
        }),
      },
    ],
    [
      'with a file in it',
      {
        body: parts({
          type: 'document',
          source: { type: 'text', media_type: 'text/plain', data: 'x'.repeat(5_000) },
        }),
      },
    ],
    [
      'of two prompts',
      { path: '/completions', body: JSON.stringify({ model: 'm', prompt: ['x', 'y'], max_tokens: 50 }) },
    ],
    [
      'of tokens',
      {
        path: '/completions',
        body: JSON.stringify({ model: 'm', prompt: Array(500).fill(7), max_tokens: 500 }),
      },
    ],
    ['that names no maximum', { body: chat({ max_tokens: null }) }],
    ['for vectors', { path: '/embeddings', body: JSON.stringify({ model: 'e', input: ['x', 'y'] }) }],
    ['that ends one', { path: '/responses/x/cancel', body: '' }],
    ['of another kind', { path: '/moderations', body: 'as it is' }],
    ['that counts', { path: '/messages/count_tokens', body: chat() }],
  ] as const) {
    const { status, body } = await budgeted(attack);
    t.equal(status, 200, `${name}: ${body.toString().slice(0, 300)}`);
  }
  const empty = await budgeted({ body: '', headers: { 'content-encoding': 'gzip' } });
  t.equal(empty.status, 200, 'the provider judges an empty body, encoded or not');
});

t.test('without a budget, every request passes byte for byte', async (t) => {
  for (const [name, { path = CHAT, body, headers }] of [...NOT_UNDERSTOOD, ...TOO_MUCH]) {
    const { status } = await ask({ path, body, ...(headers === undefined ? {} : { headers }) });
    t.equal(status, 200, name);
    t.equal(last().path, `/v1${path}`, name);
    t.ok(last().body.equals(Buffer.from(body)), name);
  }
});
