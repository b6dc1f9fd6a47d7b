// Clients of models as people use them, unchanged: what their callers see through the egress is what they see without
// it, and the provider is asked exactly as often.
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { startEgress } from '../scripts/harness/llm/egress-listener.ts';
import {
  PIECES,
  type ProviderRequest,
  type Script,
  sendError,
  sendJson,
  WHOLE,
} from '../scripts/harness/llm/provider.ts';
import { PATIENCE_MS } from '../scripts/harness/patience.ts';
import { startProcess } from '../scripts/harness/process.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { answer, begin, hasToolResult, type Turn } from './llm/model-answers.ts';
import { askAnthropic, askOpenAi, type NodeAsk } from './llm/node-clients.ts';
import { providerFor } from './llm/set-up.ts';

const provider = await providerFor(t);

/** What a caller saw. */
interface Seen {
  readonly text: string;
  /** The calls of tools, one behind the other. */
  readonly tool: string;
  /** `cancelled` by the caller, `late` by its clock or by ours, or the error's name and status. */
  readonly error?: string;
}

type Kind = (typeof KINDS)[number];

/** What is asked and how the provider behaves; also the model's name, by which the provider knows. */
const KINDS = [
  'plain',
  'streamed',
  'tools-plain',
  'tools-streamed',
  'refused-plain',
  'refused-streamed',
  'busy-plain',
  'busy-streamed',
  'missing-plain',
  'missing-streamed',
  'limited-plain',
  'limited-streamed',
  'broken-plain',
  'overloaded-streamed',
  'cancelled-plain',
  'cancelled-streamed',
  'slow-plain',
  'slow-streamed',
  'hangs-plain',
  'hangs-streamed',
] as const;

/** Longer than the clocks for streams of the egress that gets the slow plain requests. */
const SLOW_MS = 1_500;
const HASTY = { first_byte_timeout: '300ms', idle_timeout: '300ms' };

interface Expected {
  readonly seen: Partial<Seen>;
  readonly requests: number;
}

const ADD = '{"a": 1, "b": 2}';

/** Google's client tries nothing again by itself: only through the egress its caller sees nothing of a failure that passes. */
function expectedOfGemini(kind: Kind, isDirect: boolean): Expected | undefined {
  const [name = ''] = kind.split('-', 1);
  const failed = (status: number): Expected => ({
    seen: { text: '', error: `${status < 500 ? 'Client' : 'Server'}Error ${status}` },
    requests: 1,
  });
  if (name === 'refused') return failed(401);
  if (name === 'missing') return failed(404);
  if (name === 'hangs') return { seen: { text: '', error: 'late' }, requests: 1 };
  return isDirect && name in ONCE ? failed(ONCE[name]!) : undefined;
}

/** The same without and with the egress, but for Google's client. */
function expectedOf(kind: Kind, library: string, isDirect: boolean): Expected {
  const ofGemini = library === 'google-genai' ? expectedOfGemini(kind, isDirect) : undefined;
  if (ofGemini !== undefined) return ofGemini;
  const whole = { text: WHOLE, tool: '' };
  switch (kind.replace(/-(plain|streamed)$/, '')) {
    case 'tools':
      return library === 'openai-agents'
        ? { seen: { text: WHOLE, tool: 'add(1, 2)' }, requests: 2 }
        : { seen: { text: '', tool: `add${ADD}` }, requests: 1 };
    case 'refused':
      return {
        seen: { text: '', error: 'AuthenticationError 401' },
        requests: 1,
      };
    case 'missing':
      return {
        seen: { text: '', error: 'NotFoundError 404' },
        requests: 1,
      };
    case 'busy':
    case 'limited':
    case 'broken':
    case 'overloaded':
      return { seen: whole, requests: 2 };
    case 'cancelled':
      return { seen: { text: kind.endsWith('streamed') ? PIECES[0]! : '', error: 'cancelled' }, requests: 1 };
    case 'hangs':
      return { seen: { text: '', error: 'late' }, requests: 2 };
    default:
      return { seen: whole, requests: 1 };
  }
}

/** The statuses that a provider answers at first, and then no more. */
const ONCE: Readonly<Record<string, number>> = { busy: 503, limited: 429, broken: 500, overloaded: 529 };

/** The model that a request names: in its body, or in the path as Gemini's clients do. */
const modelOf = ({ json, path }: ProviderRequest): string =>
  String(json?.['model'] ?? /models\/([^:]+):/.exec(path)?.[1]);

const requestsOf = (name: string, kind: string) =>
  provider.requests(name).filter((request) => modelOf(request) === kind);

/** A provider that behaves as the model's name says. */
function behaving(name: string): Script {
  return async (request, response) => {
    const kind = modelOf(request);
    const text: Turn = { pieces: PIECES };
    const once = ONCE[kind.split('-', 1)[0]!];
    if (kind.startsWith('refused')) sendError(response, 401);
    else if (kind.startsWith('missing')) sendError(response, 404);
    else if (once !== undefined && requestsOf(name, kind).length === 1) sendError(response, once);
    else if (kind.startsWith('hangs') || kind === 'cancelled-plain') return;
    else if (kind === 'cancelled-streamed') begin(request, response, text);
    else {
      if (kind.startsWith('slow')) await sleep(SLOW_MS);
      const calls = kind.startsWith('tools') && !hasToolResult(request);
      answer(request, response, calls ? { callArguments: ADD } : text);
    }
  };
}

interface Case {
  readonly id: string;
  readonly kind: Kind;
  readonly base_url: string;
}

/** Runs all cases at once. @param leave settles when the caller of a case is to leave, which has its first piece by then if it gets any */
type Library = (t: Test, cases: readonly Case[], leave: (id: string) => Promise<unknown>) => Promise<Results>;
type Results = Readonly<Record<string, Seen>>;

const python =
  (library: string): Library =>
  async (t, cases, leave) => {
    const args = [`${import.meta.dirname}/support/python/model_cases.py`, JSON.stringify({ library, cases })];
    const running = startProcess(t, requireTool('model-clients'), args, { stdin: true });
    for (const { id, kind } of cases)
      if (kind.startsWith('cancelled')) void leave(id).then(() => running.child.stdin!.write(`${id}\n`));
    const code = await running.ended;
    const output = running.logs();
    if (code !== 0) throw new Error(`${library} ended with ${code}: ${output}`);
    return JSON.parse(output.slice(output.lastIndexOf('\n{') + 1)) as Results;
  };

const inNode =
  (ask: NodeAsk): Library =>
  async (_t, cases, leave) => {
    const entries = cases.map(async (one): Promise<[string, Seen]> => {
      const seen: { text: string; tool: string; error?: string } = { text: '', tool: '' };
      const aborter = new AbortController();
      const hasBegun = () => one.kind === 'cancelled-plain' || seen.text !== '';
      if (one.kind.startsWith('cancelled'))
        void leave(one.id)
          .then(() => waitUntil(`${one.id} has begun`, hasBegun, { limitMs: PATIENCE_MS }))
          .then(() => aborter.abort());
      try {
        await ask(one, seen, aborter.signal);
      } catch (error) {
        const { name, status } = {
          name: (error as Error).constructor.name,
          ...(error as { status?: number }),
        };
        if (name === 'APIUserAbortError') seen.error = 'cancelled';
        else seen.error = status === 504 || name.includes('Timeout') ? 'late' : `${name} ${status}`;
      }
      // The library ends the events of an aborted stream as if it were whole.
      if (aborter.signal.aborted) seen.error = 'cancelled';
      return [one.id, seen];
    });
    return Object.fromEntries(await Promise.all(entries));
  };

const WITHOUT_PYTHON = skipWithout('model-clients');
const LIBRARIES: readonly [string, Library, string | false][] = [
  ['openai-node', inNode(askOpenAi), false],
  ['anthropic-node', inNode(askAnthropic), skipWithout('anthropic-node')],
  ['openai', python('openai'), WITHOUT_PYTHON],
  ['anthropic', python('anthropic'), WITHOUT_PYTHON],
  ['langchain-openai', python('langchain-openai'), WITHOUT_PYTHON],
  ['langchain-anthropic', python('langchain-anthropic'), WITHOUT_PYTHON],
  ['openai-agents', python('openai-agents'), WITHOUT_PYTHON],
  ['azure', python('azure'), WITHOUT_PYTHON],
  ['google-genai', python('google-genai'), WITHOUT_PYTHON],
];

/** @param other where no request of the library may go */
function upstreamsFor(library: string, url: string, other: string): object[] {
  const root = url.replace(/\/v1$/, '');
  if (library === 'azure') return [{ name: 'one', kind: 'azure', url: root }];
  if (library === 'google-genai') return [{ name: 'one', kind: 'gemini', url: root }];
  if (!library.includes('anthropic')) return [{ name: 'one', url }];
  return [
    { name: 'other', kind: 'openai', url: other },
    { name: 'one', kind: 'anthropic', url },
  ];
}

// They mostly wait, for each other's clocks and back-offs.
t.jobs = 3;
for (const [library, run, skip] of LIBRARIES) {
  t.test(`${library} behaves as without the egress`, { skip, buffered: true }, async (t) => {
    const through = `${library}-through`;
    const direct = `${library}-direct`;
    const url = provider.script(through, behaving(through));
    const directUrl = provider.script(direct, behaving(direct));
    const start = async (more: object) => {
      const egress = await startEgress({
        upstreams: upstreamsFor(library, url, directUrl),
        circuit_breaker: { failure_percent: 0 },
        ...more,
      });
      t.teardown(() => egress.close());
      return egress;
    };
    const usual = await start({});
    // Streams are silent for no longer than its clocks; plain answers may be.
    const hasty = await start(HASTY);
    const cases = KINDS.flatMap((kind) => [
      { id: `${direct} ${kind}`, kind, base_url: directUrl },
      { id: `${through} ${kind}`, kind, base_url: (kind === 'slow-plain' ? hasty : usual).baseUrl },
    ]);
    const leave = (id: string) => {
      const [route = '', kind = ''] = id.split(' ');
      return waitUntil(`${id} has come`, () => requestsOf(route, kind).length === 1, {
        limitMs: PATIENCE_MS,
      });
    };
    const seen = await run(t, cases, leave);
    for (const kind of KINDS) {
      for (const route of [direct, through]) {
        const expected = expectedOf(kind, library, route === direct);
        const id = `${route} ${kind}`;
        t.match(seen[id], expected.seen, id);
        t.equal(requestsOf(route, kind).length, expected.requests, `${id}: requests at the provider`);
      }
      if (library !== 'google-genai' || !(kind.split('-', 1)[0]! in ONCE))
        t.strictSame(seen[`${through} ${kind}`], seen[`${direct} ${kind}`], `${kind}: the same`);
      if (!kind.startsWith('cancelled')) continue;
      for (const route of [direct, through])
        await waitUntil(
          `${route}: the provider sees that it is left`,
          () => requestsOf(route, kind)[0]?.aborted,
        );
    }
    for (const egress of [usual, hasty])
      await waitUntil('nothing is left', () => egress.listener.activeRequests === 0);
  });
}

/** Each client, made as its documentation says, with the upstream that it expects; by the names in `provider_clients.py`. */
const ELSEWHERE = {
  anthropic: { kind: 'anthropic', counted: 14 },
  azure: { kind: 'azure', counted: undefined },
  'google-genai': { kind: 'gemini', counted: 9 },
  'openai-at-gemini': { kind: 'gemini', counted: undefined },
} as const;

t.test(
  'clients of other providers come by the base URLs that they form themselves',
  { skip: WITHOUT_PYTHON },
  async (t) => {
    const url = provider
      .script('elsewhere', (request, response) => {
        const about = request.path + request.body.toString();
        if (/count_tokens$/.test(request.path)) sendJson(response, 200, { input_tokens: 14 });
        else if (/:countTokens/.test(request.path)) sendJson(response, 200, { totalTokens: 9 });
        else if (about.includes('nobody')) {
          const error = { code: 404, type: 'not_found_error', message: 'no such model', status: 'NOT_FOUND' };
          sendJson(response, 404, { type: 'error', error });
        } else if (!about.includes('cut')) answer(request, response, { pieces: PIECES });
        else if (/"stream": ?true|alt=sse/.test(about)) {
          begin(request, response, { pieces: PIECES });
          response.end();
        } else sendJson(response, 200, {}, { 'content-length': 900 });
      })
      .replace(/\/v1$/, '');
    const upstreams = [...new Set(Object.values(ELSEWHERE).map(({ kind }) => kind))].map((kind) => ({
      name: kind,
      kind,
      url,
    }));
    const { baseUrl, close } = await startEgress({
      upstreams,
      retry: { max_attempts: 1 },
      circuit_breaker: { failure_percent: 0 },
    });
    t.teardown(() => close());
    const root = baseUrl.replace(/\/v1$/, '');
    const env = {
      ANTHROPIC_BASE_URL: root,
      ANTHROPIC_API_KEY: 'placeholder',
      AZURE_OPENAI_ENDPOINT: root,
      AZURE_OPENAI_API_KEY: 'placeholder',
      GOOGLE_GEMINI_BASE_URL: root,
      GEMINI_API_KEY: 'placeholder',
      OPENAI_API_KEY: 'placeholder',
    };
    const script = `${import.meta.dirname}/support/python/provider_clients.py`;
    await Promise.all(
      Object.entries(ELSEWHERE).map(async ([library, { counted }]) => {
        const given = JSON.stringify({ library, models: ['fine', 'nobody', 'cut'] });
        const running = startProcess(t, requireTool('model-clients'), [script, given], { env });
        t.equal(await running.ended, 0, library);
        const output = running.logs();
        // Its warnings may follow.
        const seen = JSON.parse(output.split('\n').findLast((line) => line.startsWith('{'))!);
        t.match(seen['fine plain'], { text: WHOLE, ...(counted === undefined ? {} : { counted }) }, library);
        t.strictSame(seen['fine streamed'], { text: WHOLE }, library);
        for (const mode of ['plain', 'streamed'])
          t.match(
            seen[`nobody ${mode}`],
            { error: / 404$/, message: /no such model/ },
            `${library}: ${mode}`,
          );
        t.match(seen['cut plain'].error, / 502$/, `${library}: half an answer`);
        t.type(seen['cut streamed'].error, 'string', `${library}: half a stream is no whole one`);
      }),
    );
  },
);
