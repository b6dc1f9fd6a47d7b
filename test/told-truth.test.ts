// A known mix of calls through two sidecars, the caller's and the agent's, and requests to a model: every series of
// `/metrics`, `/stats`, `/live`, the access log and the spans say what the callers, the agent and the provider have seen.
// A series that has no expectation here fails: whoever adds a metric says what is true of it.
import * as grpc from '@grpc/grpc-js';
import t from 'tap';
import { chat } from './llm/send.ts';
import { providerFor } from './llm/set-up.ts';
import { messageThen, ok, trailersOnly } from './support/answers.ts';
import { type Exposition, parseExposition } from './support/exposition.ts';
import { freePort } from './support/free-port.ts';
import { answerWhole, sendError, USAGE } from './support/llm-provider.ts';
import { startOtlpReceiver } from './support/otlp-receiver.ts';
import { RawClient, type UnaryOutcome } from './support/raw-grpc.ts';
import { type Sidecar, startSidecar } from './support/sidecar.ts';
import {
  AT_REST,
  byLabel,
  Counts,
  complaint,
  ERRORS,
  type Labels,
  type Live,
  labelOf,
  type Service,
  type Stats,
  type Truth,
} from './support/told-truth.ts';
import { grpcFrame, type SeenCall, startUpstream, taskRequest } from './support/upstream.ts';
import { waitUntil } from './support/wait-until.ts';

const provider = await providerFor(t);

const TASK = '/agent.AgentService/ProcessTask';
const TOKENS = 10;
const LIMIT = 8;
const path = (name: string): string => `/test.Mix/${name}`;
const nameOf = (code: number): string => grpc.status[code] ?? `CODE_${code}`;

t.test('what is told is true', async (t) => {
  const collector = await startOtlpReceiver(t);
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, OTEL_BSP_SCHEDULE_DELAY: '200' };
  const held: (() => void)[] = [];
  const seen = new Set<string>();
  const act = (call: SeenCall): void => {
    const { stream } = call;
    const method = String(call.headers[':path']);
    const text = call.body.subarray(5).toString();
    const isFirst = !seen.has(text);
    seen.add(text);
    if (method === TASK) messageThen(0, { message: Buffer.from([0x18, 0, 0x20, TOKENS]) })(stream, call);
    else if (method === path('Status')) trailersOnly(Number(text))(stream, call);
    else if (method === path('Retried')) (isFirst ? trailersOnly(14) : ok)(stream, call);
    else if (method === path('Hedged')) isFirst || ok(stream, call);
    else if (method === path('Held')) held.push(() => ok(stream, call));
    else if (method === path('Stream')) {
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      for (let i = 0; i < 3; i++) stream.write(grpcFrame(`part ${i}`));
      stream.end();
    } else if (method !== path('Silent')) ok(stream, call);
  };
  const agent = await startUpstream(t, {
    onCall: (call) => call.stream.on('end', () => act(call)),
  });
  const url = provider.script('mix', (request, response) => {
    const user = JSON.stringify(request.json);
    if (user.includes('refuse')) return sendError(response, 400);
    return user.includes('fail') ? sendError(response, 500) : answerWhole(request, response);
  });
  const atAgent = await startSidecar(
    t,
    {
      name: 'research',
      log: { access: true },
      inbound: { listen: `0.0.0.0:${await freePort()}`, app: agent.address, max_concurrent_calls: LIMIT },
      llm: {
        upstreams: [{ name: 'openai', url, model: 'small' }],
        retry: { max_attempts: 1 },
        circuit_breaker: { failure_percent: 0 },
      },
    },
    { env },
  );
  const endpoint = `127.0.0.1:${atAgent.inboundPort}`;
  const calm = {
    endpoints: [endpoint],
    circuit_breaker: { consecutive_failures: 0, failure_percent: 0 },
    outlier_detection: { max_ejection_percent: 0 },
  };
  const once = { ...calm, retry: { max_attempts: 1 } };
  const retry = { backoff: { base: '1ms', max: '2ms' }, budget: { percent: 100, min_concurrent: 50 } };
  const atCaller = await startSidecar(
    t,
    {
      name: 'caller',
      log: { access: true },
      inbound: { app: 'none' },
      outbound: {
        clusters: {
          plain: once,
          retried: { ...calm, retry: { ...retry, idempotent_methods: [path('Retried')] } },
          hedged: {
            ...calm,
            // A hedge goes to another endpoint.
            endpoints: [endpoint, `127.0.5.1:${atAgent.inboundPort}`],
            retry: { ...retry, idempotent_methods: [path('Hedged')] },
            hedge: { delay: '50ms' },
          },
        },
      },
    },
    { env },
  );

  /** Of the callers: cluster, method, status. */
  const calls = new Counts();
  /** Attempts of the caller's sidecar, which are the calls of the agent's: cluster, method, status. */
  const attempts = new Counts();
  const clients = new Map<string, RawClient>();
  let longestMs = 0;
  const call = async (
    cluster: string,
    method: string,
    body: Buffer | string,
    metadata?: grpc.Metadata,
  ): Promise<UnaryOutcome> => {
    let client = clients.get(cluster);
    if (client === undefined) {
      client = new RawClient(t, atCaller.outboundPort, { 'grpc.default_authority': cluster });
      clients.set(cluster, client);
    }
    const startedAtMs = performance.now();
    const outcome = await client.unary(Buffer.from(body), {
      path: method,
      ...(metadata ? { metadata } : {}),
    });
    longestMs = Math.max(longestMs, performance.now() - startedAtMs);
    calls.add(cluster, method, nameOf(outcome.code));
    return outcome;
  };
  /** A call of one attempt: both sidecars tell the same status. */
  const one = async (method: string, body: Buffer | string, metadata?: grpc.Metadata) => {
    const outcome = await call('plain', method, body, metadata);
    attempts.add('plain', method, nameOf(outcome.code));
    return outcome;
  };

  for (let code = 0; code <= 16; code++) t.equal((await one(path('Status'), String(code))).code, code);
  for (let i = 0; i < 5; i++) t.equal((await one(path('Unary'), `u${i}`)).code, 0);
  for (let i = 0; i < 4; i++) {
    t.equal((await call('retried', path('Retried'), `r${i}`)).code, 0);
    attempts.add('retried', path('Retried'), 'UNAVAILABLE');
    attempts.add('retried', path('Retried'), 'OK');
  }
  for (let i = 0; i < 3; i++) {
    t.equal((await call('hedged', path('Hedged'), `h${i}`)).code, 0);
    attempts.add('hedged', path('Hedged'), 'OK');
    attempts.add('hedged', path('Hedged'), 'CANCELLED');
  }
  const replayed = 2;
  for (const id of ['a', 'b', 'a', 'c', 'a'])
    t.equal((await one(TASK, taskRequest({ id, type: 'research', input: 'x' }))).code, 0);
  const deadline = new grpc.Metadata();
  deadline.set('grpc-timeout', '300m');
  for (let i = 0; i < 2; i++) {
    t.equal((await call('plain', path('Silent'), `d${i}`, deadline)).code, grpc.status.DEADLINE_EXCEEDED);
    attempts.add('plain', path('Silent'), 'DEADLINE_EXCEEDED');
  }
  const silent = () => agent.calls.filter(({ headers }) => headers[':path'] === path('Silent')).length;
  for (let i = 0; i < 3; i++) {
    const before = silent();
    const cancelled = new Promise<number>((resolve) => {
      const running = clients.get('plain')!.serverStream(Buffer.from(`c${i}`), { path: path('Silent') });
      running.on('error', (error: grpc.ServiceError) => resolve(error.code));
      void waitUntil('the agent has it', () => silent() > before).then(() => running.cancel());
    });
    t.equal(await cancelled, grpc.status.CANCELLED);
    calls.add('plain', path('Silent'), 'CANCELLED');
    attempts.add('plain', path('Silent'), 'CANCELLED');
  }
  for (let i = 0; i < 2; i++) {
    let messages = 0;
    const stream = clients.get('plain')!.serverStream(Buffer.from(`s${i}`), { path: path('Stream') });
    stream.on('data', () => messages++);
    const code = await new Promise<number>((resolve) =>
      stream.on('status', (status) => setImmediate(() => resolve(status.code))),
    );
    t.same([messages, code], [3, 0]);
    calls.add('plain', path('Stream'), 'OK');
    attempts.add('plain', path('Stream'), 'OK');
  }
  // More at a time than the agent's sidecar lets in: how many are shed their callers see.
  let shed = 0;
  const crowd = Array.from({ length: 12 }, async (_, i) => {
    const { code } = await one(path('Held'), `w${i}`);
    if (code === grpc.status.RESOURCE_EXHAUSTED) shed++;
  });
  await waitUntil('some are shed, and the others wait', () => held.length > 0 && held.length + shed === 12);
  for (const answer of held.splice(0)) answer();
  await Promise.all(crowd);
  t.ok(shed > 0, `${shed} were shed`);
  for (let i = 0; i < 2; i++)
    t.equal((await call('nowhere', path('Unary'), 'x')).code, grpc.status.UNIMPLEMENTED);

  let longestRequestMs = 0;
  const asked = { success: 3, refused: 2, failed: 1 };
  for (const [content, count] of [
    ['hello', asked.success],
    ['refuse', asked.refused],
    ['fail', asked.failed],
  ] as const) {
    for (let i = 0; i < count; i++) {
      const startedAtMs = performance.now();
      const response = await fetch(`http://127.0.0.1:${atAgent.llmPort}/v1/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', authorization: 'Bearer sk-of-the-test' },
        body: chat({ messages: [{ role: 'user', content: `${content} ${i}` }] }),
      });
      await response.arrayBuffer();
      longestRequestMs = Math.max(longestRequestMs, performance.now() - startedAtMs);
    }
  }

  const pageOf = async ({ metricsPort }: Sidecar): Promise<Exposition> =>
    parseExposition(await (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text());
  for (const sidecar of [atCaller, atAgent])
    await waitUntil('every call is over, and every span sent', async () => {
      const page = await pageOf(sidecar);
      const still = [...page.all('outrigger_active_calls'), ...page.all('outrigger_spans_waiting')];
      return still.every(({ value }) => value === 0);
    });
  const pages = { caller: await pageOf(atCaller), research: await pageOf(atAgent) };
  const statsOf = async ({ adminPort }: Sidecar) =>
    (await (await fetch(`http://127.0.0.1:${adminPort}/stats`)).json()) as Stats;
  const liveOf = async ({ adminPort }: Sidecar) =>
    (await (await fetch(`http://127.0.0.1:${adminPort}/live?format=json`)).json()) as Live;

  const kept = new Set(agent.calls.filter(({ headers }) => headers[':path'] === TASK)).size;
  const atApp = attempts.sum() - shed - replayed;
  t.equal(kept, 3, 'a task that comes again does not run again');
  t.equal(agent.calls.length, atApp, 'the agent has seen every attempt that was let in and not replayed');
  t.equal(provider.requests('mix').length, 6);

  /** By the name of a listener: who answered a deadline first, the caller's sidecar or the agent's, is a race. */
  const deadlines = calls.of('plain', path('Silent'), 'DEADLINE_EXCEEDED');
  const rejected = (service: Service, { listener, reason }: Labels): Truth => {
    if (service === 'caller' && listener === 'outbound' && reason === 'no_route') return 2;
    if (service === 'research' && listener === 'inbound' && reason === 'overloaded') return shed;
    const isSide = listener === (service === 'caller' ? 'outbound' : 'inbound');
    return isSide && reason === 'deadline' ? [0, deadlines] : 0;
  };
  // Who ends a call at its deadline first, the caller's sidecar or the agent's, is a race: then the agent's sees it cancelled.
  const silentOf = { rpc_method: 'test.Mix/Silent', rpc_status_code: 'DEADLINE_EXCEEDED' };
  const struck = pages.research.value('rpc_server_call_duration_seconds_count', silentOf) ?? 0;
  t.ok(struck <= deadlines);
  const served = new Counts();
  for (const entry of attempts.entries()) {
    const [cluster, method, code, count] = entry.split(' ') as [string, string, string, string];
    const isRace = method === path('Silent') && code === 'DEADLINE_EXCEEDED';
    for (let i = 0; i < Number(count); i++)
      served.add(cluster, method, isRace && i >= struck ? 'CANCELLED' : code);
  }
  const labelled = { calls: byLabel(calls), attempts: byLabel(served) };
  const clientCalls = ({ cluster, rpc_method: method, rpc_status_code: code }: Labels): number =>
    cluster === undefined || cluster === ''
      ? labelled.calls.of('nowhere', method, code)
      : labelled.calls.of(cluster, method, code);
  const serverCalls = ({ rpc_method: method, rpc_status_code: code }: Labels): number =>
    ['plain', 'retried', 'hedged'].reduce(
      (sum, cluster) => sum + labelled.attempts.of(cluster, method, code),
      0,
    );
  const model = (labels: Labels): boolean => labels['upstream'] === 'openai' && labels['model'] === 'small';
  const statusOf: Record<string, number> = {
    success: asked.success,
    '400': asked.refused,
    '500': asked.failed,
  };
  const requestsOf: Record<string, number> = asked;
  const tokens: Record<string, number> = {
    input: asked.success * USAGE.prompt_tokens,
    output: asked.success * USAGE.completion_tokens,
  };
  const spansOf = (service: Service): number =>
    collector.spans.filter(({ resource }) => resource['service.name'] === service).length;
  /** Of a duration there is no more than the longest that a caller saw, for each call. */
  const timed = (part: string, count: number, limitMs: number): Truth =>
    part === 'count' ? count : part === 'sum' ? [0, (count * limitMs) / 1000] : [0, count];

  /** What is true of each series; undefined for one that this test does not know. */
  const truthOf = (service: Service, name: string, labels: Labels): Truth | undefined => {
    const own = service === 'research';
    const histogram = /^(.*_seconds)_(bucket|sum|count)$/.exec(name);
    if (histogram !== null) {
      const [, base, part] = histogram as unknown as [string, string, string];
      if (base === 'rpc_server_call_duration_seconds')
        return timed(part, own ? serverCalls(labels) : 0, longestMs);
      if (base === 'rpc_client_call_duration_seconds')
        return timed(part, own ? 0 : clientCalls(labels), longestMs);
      const isModel = own && model(labels);
      if (base === 'outrigger_llm_request_duration_seconds')
        return timed(part, isModel ? 6 : 0, longestRequestMs);
      if (base === 'outrigger_llm_time_to_first_token_seconds')
        return timed(part, isModel ? asked.success : 0, longestRequestMs);
      return undefined;
    }
    const { cluster, outcome, status, listener } = labels;
    switch (name) {
      case 'outrigger_build_info':
      case 'outrigger_ready':
        return 1;
      case 'outrigger_findings':
        return { unknown: 'what is found depends on the second; test/outages.test.ts makes each of them' };
      case 'outrigger_rejected_total':
        return rejected(service, labels);
      case 'outrigger_concurrency_limit':
        return own && listener === 'inbound' ? LIMIT : { unknown: 'the default, or none' };
      case 'outrigger_active_connections':
        return { unknown: 'how many connections a client or a pool opens is its own business' };
      case 'outrigger_attempts_total': {
        const { code } = labels;
        if (cluster === 'app') return appAttempts.of(code);
        const count = attempts.sum(code, cluster);
        return cluster === 'hedged' ? [0, count] : count;
      }
      case 'outrigger_retries_total':
        return cluster === 'retried' && (outcome === 'retried' || outcome === 'success')
          ? calls.sum('OK', 'retried')
          : 0;
      case 'outrigger_hedges_total':
        return cluster === 'hedged' && (outcome === 'sent' || outcome === 'won')
          ? calls.sum('OK', 'hedged')
          : 0;
      case 'outrigger_tasks_total':
        return own && status === 'SUCCESS' ? kept : 0;
      case 'outrigger_tokens_total':
        return own && labels['use'] === 'useful' ? kept * TOKENS : 0;
      case 'outrigger_tasks_deduplicated_total':
        return own && outcome === 'replayed' ? replayed : 0;
      case 'outrigger_llm_requests_total':
        return own && model(labels) ? (requestsOf[outcome!] ?? 0) : 0;
      case 'outrigger_llm_attempts_total':
        return own && model(labels) ? (statusOf[outcome!] ?? 0) : 0;
      case 'outrigger_llm_tokens_total':
        return own && model(labels) ? (tokens[labels['type']!] ?? 0) : 0;
      case 'outrigger_spans_total':
        return outcome === 'exported' ? spansOf(service) : 0;
    }
    if (AT_REST.has(name)) return 0;
    return /^(process|nodejs)_/.test(name)
      ? { unknown: 'the process itself is not what is told of' }
      : undefined;
  };
  /** Of the agent, by status: what was shed or replayed has not come to it. */
  const appAttempts = new Counts();
  for (const entry of served.entries()) {
    const [, method, code, count] = entry.split(' ') as [string, string, string, string];
    const isShed = method === path('Held') && code === 'RESOURCE_EXHAUSTED';
    const less = isShed ? Number(count) : method === TASK ? replayed : 0;
    for (let i = less; i < Number(count); i++) appAttempts.add(code);
  }
  let known = 0;
  for (const service of ['caller', 'research'] as const) {
    const wrong: string[] = [];
    const names = [...pages[service].samples.keys()].map((series) => series.slice(0, series.indexOf('{')));
    for (const name of new Set(names)) {
      for (const { labels, value } of pages[service].all(name)) {
        const truth = truthOf(service, name, labels);
        const said = truth === undefined ? 'nobody has said what is true of it' : complaint(truth, value);
        if (said !== undefined) wrong.push(`${name} ${JSON.stringify(labels)}: ${said}`);
        known++;
      }
    }
    t.same([...new Set(wrong)], [], `every series of the ${service}'s sidecar`);
  }
  t.ok(known > 300, `${known} series`);
  /** The other way: what has happened has a series. */
  for (const [page, name, counts] of [
    [pages.caller, 'rpc_client_call_duration_seconds_count', calls],
    [pages.research, 'rpc_server_call_duration_seconds_count', served],
  ] as const) {
    const sum = page.all(name).reduce((total, { value }) => total + value, 0);
    t.equal(sum, counts.sum(), `${name} has them all`);
  }

  for (const [sidecar, listener, counts] of [
    [atCaller, 'outbound', calls],
    [atAgent, 'inbound', served],
  ] as const) {
    const errors = ERRORS.reduce((sum, code) => sum + counts.sum(code), 0);
    const told = { total_requests: counts.sum(), total_errors: errors, active_calls: 0 };
    t.match((await statsOf(sidecar)).listeners[listener], told, `/stats of ${listener}`);
    const live = (await liveOf(sidecar)).listeners.find(({ name }) => name === listener);
    t.match(live, told, `/live of ${listener}`);

    const lines = await waitUntil('the access log has them all', () => {
      const all = sidecar
        .logs()
        .split('\n')
        .filter((line) => line.includes('"log":"access"'))
        .map((line) => JSON.parse(line) as Record<string, string>)
        .filter((line) => line['listener'] === listener);
      return all.length >= counts.sum() && all;
    });
    const written = new Counts();
    for (const { method, status } of lines) written.add(method!, status!);
    const happened = new Counts();
    const traced = new Counts();
    for (const entry of counts.entries()) {
      const [, method, code, count] = entry.split(' ') as [string, string, string, string];
      for (let i = 0; i < Number(count); i++) {
        happened.add(method.slice(1), code);
        traced.add(labelOf(method, code), code);
      }
    }
    t.same(written.entries(), happened.entries(), `the access log of ${listener}`);
    const spans = new Counts();
    for (const { resource, kind, name, attributes } of collector.spans) {
      if (attributes['rpc.method'] === undefined || name.startsWith('Attempt.')) continue;
      if (resource['service.name'] !== (listener === 'outbound' ? 'caller' : 'research')) continue;
      if (kind === (listener === 'outbound' ? 3 : 2))
        spans.add(name, String(attributes['rpc.response.status_code']));
    }
    t.same(spans.entries(), traced.entries(), `the spans of ${listener}`);
  }
});
