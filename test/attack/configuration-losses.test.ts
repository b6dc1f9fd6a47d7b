// A configuration file that is emptied, cut or broken takes nothing away: the last good one stays, and says so.
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import * as yaml from 'yaml';
import { TestAuthority } from '../../scripts/harness/certificates.ts';
import { freePort } from '../../scripts/harness/free-port.ts';
import { startProcess } from '../../scripts/harness/process.ts';
import { type Sidecar, startSidecar } from '../../scripts/harness/sidecar.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { lossesOf } from '../../sidecar/config/losses.ts';
import { parseYaml } from '../../sidecar/config/yaml-file.ts';

t.setTimeout(290_000);

const { parse, stringify } = yaml;

type Section = Record<string, unknown>;

/** A sidecar whose file is YAML in lines, with TLS, an allow list and three clusters. */
async function start(t: Test): Promise<{ sidecar: Sidecar; text: string; page: () => Promise<string> }> {
  const authority = await TestAuthority.make();
  const issued = await authority.issue({ names: ['spiffe://x/a'] });
  const folder = t.testdir({ 'cert.pem': issued.cert, 'key.pem': issued.key, 'ca.pem': authority.ca });
  const [cert, key, ca] = ['cert.pem', 'key.pem', 'ca.pem'].map((file) => join(folder, file));
  const cluster = (port: number): Section => ({ endpoints: [`127.0.0.1:${port}`], timeout: '9s' });
  const tls = { cert, key, client_ca: ca, allow_identities: ['spiffe://x/b', 'spiffe://x/c'] };
  const clusters = { one: cluster(1), two: { ...cluster(2), tls: { ca } }, three: cluster(3) };
  const routes = [{ match: { path_prefix: '/' }, cluster: 'one' }];
  const sidecar = await startSidecar(
    t,
    { inbound: { tls }, outbound: { clusters, routes } },
    { until: 'live' },
  );
  const text = stringify(JSON.parse(readFileSync(sidecar.configFile, 'utf8')));
  writeFileSync(sidecar.configFile, text);
  await waitUntil('it is taken', () => sidecar.logs().includes('was reloaded'));
  const page = async () => (await fetch(`http://127.0.0.1:${sidecar.adminPort}/config`)).text();
  return { sidecar, text, page };
}

const health = async (port: number): Promise<Section> =>
  (await (await fetch(`http://127.0.0.1:${port}/healthz/live`)).json()) as Section;
const refusedGauge = async (port: number): Promise<string | undefined> =>
  /^outrigger_config_refused (\d)$/m.exec(
    await (await fetch(`http://127.0.0.1:${port}/metrics`)).text(),
  )?.[1];

t.test('no truncated or empty file changes the active configuration', async (t) => {
  const { sidecar, text, page } = await start(t);
  const before = await page();
  const reload = async (next: string) => {
    writeFileSync(sidecar.configFile, next);
    const response = await fetch(`http://127.0.0.1:${sidecar.adminPort}/reload`, { method: 'POST' });
    return { status: response.status, said: await response.text() };
  };
  const lines = text.trimEnd().split('\n');
  for (let kept = 1; kept < lines.length; kept += kept < lines.length - 4 ? 2 : 1) {
    const { status, said } = await reload(`${lines.slice(0, kept).join('\n')}\n`);
    t.equal(status, 422, `cut behind line ${kept}: ${said}`);
  }
  for (const empty of ['', '\n', '# all of it is a comment\n', '---\n', '{}', 'null\n'])
    t.equal((await reload(empty)).status, 422, JSON.stringify(empty));
  t.equal(await page(), before, 'everything stays');
  // Whatever notices a change first: the watch, or a signal.
  writeFileSync(sidecar.configFile, '# nothing\n');
  const refusals = () => sidecar.logs().split('refuses the new configuration').length;
  const seen = refusals();
  sidecar.kill('SIGHUP');
  await waitUntil('SIGHUP and the watch were refused', () => refusals() >= seen + 2);
  t.equal(await page(), before);
  t.match(await health(sidecar.healthPort), {
    ok: true,
    config: /refused at 20.*last good configuration is in use/,
  });
  t.equal(await refusedGauge(sidecar.metricsPort), '1');
  t.equal((await reload(text)).status, 200);
  t.strictSame(await health(sidecar.healthPort), { ok: true });
  t.equal(await refusedGauge(sidecar.metricsPort), '0');
});

t.test('protections, clusters and sections are removed only by an explicit word', async (t) => {
  const { sidecar, text, page } = await start(t);
  const given = () => parse(text) as { inbound: Section; outbound: { clusters: Section } };
  const reload = async (next: object | string, end = '') => {
    writeFileSync(sidecar.configFile, typeof next === 'string' ? next : stringify(next) + end);
    const response = await fetch(`http://127.0.0.1:${sidecar.adminPort}/reload`, { method: 'POST' });
    const { problems = [] } = (await response.json()) as { problems?: Record<string, string>[] };
    return `${response.status} ${problems.map(({ path, message, remedy }) => `${path}: ${message}; ${remedy}`).join('\n')}`;
  };
  const changed = (change: (config: ReturnType<typeof given>) => void) => {
    const config = given();
    change(config);
    return config;
  };
  const withoutTls = changed(({ inbound }) => delete inbound['tls']);
  const tlsOf = ({ inbound }: ReturnType<typeof given>) => inbound['tls'] as Section;
  for (const [name, config, said] of [
    ['TLS', withoutTls, /inbound\.tls: is missing.*tls: off/s],
    [
      'the authorities',
      changed((c) => delete tlsOf(c)['client_ca']),
      /inbound\.tls\.client_ca.*client_ca: off/s,
    ],
    ['the allow list', changed((c) => delete tlsOf(c)['allow_identities']), /allow_identities: off/],
    [
      "a cluster's TLS",
      changed(({ outbound }) => delete (outbound.clusters['two'] as Section)['tls']),
      /two\.tls.*off/s,
    ],
  ] as const)
    for (const end of ['', '...\n'])
      t.match(await reload(config, end), new RegExp(`^422.*${said.source}`, 's'), name);
  t.match(
    await reload(JSON.stringify(withoutTls)),
    /^422.*tls: off/s,
    'JSON says where it ends, but not this',
  );
  const withoutTwo = changed(({ outbound }) => delete outbound.clusters['two']);
  t.match(await reload(withoutTwo), /^422.*outbound\.clusters\.two: is missing.*"two: off".*\.\.\./s);
  const withoutRoutes = changed(({ outbound }) => delete (outbound as Section)['routes']);
  t.match(await reload(withoutRoutes), /^422.*outbound\.routes: is missing/s);
  t.match(await page(), /allow_identities/);
  t.match(
    await reload(
      changed(({ outbound }) => {
        outbound.clusters['three'] = 'off';
      }),
    ),
    /^200/,
    'a cluster by its word',
  );
  t.notMatch(await page(), /three/);
  t.match(
    await reload(changed(({ outbound }) => delete outbound.clusters['three'])),
    /^200/,
    'which need not stay',
  );
  t.match(
    await reload(
      changed(({ outbound }) => {
        delete outbound.clusters['three'];
        delete outbound.clusters['two'];
      }),
      '...\n',
    ),
    /^200/,
  );
  t.match(await reload(withoutRoutes, '...\n'), /^200/, 'the end of the file is a word for sections');
  t.match(
    await reload(
      changed((c) => {
        tlsOf(c)['allow_identities'] = [];
      }),
      '...\n',
    ),
    /^422.*allow_identities: is missing.*allow_identities: off/s,
    'an empty list lets in everybody by client_ca, and is no word',
  );
  t.match(
    await reload(
      changed((c) => {
        tlsOf(c)['allow_identities'] = 'off';
      }),
    ),
    /^200/,
  );
  t.match(
    await reload(
      changed((c) => {
        tlsOf(c)['client_ca'] = 'off';
        delete tlsOf(c)['allow_identities'];
      }),
    ),
    /^200/,
  );
  t.match(
    await reload(
      changed(({ inbound }) => {
        inbound['tls'] = 'off';
      }),
    ),
    /^200/,
  );
  t.notMatch(await page(), /"client_ca"|"cert"/);
});

/** Each ends with what protects; the last line is cut off in part or as a whole, and the name at the top changed. */
const ENDS: Record<string, string> = {
  scope: 'inbound:\n  tasks:\n    scope_headers:\n      - x-api-key\n      - cookie\n      - x-user\n',
  rate: 'inbound:\n  rate_limit:\n    burst: 10\n    calls_per_second: 100\n',
  time: 'inbound:\n  timeout: 20s\n  max_timeout: 30s\n',
  budget: 'llm:\n  limits:\n    max_wait: 1s\n    tokens_per_task: 50000\n',
  list: 'inbound:\n  token_budget:\n    allow_identities:\n      - spiffe://x/a\n      - spiffe://x/b\n    from: nobody\n',
  routes:
    'outbound:\n  clusters:\n    one: { endpoints: ["a:1"] }\n  routes:\n    - match: { authority: one }\n      cluster: one\n    - match: { agent_type: code }\n      cluster: one\n',
};

t.test(
  'a file that is changed at the top and truncated at the end is refused, and an edit is not',
  async (t) => {
    const parsed = (text: string) => {
      const result = parseYaml(yaml, text, 'file');
      if ('problems' in result) return undefined;
      const { value, isWhole } = result;
      return { text, source: 'file', file: value, value, isWhole };
    };
    const losses = (before: string, next: string) => {
      const given = parsed(next);
      return given === undefined ? ['no YAML'] : lossesOf(parsed(before)!, given).map((loss) => loss.message);
    };
    for (const [name, end] of Object.entries(ENDS)) {
      const before = `name: one\nlog: { level: info }\n${end}`;
      const changed = before.replace('name: one', 'name: another\nversion: "2"');
      const lastLine = changed.trimEnd().lastIndexOf('\n') + 1;
      const indent = changed.slice(lastLine).search(/\S/);
      for (let at = lastLine; at < changed.trimEnd().length; at++)
        if (at === lastLine || at > lastLine + indent)
          t.not(
            losses(before, changed.slice(0, at)).length,
            0,
            `${name}: ${JSON.stringify(changed.slice(lastLine, at))}`,
          );
      t.strictSame(losses(before, changed), [], `${name}: a change at the top`);
      t.strictSame(losses(before, `${changed}drain: { delay: 1s }\n`), [], `${name}: and a new section`);
      t.strictSame(losses(before, `${end}name: one\nlog: { level: info }\n`), [], `${name}: another order`);
      t.strictSame(
        losses(before, `${changed.slice(0, lastLine)}...\n`),
        [],
        `${name}: by the end of the file`,
      );
      const half = changed.slice(0, lastLine);
      t.strictSame(
        losses(`${before}drain: { delay: 1s }\n`, `${changed}drain: { delay: 2s }\n`),
        [],
        'a value',
      );
      if (['rate', 'time', 'budget'].includes(name)) {
        const inMiddle = (text: string) => `${text}drain: { delay: 1s }\n`;
        t.match(losses(inMiddle(before), inMiddle(half)), [/missing/], `${name}: gone from the middle`);
        const zero = changed.replace(/\d+s?\n$/, '0\n');
        t.strictSame(losses(before, zero), [], `${name}: by a zero`);
        t.strictSame(losses(zero, inMiddle(half)), [], `${name}: which need not stay`);
        t.strictSame(losses(before, changed.replace(/0(s?)\n$/, '$1\n')), [], `${name}: a smaller value`);
      }
    }
    const routes = `name: one\n${ENDS['routes']}`;
    const withoutFirst = routes.replace('    - match: { authority: one }\n      cluster: one\n', '');
    t.strictSame(losses(routes, withoutFirst), [], 'a route goes from the middle');
  },
);

t.test('a start with a broken file exits with 64, or uses the last good file if one was kept', async (t) => {
  const folder = t.testdir({});
  const config = join(folder, 'outrigger.yaml');
  const kept = join(folder, 'kept');
  const ports = { health: await freePort(), metrics: await freePort(), admin: await freePort() };
  const text = `name: kept
${Object.entries(ports)
  .map(([name, port]) => `${name}: { listen: "127.0.0.1:${port}" }`)
  .join('\n')}
llm: { listen: "127.0.0.1:${await freePort()}" }
inbound: { listen: "127.0.0.1:${await freePort()}" }
outbound:
  listen: "127.0.0.1:${await freePort()}"
  clusters:
    one: { endpoints: ["127.0.0.1:1"] }
    two: { endpoints: ["127.0.0.1:2"] }
`;
  const run = (...args: string[]) =>
    startProcess(t, process.execPath, ['sidecar/main.ts', 'run', '--config', config, ...args], {
      cwd: join(import.meta.dirname, '..', '..'),
    });
  const live = () => waitUntil('it is live', async () => health(ports.health).catch(() => undefined));
  const end = async (process: ReturnType<typeof run>) => {
    process.kill('SIGTERM');
    t.equal(await process.ended, 0);
  };
  writeFileSync(config, 'inbound: [');
  const broken = run('--last-good', kept);
  t.equal(await broken.ended, 64, 'nothing was kept yet');
  writeFileSync(config, text);
  const first = run('--last-good', kept);
  await live();
  await waitUntil('it is kept', () => existsSync(join(kept, 'last-good.yaml')));
  t.strictSame(await health(ports.health), { ok: true });
  await end(first);
  for (const wrong of ['', text.split('\n').slice(0, -2).join('\n'), undefined]) {
    if (wrong === undefined) rmSync(config);
    else writeFileSync(config, wrong);
    if (wrong === undefined) t.equal(await run().ended, 64, 'without a folder it ends');
    const again = run(`--last-good=${kept}`);
    t.match(await live(), { ok: true, config: /last good/ }, `${wrong}`);
    t.equal(await refusedGauge(ports.metrics), '1');
    t.match(await (await fetch(`http://127.0.0.1:${ports.admin}/config`)).text(), /"kept"/);
    await waitUntil('the log says so', () => again.logs().includes('uses the last good one (--last-good)'));
    writeFileSync(config, `${text}log: { level: debug }\n`);
    await fetch(`http://127.0.0.1:${ports.admin}/reload`, { method: 'POST' });
    await waitUntil('a right file is taken', async () => (await refusedGauge(ports.metrics)) === '0');
    await waitUntil('and kept', () => readFileSync(join(kept, 'last-good.yaml'), 'utf8').includes('debug'));
    await end(again);
  }
  mkdirSync(join(folder, 'file'));
  writeFileSync(join(folder, 'file', 'x'), '');
  writeFileSync(config, text);
  const unkept = run('--last-good', join(folder, 'file', 'x'));
  await live();
  await waitUntil('it says so', () =>
    /the sidecar can not store the configuration: .*check --last-good/.test(unkept.logs()),
  );
  await end(unkept);
});
