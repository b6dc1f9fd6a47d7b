// Bodies: what the listeners read, and what looks like it.
import type { Dice } from './dice.ts';

/** `none` for a request without a body. */
export type JsonKind = 'chat' | 'responses' | 'embeddings' | 'task' | 'review' | 'none';

type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

const STRANGE: readonly Json[] = [
  null,
  true,
  0,
  -1,
  1.5,
  1e308,
  2 ** 53,
  '',
  'x',
  '1',
  [],
  {},
  [[]],
  { a: { b: { c: [] } } },
];

const NAMES = [
  'model',
  'n',
  'best_of',
  'max_tokens',
  'max_completion_tokens',
  'max_output_tokens',
  'stream',
  'stream_options',
  'input',
  'messages',
  'prompt',
  'user',
  '__proto__',
  'constructor',
  'toString',
];

/** What a listener expects, with some of its members changed. */
export function anyJson(dice: Dice, kind: Exclude<JsonKind, 'none'>): Json {
  const usual = USUAL[kind](dice);
  return dice.chance(0.4) ? changed(dice, usual, 0) : usual;
}

const text = (dice: Dice): string =>
  dice.weighted([
    [20, 'hello'],
    [2, 'é\u0000\ud800 \u2028'],
    [2, 'x'.repeat(dice.size(50_000))],
    [1, 'y'.repeat(dice.size(3_000_000))],
  ]);

/** Many, because one that is throttled is left alone for as long as its provider asks. */
const modelName = (dice: Dice): string => `model-${dice.int(0, 500)}`;

const chat = (dice: Dice): Json => ({
  model: modelName(dice),
  messages: [
    { role: 'system', content: 'be short' },
    { role: 'user', content: text(dice) },
  ],
  stream: dice.chance(0.5),
  max_tokens: dice.pick([1, 100, 4_096]),
  ...(dice.chance(0.2) ? { stream_options: { include_usage: true } } : {}),
  ...(dice.chance(0.2) ? { n: dice.pick([1, 2, 1_000_000]) } : {}),
});

const USUAL: Readonly<Record<Exclude<JsonKind, 'none'>, (dice: Dice) => Json>> = {
  chat,
  responses: (dice) => ({
    model: modelName(dice),
    input: dice.pick<Json>([
      text(dice),
      [{ role: 'user', content: [{ type: 'input_text', text: text(dice) }] }],
    ]),
    stream: dice.chance(0.5),
    max_output_tokens: dice.pick([16, 4_096]),
  }),
  embeddings: (dice) => ({
    model: modelName(dice),
    input: dice.pick<Json>([text(dice), ['a', 'b']]),
  }),
  task: (dice) => ({
    input: `echo ${text(dice)}`,
    agent_type: dice.pick(['research', 'research', 'writing', 'none']),
    ...(dice.chance(0.3) ? { metadata: { a: text(dice) } } : {}),
    ...(dice.chance(0.3) ? { max_tokens: dice.pick([1, 2 ** 31]) } : {}),
  }),
  review: (dice) => ({
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid: `fuzz-${dice.seed()}`,
      kind: { group: '', version: 'v1', kind: dice.pick(['Pod', 'Pod', 'Service']) },
      operation: dice.pick(['CREATE', 'CREATE', 'DELETE']),
      namespace: 'agents',
      object: pod(dice),
    },
  }),
};

function pod(dice: Dice): Json {
  const container = (index: number): Json => ({
    name: dice.pick(['agent', 'outrigger', `c${index}`]),
    image: 'registry.example/agent:1',
    ports: [{ containerPort: dice.pick([50_051, 15_006, 0, 70_000]), name: dice.pick(['grpc', 'http']) }],
    env: Array.from({ length: dice.size(200) }, (_, at) => ({
      name: `V${at}`,
      value: text(dice).slice(0, 2_000),
    })),
  });
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      name: 'agent-1',
      labels: { app: 'agent' },
      annotations: {
        'outrigger.dev/inject': dice.pick(['true', 'false', 'x']),
        'outrigger.dev/app-port': dice.pick(['50051', '-1', 'x']),
        other: text(dice),
      },
    },
    spec: { containers: Array.from({ length: 1 + dice.size(30) }, (_, index) => container(index)) },
  };
}

/** Some members replaced, taken away, doubled under other names, or put deep down. */
function changed(dice: Dice, value: Json, depth: number): Json {
  if (depth > 4 || dice.chance(0.1)) return dice.pick(STRANGE);
  if (Array.isArray(value)) {
    const items = value.map((item: Json) => (dice.chance(0.3) ? changed(dice, item, depth + 1) : item));
    return dice.chance(0.1) ? [...items, ...items] : items;
  }
  if (typeof value !== 'object' || value === null) return value;
  const members: [string, Json][] = [];
  for (const [name, member] of Object.entries(value as { [name: string]: Json })) {
    if (dice.chance(0.05)) continue;
    members.push([name, dice.chance(0.3) ? changed(dice, member, depth + 1) : member]);
  }
  if (dice.chance(0.3)) members.push([dice.pick(NAMES), dice.pick(STRANGE)]);
  return Object.fromEntries(members);
}

/** As text, which may be none that a strict parser takes. */
export function jsonText(dice: Dice, value: Json): Buffer {
  const plain = JSON.stringify(value);
  if (dice.chance(0.8)) return Buffer.from(plain);
  const form = dice.pick([
    'bom',
    'utf-16',
    'nan',
    'comma',
    'deep',
    'many',
    'damage',
    'cut',
    'escapes',
    'blank',
  ] as const);
  if (form === 'bom') return Buffer.from(`\ufeff${plain}`);
  if (form === 'utf-16') return Buffer.from(plain, 'utf16le');
  if (form === 'nan') return Buffer.from(plain.replace(/:\d+/, ':NaN'));
  if (form === 'comma') return Buffer.from(plain.replace(/\}$/, ',}'));
  if (form === 'deep') return Buffer.from('[{"a":'.repeat(dice.size(100_000)));
  if (form === 'many')
    return Buffer.from(
      `{${Array.from({ length: dice.size(50_000) }, (_, index) => `"k${index}":1`).join(',')}}`,
    );
  if (form === 'escapes') return Buffer.from(plain.replaceAll('e', '\\u0065'));
  if (form === 'blank') return Buffer.concat([Buffer.alloc(dice.size(100_000), 0x20), Buffer.from(plain)]);
  if (form === 'cut') return Buffer.from(plain.slice(0, dice.int(0, plain.length)));
  return dice.damage(Buffer.from(plain));
}
