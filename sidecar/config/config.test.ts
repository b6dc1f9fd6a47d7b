// The meaning of a configuration file, and the problems reported for a wrong one.
import { readFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import * as yaml from 'yaml';
import { makeCertificate } from '../kubernetes/webhook/certificate.ts';
import { idleTimeoutMs } from '../policy/deadline.ts';
import { parseDurationMs } from '../settings/duration.ts';
import { FrozenMap } from '../settings/frozen-map.ts';
import type { Config } from './config.ts';
import { jsonSchemaText } from './generate-schema.ts';
import { type LoadedConfig, loadConfig } from './load.ts';
import { formatProblem, type Problem } from './problems.ts';
import { redactUrl } from './redact.ts';

/** A certificate and its key in one file. */
const made = await makeCertificate({ names: ['a.example'], nowMs: Date.now(), lifetimeMs: 3_600_000 });
const PEM = made.cert + made.key;

/** Loads a file with this text; `FILE` in it stands for the path of a certificate with its key. */
function load(t: Test, text: string, pem = PEM) {
  const directory = t.testdir({ 'outrigger.yaml': '', 'a.pem': pem });
  t.testdir({ 'outrigger.yaml': text.replaceAll('FILE', `${directory}/a.pem`), 'a.pem': pem });
  const path = `${directory}/outrigger.yaml`;
  return { result: loadConfig({ path, overrides: [], yaml }), directory, path };
}

function loadRight(t: Test, text: string): LoadedConfig {
  const { result } = load(t, text);
  if ('problems' in result) t.fail(result.problems.map(formatProblem).join('\n'));
  return result as LoadedConfig;
}

/** The problems as `line:column path: message | remedy`. */
function problemsOf(t: Test, text: string, pem = PEM): string[] {
  const { result, directory } = load(t, text, pem);
  if ('config' in result) t.fail('the configuration is taken');
  const problems = 'problems' in result ? result.problems : [];
  return problems.map(({ line, column, path, message, remedy }: Problem) => {
    return `${line}:${column} ${path}: ${message} | ${remedy}`.replaceAll(directory, '');
  });
}

/** For comparisons: puts the clusters in a plain Map. */
function plain(config: Config) {
  return {
    ...config,
    outbound: { ...config.outbound, clusters: new Map(config.outbound.clusters) },
    mcp: { ...config.mcp, servers: new Map(config.mcp.servers) },
  };
}

/** Every setting, as the documentation shows it. */
const WHOLE = `
name: research-agent
version: 1.0.0
inbound:
  listen: 0.0.0.0:15006
  app: 127.0.0.1:50051
  max_concurrent_calls: 1024
  adaptive_concurrency: false
  queue: { max_calls: 0, max_wait: 5s }
  rate_limit: { calls_per_second: 0, burst: 10 }
  tasks: { deduplicate: true, max_age: 5m, max_bytes: 16777216, max_answer_bytes: 1048576, linger: 5s, scope_headers: [x-api-key, cookie] }
  token_budget: { from: anyone, allow_identities: [] }
  max_call_depth: 8
  allow_call_cycles: false
  max_message_bytes: 10485760
  timeout: 60s
  max_timeout: 0s
  first_chunk_timeout: 0s
  idle_timeout: null
  keepalive: { time: 30s, timeout: 10s, max_connection_age: 30m }
  tls: { cert: FILE, key: FILE, client_ca: FILE, allow_identities: ['spiffe://a/*', '*.b.example'], required: true }
outbound:
  listen: 127.0.0.1:15001
  routes:
    - match: { authority: Writing-Agent, path_prefix: /agent.AgentService/ }
      cluster: writing
    - match: { agent_type: code, headers: { X-Tenant: a } }
      cluster: writing
  clusters:
    writing:
      endpoints: [10.0.0.7:50051]
      dns_refresh: 5s
      balancer: peak_ewma
      connect_timeout: 5s
      timeout: 60s
      max_timeout: 0s
      first_chunk_timeout: 0s
      idle_timeout: null
      keepalive: { time: 30s, timeout: 10s }
      limits: { max_connections: 16, max_pending_calls: 1024, max_concurrent_calls: 1024 }
      circuit_breaker:
        consecutive_failures: 5
        failure_percent: 50
        min_calls: 20
        window: 10s
        recovery_timeout: 30s
        half_open_max: 3
      outlier_detection:
        consecutive_failures: 3
        interval: 30s
        base_ejection_time: 30s
        max_ejection_time: 300s
        max_ejection_percent: 50
      retry:
        max_attempts: 3
        on: [UNAVAILABLE]
        idempotent_methods: []
        per_try_timeout: 0s
        backoff: { base: 25ms, max: 250ms }
        budget: { percent: 20, min_concurrent: 3 }
        buffer_bytes: 65536
      hedge: { delay: 0s, percentile: 0, max_extra: 1 }
      task: { status_is_verdict: true, deduplicate: true }
      tls: { ca: FILE, cert: FILE, key: FILE, server_name: writing.example, allow_identities: [c.example] }
llm:
  listen: 127.0.0.1:15002
  upstreams:
    - { name: openai, url: https://api.openai.com/v1, api_key_env: OPENAI_API_KEY, model: null }
  first_byte_timeout: 2m
  idle_timeout: 2m
  timeout: 10m
  retry: { max_attempts: 3, max_retry_after: 60s, resend: false }
  circuit_breaker: { failure_percent: 50, min_calls: 5, window: 10s, recovery_timeout: 30s }
  limits: { requests_per_minute: 0, tokens_per_minute: 0 }
bus:
  url: null
  credentials_file: null
  replicas: 1
  consume: { agent_types: [], places: 8, lease: 15s, run_timeout: 0s, max_runs: 3, retry_delay: { base: 1s, max: 60s } }
  publish: { max_queued_per_agent: 10000, max_queued_per_caller: 1000, max_age: 24h }
  results: { max_age: 24h, max_bytes: 1GiB, max_answer_bytes: 10MiB }
  carry_headers: []
  trust_publishers: false
  encrypt_key_file: null
  dead_letters: { max_age: 30d }
admin: { listen: 127.0.0.1:15000 }
metrics: { listen: 0.0.0.0:15020 }
health: { listen: 0.0.0.0:15021 }
drain: { delay: 0s, timeout: 30s }
log: { level: info, access: false }
`;

const TIME_LIMITS = {
  timeoutMs: 60_000,
  maxTimeoutMs: 0,
  firstChunkTimeoutMs: 0,
  // The default, which depends on the method.
  idleTimeoutMs: undefined,
};

const CLUSTER_DEFAULTS = {
  endpoints: ['10.0.0.7:50051'],
  dns: undefined,
  dnsRefreshMs: 5_000,
  kubernetes: undefined,
  bus: undefined,
  balancer: 'peak_ewma',
  agentTypes: [],
  connectTimeoutMs: 5_000,
  ...TIME_LIMITS,
  keepalive: { timeMs: 30_000, timeoutMs: 10_000 },
  limits: { maxConnections: 16, maxPendingCalls: 1024, maxConcurrentCalls: 1024 },
  circuitBreaker: {
    consecutiveFailures: 5,
    failurePercent: 50,
    minCalls: 20,
    windowMs: 10_000,
    recoveryTimeoutMs: 30_000,
    halfOpenMax: 3,
  },
  outlierDetection: {
    consecutiveFailures: 3,
    intervalMs: 30_000,
    baseEjectionTimeMs: 30_000,
    maxEjectionTimeMs: 300_000,
    maxEjectionPercent: 50,
  },
  healthCheck: {
    intervalMs: 0,
    timeoutMs: 2_000,
    unhealthyThreshold: 3,
    healthyThreshold: 2,
    service: '',
    protocol: 'grpc',
  },
  retry: {
    maxAttempts: 3,
    on: ['UNAVAILABLE'],
    idempotentMethods: [],
    perTryTimeoutMs: 0,
    backoff: { baseMs: 25, maxMs: 250 },
    budget: { percent: 20, minConcurrent: 3 },
    bufferBytes: 65_536,
  },
  hedge: { delayMs: 0, percentile: 0, maxExtra: 1 },
  task: { statusIsVerdict: true, deduplicate: true },
};

const LIMITS = { maxConnections: 1024, maxConcurrentStreams: 1024, maxHeaderBytes: 65_536 };

const DEFAULTS = {
  name: 'agent',
  version: '0.0.0',
  inbound: {
    listen: '0.0.0.0:15006',
    app: '127.0.0.1:50051',
    maxConcurrentCalls: 1024,
    adaptiveConcurrency: false,
    queue: { maxCalls: 0, maxWaitMs: 5_000 },
    agentTypes: new FrozenMap([]),
    rateLimit: { callsPerSecond: 0, burst: 10 },
    tasks: {
      deduplicate: true,
      maxAgeMs: 300_000,
      maxBytes: 16_777_216,
      maxAnswerBytes: 1_048_576,
      lingerMs: 5_000,
      scopeHeaders: ['x-api-key', 'cookie'],
    },
    tokenBudget: { from: 'anyone', allowIdentities: [] },
    maxCallDepth: 8,
    allowCallCycles: false,
    callBaggage: true,
    forwardClientCert: false,
    maxMessageBytes: 10_485_760,
    ...TIME_LIMITS,
    keepalive: { timeMs: 30_000, timeoutMs: 10_000, maxConnectionAgeMs: 1_800_000, minTimeMs: 10_000 },
    limits: LIMITS,
    health: { intervalMs: 5_000, timeoutMs: 2_000 },
    tls: undefined,
  },
  outbound: {
    listen: '127.0.0.1:15001',
    targets: [],
    limits: LIMITS,
    namespace: '',
    clusterDomain: '',
    routes: [],
    clusters: new Map(),
  },
  llm: {
    listen: '127.0.0.1:15002',
    upstreams: [
      {
        name: 'openai',
        kind: undefined,
        url: 'https://api.openai.com/v1',
        apiVersion: undefined,
        apiKeyEnv: 'OPENAI_API_KEY',
        apiKeyFile: undefined,
        headers: {},
        ca: undefined,
        http2: true,
        lacks: undefined,
        model: undefined,
        adds: undefined,
        isService: false,
        limits: { requestsPerMinute: 0, tokensPerMinute: 0, concurrent: 0, maxWaiting: 1_000 },
      },
    ],
    models: [],
    pricesFile: undefined,
    callers: [],
    tls: undefined,
    replicas: 1,
    connections: { maxAgeMs: 600_000, dnsRefreshMs: 30_000, pingAfterMs: 30_000 },
    connectTimeoutMs: 5_000,
    firstByteTimeoutMs: 120_000,
    idleTimeoutMs: 120_000,
    timeoutMs: 600_000,
    webSocketIdleTimeoutMs: 3_600_000,
    retry: {
      maxAttempts: 3,
      maxRetryAfterMs: 60_000,
      resend: false,
      backoff: { baseMs: 500, maxMs: 8_000 },
      incompleteAnswers: false,
    },
    circuitBreaker: { failurePercent: 50, minCalls: 5, windowMs: 10_000, recoveryTimeoutMs: 30_000 },
    limits: {
      requestsPerMinute: 0,
      tokensPerMinute: 0,
      tokensPerTask: 0,
      usdPerTask: 0,
      defaultOutputTokens: 4_096,
      maxWaitMs: 30_000,
      maxConcurrentRequests: 1_024,
      maxWebSockets: 256,
      maxRequestBytes: 33_554_432,
      maxBodyMemoryBytes: 0,
      maxAnswerBytes: 134_217_728,
    },
    streamUsage: 'auto',
    singleFlight: false,
    logBodies: false,
  },
  mcp: {
    tls: undefined,
    listen: '127.0.0.1:15003',
    servers: new Map(),
    connectTimeoutMs: 5000,
    firstByteTimeoutMs: 0,
    idleTimeoutMs: 600_000,
    timeoutMs: 600_000,
    retry: { maxAttempts: 3, backoff: { baseMs: 100, maxMs: 2000 } },
    circuitBreaker: { failurePercent: 50, minCalls: 5, windowMs: 10_000, recoveryTimeoutMs: 30_000 },
    limits: {
      callsPerTask: 0,
      maxConcurrentRequests: 1024,
      maxRequestBytes: 8_388_608,
      maxAnswerBytes: 33_554_432,
    },
  },
  bus: {
    url: undefined,
    credentialsFile: undefined,
    tls: undefined,
    replicas: 1,
    consume: {
      agentTypes: [],
      places: 8,
      leaseMs: 15_000,
      runTimeoutMs: 0,
      maxRuns: 3,
      retryDelay: { baseMs: 1_000, maxMs: 60_000 },
    },
    publish: {
      maxQueuedPerAgent: 10_000,
      maxQueuedPerCaller: 1_000,
      maxQueuedBytes: 1_073_741_824,
      maxQueuedBytesPerCaller: 268_435_456,
      maxAgeMs: 86_400_000,
    },
    results: { maxAgeMs: 86_400_000, maxBytes: 1_073_741_824, maxAnswerBytes: 10_485_760 },
    maxMemoryBytes: 0,
    carryHeaders: [],
    trustPublishers: false,
    encryptKeyFile: undefined,
    deadLetters: { maxAgeMs: 2_592_000_000 },
  },
  journal: {
    store: undefined,
    maxAgeMs: 3_600_000,
    maxAnswerBytes: 1_048_576,
    maxTaskBytes: 16_777_216,
    maxBytes: 268_435_456,
    encryptKeyEnv: undefined,
  },
  admin: { listen: '127.0.0.1:15000', peers: [] },
  metrics: { listen: '0.0.0.0:15020' },
  health: { listen: '0.0.0.0:15021' },
  drain: { delayMs: 0, timeoutMs: 30_000 },
  log: { level: 'info', access: false, accessHeaders: [] },
};

t.test('an empty file is a complete configuration', async (t) => {
  const result = loadConfig({ path: undefined, overrides: [], yaml: undefined });
  t.strictSame(plain((result as LoadedConfig).config), DEFAULTS);
  for (const text of ['', '# nothing\n', 'inbound:\noutbound:\n  clusters:\nlog: {}\n', '{}']) {
    t.strictSame(plain(loadRight(t, text).config), DEFAULTS, JSON.stringify(text));
  }
});

t.test('a given idle timeout applies to all streams, and the default to task streams only', async (t) => {
  const idleTimeouts = (text: string) => {
    const { inbound, outbound } = loadRight(t, text).config;
    return [inbound, outbound.clusters.get('c')!].map((limits) => [
      idleTimeoutMs(limits, 'task_stream'),
      idleTimeoutMs(limits, 'unknown'),
    ]);
  };
  const both = (value: string) =>
    `inbound: { ${value} }\noutbound: { clusters: { c: { endpoints: [a:1], ${value} } } }`;
  for (const [value, expected] of [
    ['', [300_000, 0]],
    ['idle_timeout: null', [300_000, 0]],
    ['idle_timeout: 5m', [300_000, 300_000]],
    ['idle_timeout: 7s', [7_000, 7_000]],
    ['idle_timeout: 0s', [0, 0]],
  ] as const)
    t.strictSame(idleTimeouts(both(value)), [expected, expected], value);
  t.strictSame(problemsOf(t, 'inbound:\n  idle_timeout: 5\n  max_timeout: 1d\n'), [
    '2:17 inbound.idle_timeout: can not be the number 5 | write the unit: 5s or 5ms',
    '3:16 inbound.max_timeout: can not be "1d" | write a duration such as 30s, 250ms or 1h30m',
  ]);
});

t.test('the configuration has every given setting as documented', async (t) => {
  const { config } = loadRight(t, WHOLE);
  const pem = config.inbound.tls!.cert;
  t.match(pem, /\/a\.pem$/);
  t.strictSame(plain(config), {
    ...DEFAULTS,
    name: 'research-agent',
    version: '1.0.0',
    inbound: {
      ...DEFAULTS.inbound,
      tls: {
        cert: pem,
        key: pem,
        clientCa: pem,
        allowIdentities: ['spiffe://a/*', '*.b.example'],
        required: true,
      },
    },
    outbound: {
      ...DEFAULTS.outbound,
      routes: [
        {
          match: {
            authority: 'Writing-Agent',
            pathPrefix: '/agent.AgentService/',
            headers: {},
            agentType: undefined,
          },
          cluster: 'writing',
        },
        {
          match: {
            authority: undefined,
            pathPrefix: undefined,
            headers: { 'x-tenant': 'a' },
            agentType: 'code',
          },
          cluster: 'writing',
        },
      ],
      clusters: new Map([
        [
          'writing',
          {
            name: 'writing',
            ...CLUSTER_DEFAULTS,
            tls: {
              ca: pem,
              cert: pem,
              key: pem,
              serverName: 'writing.example',
              allowIdentities: ['c.example'],
            },
          },
        ],
      ]),
    },
  });
});

t.test('a cluster needs an address and nothing else', async (t) => {
  const { config } = loadRight(t, 'outbound: { clusters: { writing: { endpoints: [10.0.0.7:50051] } } }');
  t.strictSame(config.outbound.clusters.get('writing'), {
    name: 'writing',
    ...CLUSTER_DEFAULTS,
    tls: undefined,
  });
  const byName = loadRight(t, 'outbound: { clusters: { w: { dns: "writing-agent-headless:50051" } } }');
  t.match(byName.config.outbound.clusters.get('w'), { dns: 'writing-agent-headless:50051', endpoints: [] });
});

t.test('addresses have one canonical form', async (t) => {
  const { config } = loadRight(
    t,
    `inbound: { listen: "[::]:0", app: "unix:///run/agent.sock" }
outbound: { clusters: { w: { endpoints: ["Agent.Example:1", "[2001:DB8::1]:2", "unix:/x"] } } }`,
  );
  t.equal(config.inbound.listen, '[::]:0');
  t.equal(config.inbound.app, 'unix:/run/agent.sock');
  t.strictSame(config.outbound.clusters.get('w')?.endpoints, [
    'agent.example:1',
    '[2001:DB8::1]:2',
    'unix:/x',
  ]);
});

t.test('a configuration is immutable', async (t) => {
  const { config } = loadRight(t, WHOLE);
  const open = config as unknown as {
    name: string;
    inbound: { app: string };
    outbound: { routes: unknown[] };
  };
  t.throws(() => (open.name = 'x'), TypeError);
  t.throws(() => (open.inbound.app = 'x'), TypeError);
  t.throws(() => open.outbound.routes.pop(), TypeError);
  const clusters = config.outbound.clusters as Map<string, unknown>;
  t.throws(() => clusters.set('x', {}), TypeError);
  t.throws(() => clusters.delete('writing'), TypeError);
  t.throws(() => clusters.clear(), TypeError);
  t.throws(() => ((clusters.get('writing') as { name: string }).name = 'x'), TypeError);
});

t.test('durations have units', async (t) => {
  const right: [string, number][] = [
    ['60s', 60_000],
    ['25ms', 25],
    ['5m', 300_000],
    ['1h30m', 5_400_000],
    ['1.5s', 1_500],
    ['1m500ms', 60_500],
    ['0s', 0],
  ];
  for (const [text, ms] of right) t.equal(parseDurationMs(text), ms, text);
  for (const text of [
    '',
    '60',
    's',
    '1d',
    '-1s',
    '1s1m',
    '1 s',
    '1e3s',
    '.s',
    '1.s',
    '１s',
    `${'1'.repeat(70)}s`,
  ]) {
    t.equal(parseDurationMs(text), undefined, JSON.stringify(text));
  }
});

t.test('validation reports every problem at once, with its line and remedy', async (t) => {
  const problems = problemsOf(
    t,
    `name: 123
inbund: {}
inbound:
  timeout: 60
  app: 127.0.0.1:15006
  max_message_bytes: 10MB
  keepalive: 5
  adaptive_concurrency: "yes"
outbound:
  routes:
    - match: { authority: a b, path: /x }
      cluster: writng
    - cluster: nowhere
  clusters:
    writing:
      endpoints: [10.0.0.7:50051, 10.0.0.7:50051, foo]
      balancer: peak-ewma
      retry: { on: UNAVAILABLE, backoff: { base: 1s }, max_attempts: 0 }
    empty: {}
    both: { endpoints: [a:1], dns: b:1, connect_timeout: 0s }
    none: { endpoints: [] }
    _bad: { dns: a:1 }
admin:
metrics: { listen: 127.0.0.1:15000 }
log: { level: warning }
drain: { delay: 9999h }
`,
  );
  t.strictSame(problems, [
    '1:7 name: can not be the number 123 | write a name such as research-agent; quotes make a text of "123"',
    '2:1 inbund: is not a known key | the keys here are name, version, inbound, outbound, llm, mcp, bus, journal, admin, metrics, health, drain, log',
    '4:12 inbound.timeout: can not be the number 60 | write the unit: 60s or 60ms',
    '5:8 inbound.app: is our own inbound.listen: calls would loop | write where the agent itself listens, such as 127.0.0.1:50051',
    '6:22 inbound.max_message_bytes: can not be "10MB" | write a whole number from 1 to 2147483647',
    '7:14 inbound.keepalive: can not be the number 5 | write its keys below it: time, timeout, max_connection_age, min_time',
    '8:25 inbound.adaptive_concurrency: can not be "yes" | write true or false',
    '11:27 outbound.routes[0].match.authority: can not be "a b" | write an authority such as writing-agent',
    '11:32 outbound.routes[0].match.path: is not a known key | did you mean path_prefix?',
    '12:16 outbound.routes[0].cluster: there is no cluster "writng" | did you mean writing?',
    '13:16 outbound.routes[1].cluster: there is no cluster "nowhere" | add it to outbound.clusters; there are writing, empty, both, none',
    '16:51 outbound.clusters.writing.endpoints[2]: address "foo": the port is missing | write host:port',
    '17:17 outbound.clusters.writing.balancer: can not be "peak-ewma" | did you mean peak_ewma? It is one of peak_ewma, least_request, round_robin, ring_hash',
    '18:20 outbound.clusters.writing.retry.on: can not be "UNAVAILABLE" | write a list: [one, another]',
    '18:50 outbound.clusters.writing.retry.backoff.base: is longer than max | raise max or lower base',
    '18:70 outbound.clusters.writing.retry.max_attempts: can not be the number 0 | write a whole number from 1 to 10',
    '19:12 outbound.clusters.empty: has no endpoints | give it endpoints: [host:port, …], dns: name:port, kubernetes, or bus: AGENT_TYPE',
    '20:36 outbound.clusters.both.dns: can not stand beside endpoints | keep one of the two',
    '20:58 outbound.clusters.both.connect_timeout: can not be zero | write a duration such as 5s',
    '21:24 outbound.clusters.none.endpoints: is an empty list | give at least one',
    '22:5 outbound.clusters._bad: "_bad" can not be a name here | use letters, digits and . _ - : , beginning with a letter or digit',
    '24:20 metrics.listen: is also the address of admin.listen | give each listener a port of its own',
    '25:15 log.level: can not be "warning" | did you mean warn? It is one of trace, debug, info, warn, error, fatal, silent',
    '26:17 drain.delay: is longer than a duration may be | use at most 24 days: 576h',
  ]);
});

t.test('validation reports settings that contradict each other', async (t) => {
  t.strictSame(
    problemsOf(
      t,
      `inbound:
  tls: { cert: FILE, key: /nowhere/key.pem }
outbound:
  routes: [{ cluster: toString }]
  clusters:
    w:
      endpoints: [a:1, a:1, localhost:15001]
      outlier_detection: { base_ejection_time: 10m }
      tls: { cert: FILE }
llm:
  upstreams:
    - { name: a, url: http://a }
    - { name: a, url: http://b }
    - { name: gpt, url: http://c, api_version: '1', api_key_file: /nowhere/key }
  models: [{ match: m, use: [{ upstream: gtp, weight: 1 }, { upstream: gpt, weight: 0 }] }]
`,
    ),
    [
      '2:27 inbound.tls.key: is not the path of a readable file | give the path of a PEM file',
      '4:23 outbound.routes[0].cluster: there is no cluster "toString" | add it to outbound.clusters; there are w',
      '7:24 outbound.clusters.w.endpoints[1]: appears twice: a:1 | keep one of the two',
      "7:29 outbound.clusters.w.endpoints[2]: is our own outbound.listen: calls would loop | write the address of the other side's inbound listener",
      '8:48 outbound.clusters.w.outlier_detection.base_ejection_time: is longer than max_ejection_time | raise max_ejection_time or lower base_ejection_time',
      '9:12 outbound.clusters.w.tls: has a cert alone | give cert and key, or neither',
      '13:15 llm.upstreams[1].name: appears twice: a | give each upstream a name of its own',
      '14:48 llm.upstreams[2].api_version: is for upstreams of kind azure | remove it, or write kind: azure',
      '14:67 llm.upstreams[2].api_key_file: is not the path of a readable file | give the path of a file that holds the key alone',
      '15:42 llm.models[0].use[0].upstream: there is no upstream "gtp" | did you mean gpt?',
    ].map((line) => (line.startsWith('2:27') ? problemOnLine2(t) : line)),
  );

  /** The column depends on the length of the path of the other file. */
  function problemOnLine2(t: Test): string {
    const directory = t.testdirName;
    const column = '  tls: { cert: , key: '.length + `${directory}/a.pem`.length + 1;
    return `2:${column} inbound.tls.key: is not the path of a readable file | give the path of a PEM file`;
  }
});

t.test('validation finds what a bus can not be, and what can not stand beside it', async (t) => {
  const FORM =
    'write file:/var/lib/outrigger/tasks.db, or nats://HOST:4222 with further servers after commas';
  for (const [url, expected] of [
    [
      'file:tasks.db',
      'is relative to a folder that differs from process to process | write an absolute path: file:/var/lib/outrigger/tasks.db',
    ],
    ['file:/var/lib/', 'is a folder | add the name of a file: tasks.db'],
    ['redis://a:1', `names no bus | ${FORM}`],
    ['nats://a:4222,,b', `has a server that is no HOST:PORT | ${FORM}`],
    ['nats://a:99999', `has a server that is no HOST:PORT | ${FORM}`],
    ['nats://me:secret@a', 'has credentials in it | put them in a file, and name it in bus.credentials_file'],
  ] as const)
    t.strictSame(problemsOf(t, `bus:\n  url: ${url}\n`), [`2:8 bus.url: ${expected}`], url);
  for (const url of [
    'file:/a/b.db',
    'file:///a/b.db',
    'nats://a',
    'nats://a:1,b:2',
    '"nats://a:1, nats://[::1]:2"',
    'tls://a:4222',
  ])
    t.ok(loadRight(t, `bus:\n  url: ${url}\n`).config.bus.url, url);

  t.strictSame(
    problemsOf(
      t,
      `
bus:
  url: file:/a/b.db
  credentials_file: FILE
  tls: { cert: FILE }
  consume: { agent_types: [research, code, research], lease: 500ms, places: 0, retry_delay: { base: 2m } }
  results: { max_bytes: 10, max_answer_bytes: 1KB }
  dead_letters: { max_age: 0d }
inbound:
  tls:
    allow_identities: [a.example]
    cert: FILE
    key: FILE
    client_ca: FILE
outbound:
  clusters:
    research: { bus: research, endpoints: [a:1] }
`,
    ).sort(),
    [
      '11:23 inbound.tls.allow_identities: can not be held for tasks of the bus: whoever opens the file can write any name into them | set bus.trust_publishers: true when all its users may, or use NATS with credentials for each',
      '17:43 outbound.clusters.research.endpoints: can not stand beside bus | keep one of the two: the tasks of a bus cluster go through the bus',
      '4:21 bus.credentials_file: has no use for a file: its permissions decide who opens it | remove it',
      '5:8 bus.tls: has a cert alone | give cert and key, or neither',
      '5:8 bus.tls: has no use for a file: nothing goes over the network | remove it',
      '6:101 bus.consume.retry_delay.base: is longer than max | raise max or lower base',
      '6:44 bus.consume.agent_types[2]: appears twice: research | keep one of the two',
      '6:62 bus.consume.lease: is too short to be extended in time | write at least 1s; 15s suits most',
      '6:77 bus.consume.places: can not be the number 0 | write a whole number from 1 to 1024',
      '7:25 bus.results.max_bytes: is too small | write a size from 1048576 to 1099511627776 bytes',
      '7:47 bus.results.max_answer_bytes: can not be "1KB" | write a number of bytes, or a size such as 64KiB, 10MiB or 1GiB',
      '8:28 bus.dead_letters.max_age: can not be zero | write an age such as 24h or 30d',
    ],
  );
  t.strictSame(
    problemsOf(
      t,
      'bus:\n  consume: { agent_types: [a] }\noutbound: { clusters: { r: { bus: research, agent_types: [a, a] } } }\n',
    ),
    [
      '2:27 bus.consume.agent_types: can be taken from no bus: bus.url is null | set bus.url, or remove them',
      '3:35 outbound.clusters.r.bus: needs a bus, and bus.url is null | set bus.url: file:/PATH for one machine, or nats://HOST:4222',
      '3:58 outbound.clusters.r.agent_types: can not stand beside bus | give each agent type a cluster with its bus queue: the bus keeps them apart',
      '3:62 outbound.clusters.r.agent_types[1]: appears twice: a | keep one of the two',
    ],
  );
  const trusting = (more: string) => `
inbound: { tls: { cert: FILE, key: FILE, client_ca: FILE, allow_identities: [a.example] }, token_budget: { from: identified } }
bus: { consume: { agent_types: [a] }, ${more} }`;
  t.match(problemsOf(t, trusting('url: "nats://a"')), [
    /allow_identities: can not be held.*without credentials/,
    /token_budget.from: can not be held/,
  ]);
  t.ok(loadRight(t, trusting('url: nats://a, credentials_file: FILE')));
  t.match(loadRight(t, trusting('url: file:/a/b.db, trust_publishers: true')).notices, [
    { level: 'info', message: /one trust domain.*count as identities/ },
  ]);
  const plainBus = (more: string) => loadRight(t, `bus: { url: "nats://a", ${more} }`).notices;
  t.match(plainBus('consume: { agent_types: [a] }'), [{ message: /tasks carry no identity/ }]);
  t.strictSame(plainBus('trust_publishers: true'), [], 'a sidecar that takes no task');
  const { bus } = loadRight(
    t,
    'bus: { results: { max_bytes: 3GiB, max_answer_bytes: 64KiB }, publish: { max_age: 90m }, dead_letters: { max_age: 2d } }',
  ).config;
  t.strictSame([bus.results.maxBytes, bus.results.maxAnswerBytes], [3 * 2 ** 30, 65_536]);
  t.strictSame([bus.publish.maxAgeMs, bus.deadLetters.maxAgeMs], [5_400_000, 172_800_000]);
});

t.test('validation finds unusable certificates before a connection needs them', async (t) => {
  t.strictSame(
    problemsOf(
      t,
      `inbound:
  tls:
    cert: FILE
    key: FILE
    allow_identities: ["spiffe://a/b*", "*.com", "spiffe://*/x", "a b"]
outbound:
  clusters:
    w: { endpoints: [a:1], tls: { ca: FILE, cert: FILE, key: FILE, allow_identities: ["*.a.example"] } }
`,
    ),
    [
      '5:24 inbound.tls.allow_identities[0]: has a * within "b*": it stands for a whole segment',
      '5:41 inbound.tls.allow_identities[1]: would let in every name of a top-level domain',
      '5:50 inbound.tls.allow_identities[2]: has a * in its trust domain, which must be written out',
      '5:66 inbound.tls.allow_identities[3]: has a blank, a comma or a quote in it',
    ].map(
      (line) => `${line} | write a name such as spiffe://example.org/ns/agents/sa/writer or *.agents.svc`,
    ),
  );
  const noCa = 'inbound: { tls: { cert: FILE, key: FILE, allow_identities: [a.example] } }';
  t.match(
    problemsOf(t, noCa).join('\n'),
    /allow_identities: can not be checked without client_ca \| give client_ca/,
  );
  t.match(
    problemsOf(t, 'inbound: { token_budget: { from: identified } }').join('\n'),
    /token_budget.from: admits no caller without inbound.tls.client_ca \| give inbound.tls.client_ca/,
  );
  t.match(
    problemsOf(t, 'inbound: { token_budget: { allow_identities: [a.example] } }').join('\n'),
    /token_budget.allow_identities: has no effect where from is anyone \| write from: identified/,
  );
  for (const [content, message] of [
    [made.key, /inbound.tls.cert: holds no certificate in PEM/],
    [made.cert, /inbound.tls.key: holds no private key in PEM/],
    [made.ca + made.key, /inbound.tls.key: is not the key of the certificate/],
  ] as const) {
    const found = problemsOf(t, 'inbound: { tls: { cert: FILE, key: FILE } }', content).join('\n');
    t.match(found, message);
  }
});

t.test('a cluster can name a Service by its EndpointSlices', async (t) => {
  const of = (text: string) =>
    loadRight(t, `outbound: { clusters: { w: { kubernetes: ${text} } } }`).config.outbound.clusters.get('w');
  const kubernetes = {
    service: 'writing-agent',
    namespace: '',
    port: 'grpc',
    zonePreference: true,
    zone: '',
  };
  t.match(of('{ service: writing-agent, port: grpc }'), { endpoints: [], dns: undefined, kubernetes });
  t.match(of('{ service: w, port: 15006, namespace: n, zone_preference: false, zone: z-1 }'), {
    kubernetes: { service: 'w', namespace: 'n', port: 15_006, zonePreference: false, zone: 'z-1' },
  });
  t.match(of('{ service: w, port: "15006" }'), { kubernetes: { port: 15_006 } });
  const wrong = (text: string) =>
    problemsOf(t, `outbound: { clusters: { w: { kubernetes: ${text} } } }`).join();
  t.match(wrong('{ port: grpc }'), /kubernetes.service: is missing \| give the name of a Service/);
  t.match(
    wrong('{ service: w }'),
    /kubernetes.port: is missing \| give the name of a port such as grpc, or a number/,
  );
  for (const port of ['0', '70000', '"70000"', 'GRPC', '-a'])
    t.match(
      wrong(`{ service: w, port: ${port} }`),
      /kubernetes.port: can not be .*write the name of a port/,
      port,
    );
  t.match(wrong('{ service: w, port: a }, dns: "a:1"'), /kubernetes: can not stand beside endpoints or dns/);
});

t.test('validation rejects text that is no configuration', async (t) => {
  const cases: [string, RegExp][] = [
    ['hello', /^1:1 : can not be "hello" \| write its keys below it: name/],
    ['[a, b]', /^1:1 : can not be a list/],
    ['name: a\nname: b\n', /^2:1 : this key is given twice in one section \| keep one/],
    ['inbound:\n  app: a:1\n  app: b:1\n', /^3:3 : this key is given twice/],
    ['inbound:\n\tapp: a:1\n', /^2:1 : a tab is used for indentation \| indent with spaces/],
    ['name: a\n---\nname: b\n', /^2:1 : a second document/],
    ['inbound: { listen: [::]:1 }\n', /^1:24 : a quote, bracket or comma is missing \| .*need quotes/],
    ['name: "a\n', /quote, bracket or comma is missing/],
    ['name: !secret x\n', /^1:\d+ : has a tag/],
    ['name: *nowhere\n', /has aliases \(\*name\) that can not be followed/],
    ['inbound: &a { keepalive: *a }\n', /^1:\d+ : this alias is inside its own anchor/],
    ['? { a: 1 }\n: 2\n', /^1:\d+ : this key is not a name/],
    ['outbound: { clusters: { __proto__: { dns: a:1 } } }\n', /^1:25 : this key is not a name/],
    [`name: ${'['.repeat(40)}${']'.repeat(40)}\n`, /is nested too deep/],
    ['['.repeat(100_000), /is nested too deep/],
  ];
  for (const [text, expected] of cases)
    t.match(problemsOf(t, text)[0], expected, JSON.stringify(text.slice(0, 40)));
  t.match(problemsOf(t, `name: ${'x'.repeat(5000)}`)[0], /can not be "x{60}…"/, 'long values are cut');
});

t.test('a hostile file costs little', async (t) => {
  const bomb = ['a: &a [1,1,1,1,1,1,1,1,1]'];
  for (const [i, name] of [...'bcdefgh'].entries())
    bomb.push(`${name}: &${name} [${`*${'abcdefg'[i]},`.repeat(9)}]`);
  t.match(problemsOf(t, bomb.join('\n'))[0], /aliases/);
  const keys = Array.from({ length: 60_000 }, (_, i) => `key${i}: 1`).join('\n');
  // Comparing each with each would take minutes and exceed the test's timeout.
  const problems = problemsOf(t, keys);
  t.equal(problems.length, 101);
  t.ok(problems.includes('1:1 : has 59900 more problems | is it the right file?'));
  t.match(problemsOf(t, `#${'x'.repeat(1_048_576)}`)[0], /larger than 1 MiB/);
});

t.test('loading reports unreadable files', async (t) => {
  const directory = t.testdir({ latin1: Buffer.from([0x6e, 0xe9]) });
  const messageOf = (path: string) => {
    const result = loadConfig({ path, overrides: [], yaml });
    return 'problems' in result ? result.problems.map(formatProblem).join() : 'right';
  };
  t.match(messageOf(`${directory}/nowhere.yaml`), /nowhere\.yaml: does not exist\n {4}check the path/);
  t.match(messageOf(directory), /is not a regular file/);
  t.match(messageOf('/dev/zero'), /is not a regular file/);
  t.match(messageOf(`${directory}/latin1`), /is not UTF-8/);
});

t.test('anchors and merge keys share settings', async (t) => {
  const text = `outbound:
  clusters:
    a: &base { endpoints: [a:1], timeout: 7s, retry: { max_attempts: 1 } }
    b: { <<: *base, endpoints: [b:1] }
    c: { <<: *base, endpoints: [c:1], timeout: 8 }
`;
  t.match(problemsOf(t, text), [
    '5:48 outbound.clusters.c.timeout: can not be the number 8 | write the unit: 8s or 8ms',
  ]);
  const { config } = loadRight(t, text.replace('8 }', '8s }'));
  t.match(config.outbound.clusters.get('b'), {
    endpoints: ['b:1'],
    timeoutMs: 7_000,
    retry: { maxAttempts: 1 },
  });
  t.match(config.outbound.clusters.get('c'), { endpoints: ['c:1'], timeoutMs: 8_000 });
});

t.test('no secret appears in messages or in the effective configuration', async (t) => {
  const secret = 'sk-live-0123456789';
  const texts = [
    `llm: { upstreams: [{ name: a, url: "ftp://user:${secret}@x", api_key_env: "${secret} " }] }`,
    `llm: { upstreams: [{ name: a, url: http://a, api_key: ${secret} }] }`,
    `inbound: { tls: { cert: "-----BEGIN ${secret}", key: ${secret} } }`,
    `name: [${secret}`,
    `log: { level: ${secret} }`,
  ];
  for (const text of texts) {
    const problems = problemsOf(t, text);
    t.ok(problems.length > 0);
    t.notMatch(problems.join('\n'), secret);
  }
  const url = `https://user:${secret}@api.example/v1?key=${secret}`;
  const { config, effective } = loadRight(t, `llm: { upstreams: [{ name: a, url: "${url}" }] }`);
  t.equal(config.llm.upstreams[0]?.url, url, 'the egress needs it');
  t.notMatch(JSON.stringify(effective), secret);
  t.match(effective, { llm: { upstreams: [{ url: 'https://***@api.example/v1?***' }] } });
  t.equal(redactUrl('http://api.example:8080/v1'), 'http://api.example:8080/v1');
});

t.test('the effective configuration is a configuration with the same meaning', async (t) => {
  const { config, effective } = loadRight(t, WHOLE);
  const again = loadRight(t, yaml.stringify(effective));
  t.strictSame(again.config, config);
});

t.test('schema.json is generated from the schema', async (t) => {
  const committed = readFileSync(new URL('schema.json', import.meta.url), 'utf8');
  t.equal(committed, jsonSchemaText(), 'run "node sidecar/config/generate-schema.ts"');
});

t.test('the access log can not include headers that hold secrets', async (t) => {
  const asked = (name: string) => problemsOf(t, `log: { access: true, access_headers: [${name}] }`);
  for (const name of [
    'authorization',
    'cookie',
    'set-cookie',
    'x-api-key',
    'x-auth-token',
    'Upper',
    '":path"',
  ])
    t.match(asked(name)[0], /access_headers.*holds no secret/, name);
});

t.test('max_timeout is no shorter than timeout', async (t) => {
  const remedy = 'lower timeout to it as well, or raise max_timeout';
  t.strictSame(
    problemsOf(
      t,
      `inbound: { max_timeout: 30s }
outbound:
  clusters:
    short: { endpoints: [a:1], timeout: 3m, max_timeout: 2m }
    equal: { endpoints: [b:1], timeout: 2m, max_timeout: 2m }
    off: { endpoints: [c:1], timeout: 2m, max_timeout: 0s }
    none: { endpoints: [d:1], timeout: 0s, max_timeout: 1s }
`,
    ),
    [
      `1:25 inbound.max_timeout: is shorter than timeout, which is 60s | ${remedy}`,
      `4:58 outbound.clusters.short.max_timeout: is shorter than timeout, which is 3m | ${remedy}`,
    ],
  );
});
