// The commands of README.md: each runs here as it stands there but for its ports, or by the file that the list names.
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { freePort } from '../scripts/harness/free-port.ts';
import { runProcess, startProcess } from '../scripts/harness/process.ts';
import { startRawServer } from '../scripts/harness/raw-grpc.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';

t.setTimeout(290_000);

const root = join(import.meta.dirname, '..');
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const version = (JSON.parse(read('package.json')) as { version: string }).version;

/** Commands that need a cluster, an engine of containers, or minutes: the file that runs each, and what it has of it. */
const ELSEWHERE: readonly [command: RegExp, file: string, part: RegExp][] = [
  [/^npm start -- --task /, 'agents/local/with-sidecars.test.ts', /runStart\(t, \['--task'/],
  [/^npm test$/, '.ci/run', /^npm test /m],
  [/^npm ci$/, '.ci/run', /npm test/],
  [/^npm pack$/, 'test/support/package.ts', /'pack'/],
  [/^npm install outrigger$/, 'test/package.test.ts', /install/],
  [/^pip install build$/, 'scripts/tools/python.mjs', /build==|build/],
  [/^python3 -m build --wheel python$/, 'test/support/python-wheel.ts', /'build'/],
  [/^pip install 'outrigger-agent\[openai\]'$/, 'test/examples.test.ts', /wheel/i],
  [/^docker build -t outrigger:\S+ \.$/, 'test/image/run.sh', /build/],
  [/^docker compose up --build$/, 'test/image/compose.sh', /compose/],
  [/^helm install outrigger k8s\/helm\/outrigger /, 'test/helm.test.ts', /'template'|'lint'/],
  [/^kubectl apply -k k8s\/\S+$/, 'test/kubernetes.test.ts', /overlays/],
  [/^kubectl label namespace my-agents outrigger\.dev\/inject=true$/, 'test/cluster/suite.ts', /inject/],
  [
    /^kubectl kustomize my-agents \| outrigger inject \| kubectl apply -f -$/,
    'test/kubernetes.test.ts',
    /inject/,
  ],
  [/^npm run bench -- --quick$/, 'bench/run.ts', /quick/],
  [/^npm run load -- /, 'bench/load/load.test.ts', /--rate|rate/],
];

/** The lines of the README's blocks, with lines that go on joined to one, and the commands in its table of installation. */
function commandsOf(markdown: string): string[] {
  const blocks = [...markdown.matchAll(/^```sh\n(.*?)^```/gms)].map(([, block = '']) => block);
  const lines = blocks.flatMap((block) => block.replaceAll(/\\\n\s*/g, '').split('\n'));
  const [, install = ''] = /^## Install\n(.*?)^## /ms.exec(markdown) ?? [];
  const [, inject = ''] = /^## Inject it into a pod\n(.*?)^## /ms.exec(markdown) ?? [];
  const named = [...(install + inject).matchAll(/`((?:npm|pip|helm|kubectl|docker) [^`]+)`/g)];
  return [...lines, ...named.map(([, command = '']) => command)]
    .map((line) => line.replace(/ +# .*$/, '').trim())
    .filter((line) => line !== '');
}

const commands = commandsOf(read('README.md'));
const here = commands.filter((command) => /^(npm start$|curl |npx outrigger )/.test(command));

t.test('each command runs here, or by the file that the list names', async (t) => {
  for (const command of commands) {
    if (here.includes(command)) continue;
    const [, file, part] = ELSEWHERE.find(([pattern]) => pattern.test(command)) ?? [];
    t.ok(file, `${command}: run it here, or name the file that does`);
    if (file !== undefined && part !== undefined) t.ok(part.test(read(file)), `${file} runs ${command}`);
    for (const [path] of command.matchAll(/\bk8s\/\S+/g)) t.ok(existsSync(join(root, path)), path);
    for (const [, script = ''] of command.matchAll(/^npm run (\S+)/g))
      t.ok((JSON.parse(read('package.json')) as { scripts: object }).scripts[script as never], script);
    for (const [, tag] of command.matchAll(/ outrigger:(\S+)/g)) t.equal(tag, version);
  }
  for (const [pattern, file] of ELSEWHERE)
    t.ok(
      commands.some((command) => pattern.test(command)),
      `${pattern} of ${file} is in the README`,
    );
});

t.test('npm start serves the tasks of the README', async (t) => {
  const { OPENAI_API_KEY: _, ...clean } = process.env;
  // Without npm, which does not pass on the signal that a terminal sends to both.
  const { start } = (JSON.parse(read('package.json')) as { scripts: { start: string } }).scripts;
  const system = startProcess(t, 'sh', ['-c', `exec ${start}`], {
    cwd: root,
    env: { ...(clean as Record<string, string>), OPENAI_API_KEY: '', PORT: String(await freePort()) },
  });
  await waitUntil('the system says how to stop it', () => system.logs().includes('Ctrl-C stops it'));
  // The claim on a free port counts as its use: the gateway takes another one, and says which.
  const [, page = ''] = /page +(http:\S+)\//.exec(system.logs()) ?? [];
  const curls = here.filter((command) => command.startsWith('curl '));
  t.equal(curls.length, 2);
  for (const command of curls) {
    const own = command.replaceAll('http://127.0.0.1:8080', page);
    const { code, output } = await runProcess(t, 'sh', ['-c', own]);
    t.equal(code, 0, `${own}\n${system.logs()}`);
    if (command.includes('text/event-stream')) {
      t.match(output, /^data: .*\n/m);
      t.match(output, /event: (done|end|result)/);
    } else t.match(JSON.parse(output), { status: 'SUCCESS', output: /circuit breakers/i });
  }
  t.match(await (await fetch(page)).text(), /<title>/);
  system.kill('SIGINT');
  t.equal(await system.ended, 0, 'Ctrl-C ends it');
});

t.test('npx outrigger runs beside an agent, and shows its state, calls and configuration', async (t) => {
  const app = await startRawServer(t);
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-readme-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  mkdirSync(join(folder, 'bin'));
  const npx = join(folder, 'bin', 'npx');
  writeFileSync(
    npx,
    `#!/bin/sh\nshift\nexec "${process.execPath}" "${join(root, 'sidecar/main.ts')}" "$@"\n`,
  );
  chmodSync(npx, 0o755);
  const env: Record<string, string> = { PATH: `${join(folder, 'bin')}:${process.env['PATH']}` };
  for (const listener of ['INBOUND', 'OUTBOUND', 'LLM', 'ADMIN', 'METRICS', 'HEALTH'])
    env[`OUTRIGGER_${listener}_LISTEN`] = `127.0.0.1:${await freePort()}`;
  env['OUTRIGGER_INBOUND_APP'] = app.address;
  const [run = '', ...others] = here.filter((command) => command.startsWith('npx '));
  t.same(
    [run, ...others.map((command) => command.split(' ')[2])],
    ['npx outrigger run', 'status', 'calls', 'check'],
  );
  const sidecar = startProcess(t, 'sh', ['-c', `exec ${run}`], { cwd: folder, env });
  const health = env['OUTRIGGER_HEALTH_LISTEN'];
  await waitUntil('the sidecar is ready', async () =>
    fetch(`http://${health}/healthz/ready`).then(
      ({ ok }) => ok,
      () => false,
    ),
  );
  const said = new Map<string, string>();
  for (const command of others) {
    const { code, output } = await runProcess(t, 'sh', ['-c', command], { cwd: folder, env });
    t.equal(code, 0, `${command}: ${output}`);
    said.set(command, output);
  }
  t.match(said.get('npx outrigger status'), /NAME +ADDRESS.*\n.* ready /s);
  t.match(said.get('npx outrigger check'), new RegExp(app.address));
  t.equal(await sidecar.stop(), 0);
});
