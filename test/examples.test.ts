// The examples, as someone has them who knows nothing of this repository: installed from the packages, run beside real sidecars,
// called through them, and hurt.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ServiceError, status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { startProcess } from '../scripts/harness/process.ts';
import { requireTool, skipWithout, type ToolName } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { exampleScene, processTask, type StartAgent, streamTask, told } from './support/example-scene.ts';
import { AS_STRANGER, copyCheckout, copyFolder, install, pack, runAsStranger } from './support/package.ts';
import { installWheel } from './support/python-wheel.ts';

t.setTimeout(290_000);

const root = join(import.meta.dirname, '..');

/** A tool of the agent, and how a model would call it. */
interface Tool {
  name: string;
  arguments: string;
}

const withoutPython = skipWithout('python-package');
/** Where the Python package is installed. */
let wheel = '';
/** The example in TypeScript, installed and built. */
let inTypeScript = '';

t.before(async () => {
  if (withoutPython === false) wheel = await installWheel(t);
  inTypeScript = copyFolder(t, 'examples/typescript');
  await install(t, inTypeScript, [await pack(t, copyCheckout(t))]);
  const { code, output } = await runAsStranger(t, 'npm', ['run', 'build'], { cwd: inTypeScript });
  if (code !== 0) throw new Error(`the agent was not built:\n${output}`);
});

/** Starts `agent.py` of an example with the packages of a virtual environment, and the wheel. */
function inPython(t: Test, example: string, python: ToolName): StartAgent {
  const folder = copyFolder(t, `examples/${example}`);
  return (env) =>
    startProcess(t, requireTool(python), ['agent.py'], { cwd: folder, env: { PYTHONPATH: wheel, ...env } });
}

/** The same without the wheel, and with stubs of its own. */
function withStubs(t: Test, example: string): StartAgent {
  const folder = copyFolder(t, `examples/${example}`);
  const python = requireTool('python-package');
  const protoc = ['-m', 'grpc_tools.protoc', '-I', '.', '--python_out=.', '--grpc_python_out=.'];
  execFileSync(python, [...protoc, 'agent_service.proto'], { cwd: folder });
  return (env) => startProcess(t, python, ['agent.py'], { cwd: folder, env });
}

/** What every agent of the examples does, and survives. */
async function serves(t: Test, startAgent: StartAgent, tool: Tool): Promise<void> {
  const { provider, replicas, client } = await exampleScene(t, startAgent);
  const { faults, stats } = provider;

  faults.add({ times: 1, behaviour: { tool_call: tool } });
  const answer = await processTask(client, 'What about order 1001?');
  t.match(answer.output, /Offline answer.*order 1001/s, 'the answer of the model');
  t.equal(stats.read().requests, 2, 'the model was asked again, with what the tool said');
  t.ok(answer.tokens_used > 0, 'the tokens are counted');

  faults.add({ times: 1, behaviour: { tool_call: tool } });
  const chunks = await streamTask(client, 'What about order 1002?');
  t.match(chunks.join(''), /Offline answer.*order 1002/s);
  t.ok(chunks.length > 5, 'the answer comes as it arises');

  faults.add({ times: 1, behaviour: { throttle: { retry_after: 1 } } });
  t.match(
    await processTask(client, 'Be patient'),
    { status: 'SUCCESS' },
    'the sidecar waits for the provider',
  );
  t.equal(stats.read().by_status[429], 1);

  // After the caller has got some of it, so that nobody begins again.
  for (const broken of [{ cut_after_chunks: 12 }, { end_after_chunks: 12 }]) {
    faults.add({ times: 1, behaviour: broken });
    const half = await streamTask(client, 'Break off').then(String, ({ code }: ServiceError) => code);
    t.equal(half, status.UNAVAILABLE, `half an answer is no answer: ${Object.keys(broken)}`);
  }

  faults.add({ behaviour: { fail: { status: 401 } } });
  const refused = await processTask(client, 'Use the wrong key').catch((error: ServiceError) => error);
  t.match(
    told(refused as ServiceError),
    'A fault rule makes the provider answer 401',
    "the provider's own words",
  );
  faults.clear();

  faults.add({ behaviour: { latency_ms: 500 } });
  const running = [1, 2, 3, 4].map((number) => processTask(client, `Survive, number ${number}`));
  await waitUntil('each replica works', () => stats.read().active === 4);
  replicas[0].agent.kill('SIGKILL');
  await waitUntil('the tasks of the killed replica have gone', () => stats.read().aborted > 0);
  for (const answered of await Promise.all(running))
    t.equal(answered.status, 'SUCCESS', 'the other replica takes over');
  faults.clear();
  t.match(await processTask(client, 'And afterwards'), { status: 'SUCCESS' });
  t.equal(await replicas[1].agent.stop(), 0, 'the agent ends in order');
}

/** What an example pins is what the test has installed. */
function pinnedLike(t: Test, example: string, python: ToolName): void {
  const pinned = readFileSync(join(root, 'examples', example, 'requirements.txt'), 'utf8').match(
    /^.*==.*$/gm,
  );
  const installed = readFileSync(join(requireTool(python), '..', '..', 'packages.txt'), 'utf8').split('\n');
  for (const one of pinned ?? []) t.ok(installed.includes(one), `${example}: ${one}`);
}

t.test('an agent on openai-agents', { skip: withoutPython }, async (t) => {
  pinnedLike(t, 'openai-agents', 'python-package');
  const tool = { name: 'order_state', arguments: '{"order": "1001"}' };
  await serves(t, inPython(t, 'openai-agents', 'python-package'), tool);
});

t.test('an agent on langgraph', { skip: skipWithout('python-package', 'langgraph') }, async (t) => {
  pinnedLike(t, 'langgraph', 'langgraph');
  const tool = { name: 'departure', arguments: '{"city": "Hamburg"}' };
  await serves(t, inPython(t, 'langgraph', 'langgraph'), tool);
});

t.test('an agent on plain grpcio', { skip: withoutPython }, async (t) => {
  pinnedLike(t, 'grpcio', 'python-package');
  const proto = (folder: string) => readFileSync(join(root, folder, 'agent_service.proto'), 'utf8');
  t.equal(proto('examples/grpcio'), proto('proto'), 'its copy of the protocol is the protocol');
  const tool = { name: 'find_paper', arguments: '{"topic": "canoe"}' };
  await serves(t, withStubs(t, 'grpcio'), tool);
});

t.test('an agent in TypeScript', async (t) => {
  const program = ['env', ...AS_STRANGER, process.execPath, 'dist/agent.js'];
  const start: StartAgent = (env) =>
    startProcess(t, program[0]!, program.slice(1), { cwd: inTypeScript, env });
  await serves(t, start, { name: 'glossary', arguments: '{"word": "sidecar"}' });
});
