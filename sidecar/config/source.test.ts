// The sources of settings: the file, the environment, the flags, and the file again when it changes.
import { mkdirSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import type { LoadedConfig } from './load.ts';
import { overridesFromFlags } from './overrides.ts';
import { formatPath, formatProblem, type Problem } from './problems.ts';
import { schema } from './schema.ts';
import { settablePaths } from './schema-paths.ts';
import { type ConfigSource, openConfigSource, type SourceOptions } from './source.ts';

type Given = { file?: string; env?: NodeJS.ProcessEnv; flags?: string[] };

async function open(t: Test, { file, env = {}, flags = [] }: Given) {
  const directory = t.testdir(file === undefined ? {} : { 'outrigger.yaml': file });
  const path = file === undefined ? undefined : `${directory}/outrigger.yaml`;
  const options: SourceOptions = { path, env, flags: overridesFromFlags(flags).overrides };
  return openConfigSource(options);
}

async function openRight(t: Test, given: Given): Promise<ConfigSource> {
  const opened = await open(t, given);
  if ('problems' in opened) throw new Error(opened.problems.map(formatProblem).join('\n'));
  return opened.source;
}

async function problemsOf(t: Test, given: Given): Promise<string[]> {
  const opened = await open(t, given);
  if ('source' in opened) throw new Error('the configuration is taken');
  return opened.problems.map(({ source, line, path, message, remedy }) => {
    const where = line === undefined ? source : `line ${line}`;
    return `${where} ${path}: ${message} | ${remedy}`;
  });
}

const FILE = 'inbound: { app: 127.0.0.1:1, timeout: 1s }\nlog: { level: warn }\n';

t.test('flags override the environment, which overrides the file', async (t) => {
  const byFile = await openRight(t, { file: FILE });
  t.match(byFile.current, { inbound: { app: '127.0.0.1:1', timeoutMs: 1_000 }, log: { level: 'warn' } });

  const env = { OUTRIGGER_INBOUND_APP: '127.0.0.1:2', OUTRIGGER_LOG_LEVEL: 'debug' };
  const byEnv = await openRight(t, { file: FILE, env });
  t.match(byEnv.current, { inbound: { app: '127.0.0.1:2', timeoutMs: 1_000 }, log: { level: 'debug' } });

  const byFlag = await openRight(t, { file: FILE, env, flags: ['--inbound.app', '127.0.0.1:3'] });
  t.match(byFlag.current, { inbound: { app: '127.0.0.1:3', timeoutMs: 1_000 }, log: { level: 'debug' } });
});

t.test('a flag or variable can correct a wrong value in the file', async (t) => {
  const source = await openRight(t, {
    file: 'inbound: { timeout: 60 }',
    env: { OUTRIGGER_INBOUND_TIMEOUT: '60s' },
  });
  t.equal(source.current.inbound.timeoutMs, 60_000);
});

t.test('flags can be written in several ways', async (t) => {
  const forms = [
    ['--inbound.app', 'a:1'],
    ['--inbound.app=a:1'],
    ['--inbound-app', 'a:1'],
    ['--inbound-app=a:1'],
    ['--inbound.app', 'b:1', '--inbound.app', 'a:1'],
  ];
  for (const flags of forms)
    t.equal((await openRight(t, { flags })).current.inbound.app, 'a:1', flags.join(' '));
  const numbers = await openRight(t, {
    flags: ['--inbound-max-concurrent-calls=7', '--inbound.max_message_bytes', '9'],
  });
  t.match(numbers.current.inbound, { maxConcurrentCalls: 7, maxMessageBytes: 9 });
  for (const flags of [
    ['--log.access'],
    ['--log.access', 'true'],
    ['--log.access=true'],
    ['--log.access', '--name=x'],
  ]) {
    t.equal((await openRight(t, { flags })).current.log.access, true, flags.join(' '));
  }
  t.equal(
    (await openRight(t, { file: 'log: { access: true }', flags: ['--log.access', 'false'] })).current.log
      .access,
    false,
  );
  t.strictSame(
    overridesFromFlags(['a', '--log.access', 'b']).rest,
    ['a', 'b'],
    'true or false is all it takes',
  );
  t.equal((await openRight(t, { flags: ['--version', '1.10'] })).current.version, '1.10', 'text stays text');
});

t.test('lists, maps and sections are YAML in one line and replace the present value', async (t) => {
  const file = `inbound: { keepalive: { time: 1s, timeout: 2s } }
outbound: { clusters: { a: { dns: a:1 } } }`;
  const env = {
    OUTRIGGER_OUTBOUND_CLUSTERS: '{writing: {endpoints: ["10.0.0.7:50051"]}}',
    OUTRIGGER_OUTBOUND_ROUTES: '[{match: {agent_type: code}, cluster: writing}]',
    OUTRIGGER_INBOUND_KEEPALIVE: '{time: 5s}',
    OUTRIGGER_INBOUND_KEEPALIVE_MIN_TIME: '6s',
  };
  const { current } = await openRight(t, { file, env });
  t.strictSame([...current.outbound.clusters.keys()], ['writing']);
  t.match(current.outbound.routes, [{ match: { agentType: 'code' }, cluster: 'writing' }]);
  t.match(current.inbound.keepalive, { timeMs: 5_000, timeoutMs: 10_000, minTimeMs: 6_000 });
});

t.test('a cluster is set by its name', async (t) => {
  const file = 'outbound: { clusters: { writing-agent: { dns: a:1 }, writing: { dns: b:1 } } }';
  const env = {
    OUTRIGGER_OUTBOUND_CLUSTERS_WRITING_AGENT_RETRY_MAX_ATTEMPTS: '1',
    OUTRIGGER_OUTBOUND_CLUSTERS_WRITING_TIMEOUT: '7s',
  };
  const flags = [
    '--outbound.clusters.writing-agent.timeout=8s',
    '--outbound.clusters.writing.retry.on',
    '[ABORTED]',
    '--outbound.clusters.code.dns=c:1',
  ];
  const { clusters } = (await openRight(t, { file, env, flags })).current.outbound;
  t.match(clusters.get('writing-agent'), { dns: 'a:1', timeoutMs: 8_000, retry: { maxAttempts: 1 } });
  t.match(clusters.get('writing'), {
    dns: 'b:1',
    timeoutMs: 7_000,
    retry: { maxAttempts: 3, on: ['ABORTED'] },
  });
  t.match(clusters.get('code'), { dns: 'c:1' });
});

t.test('a problem outside the file names its variable or flag', async (t) => {
  const env = {
    OUTRIGGER_INBOUND_AP: 'a:1',
    OUTRIGGER_INBOUND_TIMEOUT: '60',
    OUTRIGGER_OUTBOUND_CLUSTERS_WRITNG_TIMEOUT: '1s',
    OUTRIGGER_LLM_UPSTREAMS: '[',
    OUTRIGGER_INBOUND_LIMITS: '{max_connections: none}',
    OUTRIGGER_ELSE: 'sk-live',
  };
  const flags = [
    '--drain.timeot',
    '1s',
    '--log.access=maybe',
    '--inbound.app',
    '--llm.upstreams.0.url',
    'http://a',
  ];
  const file = 'outbound: { clusters: { writing: { dns: a:1, timeout: x } } }';
  t.strictSame((await problemsOf(t, { file, env, flags })).sort(), [
    '--drain.timeot : is not a known setting | did you mean --drain.timeout?',
    '--inbound.app inbound.app: has no value | give an address such as 10.0.0.7:50051 or unix:/run/agent.sock, or none after it',
    '--llm.upstreams.0.url : is not a known setting | did you mean --llm.upstreams?',
    '--log.access log.access: can not be "maybe" | write true or false',
    'OUTRIGGER_ELSE : is not a known setting | remove it; a variable is named after its setting',
    'OUTRIGGER_INBOUND_AP : is not a known setting | did you mean OUTRIGGER_INBOUND_APP?',
    'OUTRIGGER_INBOUND_LIMITS inbound.limits.max_connections: can not be "none" | write a whole number from 1 to 65535',
    'OUTRIGGER_INBOUND_TIMEOUT inbound.timeout: can not be "60" | write a duration such as 30s, 250ms or 1h30m',
    'OUTRIGGER_LLM_UPSTREAMS llm.upstreams: a quote, bracket or comma is missing | write YAML in one line: [a, b]',
    'OUTRIGGER_OUTBOUND_CLUSTERS_WRITNG_TIMEOUT : is not a known setting | did you mean OUTRIGGER_OUTBOUND_CLUSTERS_WRITING_TIMEOUT?',
    'line 1 outbound.clusters.writing.timeout: can not be "x" | write a duration such as 30s, 250ms or 1h30m',
  ]);
});

t.test('the sidecar ignores the variables that Kubernetes sets for a Service named outrigger', async (t) => {
  const env = {
    OUTRIGGER_SERVICE_HOST: '10.0.0.1',
    OUTRIGGER_SERVICE_PORT: '15006',
    OUTRIGGER_SERVICE_PORT_GRPC: '15006',
    OUTRIGGER_PORT: 'tcp://10.0.0.1:15006',
    OUTRIGGER_PORT_15006_TCP: 'tcp://10.0.0.1:15006',
    OUTRIGGER_PORT_15006_TCP_ADDR: '10.0.0.1',
    OUTRIGGER_WEBHOOK_SERVICE_HOST: '10.0.0.2',
    OUTRIGGER_WEBHOOK_PORT_443_TCP_PROTO: 'tcp',
  };
  t.equal((await openRight(t, { env })).current.name, 'agent');
});

t.test('no two settings share a variable', async (t) => {
  const paths = [...settablePaths(schema, () => ['NAME'])].map(formatPath);
  const variables = new Set(paths.map((path) => path.replaceAll('.', '_').toUpperCase()));
  t.equal(variables.size, paths.length);
  t.ok(paths.length > 60);
});

t.test('OUTRIGGER_CONFIG names the file, and --config overrides it', async (t) => {
  const directory = t.testdir({ 'a.yaml': 'name: a', 'b.yaml': 'name: b' });
  const env = { OUTRIGGER_CONFIG: `${directory}/a.yaml` };
  const byEnv = await openConfigSource({ path: undefined, env, flags: [] });
  t.match(byEnv, { source: { path: env.OUTRIGGER_CONFIG, current: { name: 'a' } } });
  const byFlag = await openConfigSource({ path: `${directory}/b.yaml`, env, flags: [] });
  t.match(byFlag, { source: { current: { name: 'b' } } });
});

t.test('a wrong file leaves the old configuration in use', async (t) => {
  const source = await openRight(t, { file: 'name: one' });
  const { path } = source;
  writeFileSync(path!, 'name: [');
  t.match(source.load(), { problems: [{ line: 1 }] });
  t.equal(source.current.name, 'one');
  t.match(source.effective, { name: 'one' });
  writeFileSync(path!, 'name: two');
  const loaded = source.load();
  t.match(loaded, { config: { name: 'two' } });
  t.equal(source.current.name, 'one', 'it may still be refused, for a port that is taken');
  t.match(source.effective, { name: 'one' });
  source.adopt(loaded as LoadedConfig);
  t.equal(source.current.name, 'two');
  t.match(source.effective, { name: 'two' });
});

/** Collects the outcomes that a watch reports, and waits for the next one. */
function watchOutcomes(t: Test, source: ConfigSource) {
  const outcomes: string[] = [];
  let wake: (() => void) | undefined;
  const tell = (outcome: string) => {
    outcomes.push(outcome);
    wake?.();
  };
  const onLoaded = (loaded: LoadedConfig) => {
    source.adopt(loaded);
    tell(loaded.config.name);
  };
  const onProblems = (problems: readonly Problem[]) => tell(`refused: ${problems[0]?.message}`);
  const stop = source.watch(onLoaded, onProblems);
  t.teardown(stop);
  const next = async () => {
    if (outcomes.length === 0) {
      await new Promise<void>((resolve) => {
        wake = resolve;
        // The watch itself does not keep the process alive.
        const alive = setInterval(() => {}, 1_000);
        t.teardown(() => clearInterval(alive));
      });
    }
    return outcomes.shift();
  };
  return { next, stop, outcomes };
}

const watched = { env: {}, flags: [], watchIntervalMs: 20 };

t.test('the sidecar loads a changed file and refuses a wrong one', async (t) => {
  const path = `${t.testdir({ 'outrigger.yaml': 'name: one' })}/outrigger.yaml`;
  const opened = await openConfigSource({ ...watched, path });
  const { source } = opened as { source: ConfigSource };
  writeFileSync(path, 'name: early');
  const { next, stop, outcomes } = watchOutcomes(t, source);
  t.equal(await next(), 'early', 'a change between the load and the watch is not missed');
  writeFileSync(path, 'name: two');
  t.equal(await next(), 'two');
  writeFileSync(path, 'name: two\nnmae: x');
  t.equal(await next(), 'refused: is not a known key');
  t.equal(source.current.name, 'two');
  writeFileSync(`${path}.new`, 'name: three');
  renameSync(`${path}.new`, path);
  t.equal(await next(), 'three', 'as editors save');
  unlinkSync(path);
  t.equal(await next(), 'refused: does not exist');
  t.equal(source.current.name, 'three');
  writeFileSync(path, 'name: four');
  t.equal(await next(), 'four');
  stop();
  writeFileSync(path, 'name: five');
  await new Promise((resolve) => setTimeout(resolve, 200));
  t.strictSame(outcomes, [], 'nothing is told after stop');
});

t.test('the sidecar loads a replaced config map', async (t) => {
  // As the kubelet does it: file → ..data/file, ..data → a directory, and a rename replaces ..data.
  const directory = t.testdir({});
  const version = (name: string) => {
    mkdirSync(`${directory}/..${name}`);
    writeFileSync(`${directory}/..${name}/outrigger.yaml`, `name: ${name}`);
    symlinkSync(`..${name}`, `${directory}/..data_tmp`);
    renameSync(`${directory}/..data_tmp`, `${directory}/..data`);
  };
  version('one');
  symlinkSync('..data/outrigger.yaml', `${directory}/outrigger.yaml`);
  const opened = await openConfigSource({ ...watched, path: `${directory}/outrigger.yaml` });
  const { source } = opened as { source: ConfigSource };
  t.equal(source.current.name, 'one');
  const { next } = watchOutcomes(t, source);
  version('two');
  rmSync(`${directory}/..one`, { recursive: true });
  t.equal(await next(), 'two');
  version('three');
  t.equal(await next(), 'three');
});

t.test('without a file there is nothing to watch', async (t) => {
  const source = await openRight(t, {});
  t.equal(source.path, undefined);
  source.watch(
    () => t.fail(),
    () => t.fail(),
  )();
});

t.test(
  'OPENAI_BASE_URL names the provider where nothing else does, and is never passed over in silence',
  async (t) => {
    const url = 'https://user:pass@llm.example/v1';
    const firstUrl = (source: ConfigSource) => source.current.llm.upstreams[0]?.url;
    const messages = ({ notices }: ConfigSource) =>
      notices.map(({ level, message }) => `${level}: ${message}`);
    const key = { OPENAI_API_KEY: 'sk-secret' };

    const used = await openRight(t, { env: { ...key, OPENAI_BASE_URL: url } });
    t.match(used.current.llm.upstreams, [{ name: 'openai', url, apiKeyEnv: 'OPENAI_API_KEY' }]);
    t.strictSame(messages(used), []);
    const beside = await openRight(t, {
      file: 'llm: { timeout: 1m }',
      env: { ...key, OPENAI_BASE_URL: url },
    });
    t.equal(firstUrl(beside), url, 'a file without upstreams leaves it in force');

    const file = 'llm: { listen: 127.0.0.1:7000, upstreams: [{ name: a, url: http://a/v1 }] }';
    const named = await openRight(t, { file, env: { OPENAI_BASE_URL: url } });
    t.equal(firstUrl(named), 'http://a/v1');
    t.strictSame(messages(named), [
      'warn: OPENAI_BASE_URL (https://***@llm.example/v1) is not used: llm.upstreams names the providers; add it there',
    ]);
    t.strictSame(
      messages(await openRight(t, { file, env: { OPENAI_BASE_URL: 'http://a/v1/' } })),
      [],
      'it is that one',
    );
    const byEnv = { OUTRIGGER_LLM_UPSTREAMS: `[{ name: a, url: "${url}" }]`, OPENAI_BASE_URL: url };
    t.strictSame(messages(await openRight(t, { env: byEnv })), [], 'as the injection writes it');

    for (const [own, listen] of [
      ['http://localhost:15002/v1', '127.0.0.1:15002'],
      ['http://127.0.0.1:15002/v1', '0.0.0.0:15002'],
      ['http://127.0.0.1:7000/v1', '127.0.0.1:7000'],
    ] as const) {
      const ours = await openRight(t, {
        // Beyond loopback it serves only callers that it knows.
        file: `llm: { listen: "${listen}", callers: [{ name: a, key_env: OWN_KEY }] }`,
        env: { ...key, OWN_KEY: 'sk-own-0123456789', OPENAI_BASE_URL: own },
      });
      t.equal(firstUrl(ours), 'https://api.openai.com/v1', 'not in circles');
      t.match(messages(ours), [/^info: OPENAI_BASE_URL .* our own llm\.listen/]);
    }
    const wrong = await openRight(t, { env: { ...key, OPENAI_BASE_URL: 'llm.example/v1' } });
    t.equal(firstUrl(wrong), 'https://api.openai.com/v1');
    t.match(messages(wrong), [/^warn: OPENAI_BASE_URL \(\*\*\*\) is not used: it is no http or https URL$/]);
  },
);

t.test('notices name an unset variable of a key, and an unused proxy', async (t) => {
  const messages = async (file: string | undefined, env: NodeJS.ProcessEnv) =>
    (await openRight(t, { ...(file === undefined ? {} : { file }), env })).notices.map(
      ({ level, message }) => `${level}: ${message}`,
    );
  const file = `llm: { upstreams: [{ name: a, url: https://a.example/v1, api_key_env: KEY_A },
    { name: b, url: https://b.example/v1, api_key_env: KEY_B }, { name: c, url: "https://u:p@c.example/v1", api_key_env: KEY_C },
    { name: d, url: http://d.example/v1 }] }`;
  t.match(await messages(file, { KEY_A: '' }), [
    /^warn: llm\.upstreams\[0\]\.api_key_env: .* KEY_A is not set, so the sidecar forwards the callers' own credentials/,
    /^warn: llm\.upstreams\[1\]\.api_key_env: .* KEY_B is not set, so requests go there without credentials/,
    /^warn: llm\.upstreams\[2\]\.api_key_env: .* KEY_C is not set, so the sidecar sends the user and the password of its url/,
  ]);
  const keys = { KEY_A: 'a', KEY_B: 'b', KEY_C: 'c' };
  t.strictSame(await messages(file, keys), []);
  t.strictSame(await messages(undefined, {}), [], 'nobody has asked for it');
  const proxied = { ...keys, https_proxy: 'http://proxy:3128', NO_PROXY: '.b.example, c.example:443' };
  t.strictSame(await messages(file, proxied), [
    'warn: https_proxy is not used: a.example must be reachable without a proxy',
  ]);
  t.strictSame(await messages(file, { ...proxied, NO_PROXY: '*' }), []);
});
