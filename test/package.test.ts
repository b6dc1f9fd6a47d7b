// The package as a stranger gets it: `npm pack`, `npm install` in an empty folder, the command and `outrigger/agent` on each
// Node that it says it runs on.
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { delimiter, dirname, join } from 'node:path';
import { Metadata } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { type AgentClient, connectAgent } from '../agents/protocol/agent-client.ts';
import type { TaskResponse } from '../agents/protocol/messages.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { PATIENCE_MS } from '../scripts/harness/patience.ts';
import { startProcess } from '../scripts/harness/process.ts';
import { skipWithout, tool } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { publishedManifest } from '../scripts/package/manifest.ts';
import { AS_STRANGER, bytesOf, copyCheckout, pack, project, runAsStranger } from './support/package.ts';

const root = join(import.meta.dirname, '..');
const MEBIBYTE = 1024 * 1024;

let checkout = '';
let manifest = '';
let tarball = '';
/** A project with the package, and an agent that imports it. */
let installed = '';

t.before(async () => {
  checkout = copyCheckout(t);
  manifest = readFileSync(join(checkout, 'package.json'), 'utf8');
  leaveInterruptedPack(checkout);
  tarball = await pack(t, checkout);
  installed = await project(t, [tarball]);
  writeFileSync(join(installed, 'agent.mjs'), AGENT);
});

t.test('the package holds what runs, and nothing of the checkout', async (t) => {
  const files = execFileSync('tar', ['-tzf', tarball], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .map((name) => name.replace('package/', ''));
  for (const file of files)
    t.match(file, /^(dist\/|proto\/|package\.json$|README\.md$|LICENSE$|CHANGELOG\.md$)/, file);
  t.notOk(
    files.some((file) => /(?<!\.d)\.ts$/.test(file)),
    'no TypeScript that Node would refuse in node_modules',
  );
  const bin = files.filter((file) => file === 'dist/bin.mjs' || file === 'dist/command/outrigger.mjs');
  t.equal(bin.length, 2);
});

t.test('packing leaves the checkout as it was, also after it was interrupted', async (t) => {
  t.equal(readFileSync(join(checkout, 'package.json'), 'utf8'), manifest);
  t.notOk(existsSync(savedManifest(checkout)));
});

t.test('what a project gets takes less than 30 MiB without Node', async (t) => {
  const folder = await project(t, [tarball], ['--omit=optional']);
  t.ok(bytesOf(join(folder, 'node_modules')) < 30 * MEBIBYTE);
});

const POD = `apiVersion: v1
kind: Pod
metadata: { name: research, labels: { app: research } }
spec:
  containers:
    - name: app
      image: research:1
      ports: [{ containerPort: 50051, name: grpc }]
`;

const AGENT = `import { AgentError, serveAgent } from 'outrigger/agent';
await serveAgent({
  name: 'echo',
  version: '1.0.0',
  async processTask(task, context) {
    if (task.input === 'refuse') throw new AgentError('INVALID_ARGUMENT', 'refused by the agent', { field: 'input' });
    if (task.input === 'ask') return { output: String(await context.openai.models.list()) };
    return { output: 'said ' + task.input };
  },
  async *streamProcess(task) {
    yield 'said ';
    yield task.input;
  },
});
`;

/** The environment of a shell in which this Node comes first. */
function shellWith(node: string): Record<string, string> {
  return { PATH: [dirname(node), process.env['PATH'] ?? ''].join(delimiter) };
}

const versions = [
  ['Node 20', tool('node20'), skipWithout('node20')],
  ['Node 22', tool('node22'), skipWithout('node22')],
  ['Node 24', process.execPath, false],
] as const;

for (const [name, node, skip] of versions) {
  t.test(`the command runs on ${name}`, { skip }, async (t) => {
    const env = shellWith(node!);
    const run = (...args: string[]) =>
      runAsStranger(t, node!, [join(installed, 'node_modules/.bin/outrigger'), ...args], {
        cwd: installed,
        env,
      });
    const version = await run('--version');
    t.same(version, { code: 0, output: `${JSON.parse(manifest).version}\n` });
    const check = await run('check');
    t.equal(check.code, 0, check.output);
    const pod = join(installed, 'pod.yaml');
    writeFileSync(pod, POD);
    const injected = await run('inject', '--file', pod);
    t.equal(injected.code, 0, injected.output);
    t.match(injected.output, 'name: outrigger');
  });

  t.test(`an agent of the package answers through the package's sidecar on ${name}`, { skip }, async (t) => {
    const env = shellWith(node!);
    const agentPort = await freePort();
    const agent = startProcess(t, 'env', [...AS_STRANGER, node!, 'agent.mjs'], {
      cwd: installed,
      env: { ...env, AGENT_LISTEN: `127.0.0.1:${agentPort}` },
    });
    await waitUntil('the agent listens', () => agent.logs().includes('"msg":"listening"'));
    const port = await freePort();
    const others = await Promise.all(
      ['outbound', 'llm', 'admin', 'metrics', 'health'].map(async (name) => [
        `--${name}.listen`,
        `127.0.0.1:${await freePort()}`,
      ]),
    );
    const start = async () => {
      const program = [node!, join(installed, 'node_modules/.bin/outrigger'), 'run'];
      const addresses = ['--inbound.app', `127.0.0.1:${agentPort}`, '--inbound.listen', `127.0.0.1:${port}`];
      const args = [...AS_STRANGER, ...program, ...addresses, ...others.flat()];
      const sidecar = startProcess(t, 'env', args, { cwd: installed, env });
      await waitUntil('the sidecar listens', () => sidecar.logs().includes('"msg":"listening"'));
      return sidecar;
    };
    const sidecar = await start();
    await answers(t, port);
    t.equal(await sidecar.stop(), 0, sidecar.logs());
    const killed = await start();
    killed.kill('SIGKILL');
    await waitUntil('the killed sidecar has left its port', () => isFree(port));
    t.equal(await agent.stop(), 0, agent.logs());
  });
}

/** Whether nobody listens at the port. */
function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => {
      socket.destroy();
      resolve(false);
    });
    socket.once('error', () => resolve(true));
  });
}

function callTask(client: AgentClient, input: string): Promise<TaskResponse | undefined> {
  const task = { task_id: `task-${input}`, input };
  return new Promise((resolve, reject) => {
    const deadline = Date.now() + PATIENCE_MS;
    client.ProcessTask(task, new Metadata(), { deadline }, (error, answer) =>
      error === null ? resolve(answer) : reject(error),
    );
  });
}

async function answers(t: Test, port: number): Promise<void> {
  const client = connectAgent(`127.0.0.1:${port}`);
  t.teardown(() => client.close());
  t.match(await callTask(client, 'hello'), { output: 'said hello' });
  await t.rejects(callTask(client, 'refuse'), { message: /refused by the agent/ });
  await t.rejects(callTask(client, 'ask'), { message: /npm install openai/ }, 'without the openai package');
}

t.test('the types of outrigger/agent are whole, with the openai package and without', async (t) => {
  const source = `import { AgentError, serveAgent, type TaskContext, type TaskRequest, type TaskResult } from 'outrigger/agent';
async function processTask(task: TaskRequest, context: TaskContext): Promise<TaskResult> {
  if (context.timeLeftMs() < 5) throw new AgentError('DEADLINE_EXCEEDED', 'late', { retryAfterMs: -1 });
  return { output: task.input, status: 'SUCCESS' };
}
await serveAgent({ name: 'x', version: '1', processTask, async *streamProcess(task) { yield task.input; } });
// @ts-expect-error: no such status
export const wrong: TaskResult = { output: '', status: 'NO' };
`;
  writeFileSync(join(installed, 'agent.ts'), source);
  cpSync(join(root, 'node_modules/@types/node'), join(installed, 'node_modules/@types/node'), {
    recursive: true,
  });
  t.notOk(existsSync(join(installed, 'node_modules/openai')));
  for (const [module, resolution] of [
    ['nodenext', 'nodenext'],
    ['esnext', 'bundler'],
  ] as const) {
    const options = [
      '--noEmit',
      '--strict',
      '--target',
      'es2022',
      '--module',
      module,
      '--moduleResolution',
      resolution,
      '--types',
      'node',
    ];
    const compiled = await runAsStranger(
      t,
      process.execPath,
      [join(root, 'node_modules/typescript/bin/tsc'), ...options, 'agent.ts'],
      { cwd: installed },
    );
    t.same(compiled, { code: 0, output: '' }, resolution);
  }
});

/** What a pack leaves that was ended before its last step. */
function leaveInterruptedPack(checkout: string): void {
  mkdirSync(dirname(savedManifest(checkout)), { recursive: true });
  writeFileSync(savedManifest(checkout), manifest);
  const published = publishedManifest(JSON.parse(manifest));
  // `npm` itself runs the scripts that this file names.
  writeFileSync(
    join(checkout, 'package.json'),
    JSON.stringify({ ...published, scripts: JSON.parse(manifest).scripts }),
  );
}

function savedManifest(checkout: string): string {
  return join(checkout, '.cache', 'package.json.saved');
}
