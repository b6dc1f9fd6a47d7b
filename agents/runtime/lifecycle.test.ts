// The life of an agent's process: start, health, drain and end.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { type Client, credentials, makeClientConstructor, status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { connectAgent } from '../protocol/agent-client.ts';
import { agentService, healthService, reflectionService } from '../protocol/definitions.ts';
import { failureOf, processTask, streamProcess, testAgent, testProvider, until } from '../test-support.ts';

// The test starts processes, which takes long while other tests run on the machine.
t.setTimeout(290_000);

// biome-ignore lint/suspicious/noExplicitAny: a client made from a definition has the definition's methods
type AnyClient = Client & Record<string, any>;

function clientOf(test: Test, definition: typeof agentService, address: string): AnyClient {
  const client = new (makeClientConstructor(definition, 'Any'))(address, credentials.createInsecure());
  test.teardown(() => client.close());
  return client as AnyClient;
}

function unary(client: AnyClient, method: string, request: object): Promise<unknown> {
  return new Promise((resolve, reject) =>
    client[method](request, (error: unknown, answer: unknown) => (error ? reject(error) : resolve(answer))),
  );
}

t.test('an agent reports SERVING until it stops', async (t) => {
  const { server } = await testAgent(t, {});
  const agent = clientOf(t, agentService, server.address);
  const health = clientOf(t, healthService, server.address);
  t.same(await unary(agent, 'HealthCheck', {}), {
    healthy: true,
    agent_name: 'test-agent',
    version: '1.2.3',
    checks: { runtime: 'serving' },
  });
  t.same(await unary(health, 'Check', { service: '' }), { status: 'SERVING' });
  t.same(await unary(health, 'Check', { service: 'agent.AgentService' }), { status: 'SERVING' });
  t.equal((await failureOf(unary(health, 'Check', { service: 'other' }))).code, status.NOT_FOUND);

  const unknown = health['Watch']({ service: 'other' });
  unknown.on('error', () => {});
  t.same((await once(unknown, 'data'))[0], { status: 'SERVICE_UNKNOWN' });
  unknown.cancel();

  const seen: string[] = [];
  const watch = health['Watch']({ service: '' }).on('data', (answer: { status: string }) =>
    seen.push(answer.status),
  );
  await until(() => seen.length === 1);
  const ended = once(watch, 'end');
  t.equal(await server.stop(2000), true, 'an idle agent stops at once, also with a health watch');
  await ended;
  t.same(seen, ['SERVING', 'NOT_SERVING']);
});

t.test('reflection lists the services and describes them', async (t) => {
  const { server } = await testAgent(t, {});
  const call = clientOf(t, reflectionService, server.address)['ServerReflectionInfo']();
  const ask = async (request: object) => {
    call.write(request);
    return (await once(call, 'data'))[0];
  };
  const { list_services_response: listed } = await ask({ list_services: '' });
  t.match(
    listed.service.map(({ name }: { name: string }) => name),
    ['agent.AgentService', 'grpc.health.v1.Health'],
  );
  const found = await ask({ file_containing_symbol: 'agent.AgentService.StreamProcess' });
  t.ok(
    found.file_descriptor_response.file_descriptor_proto.some((file: Buffer) => file.includes('TaskChunk')),
  );
  const missing = await ask({ file_containing_symbol: 'agent.Nothing' });
  t.equal(missing.error_response.error_code, status.NOT_FOUND);
  call.end();
});

t.test('stop waits for running tasks, and aborts those that exceed the limit', async (t) => {
  let finish: (() => void) | undefined;
  const { server, client } = await testAgent(t, {
    processTask: () => new Promise((resolve) => (finish = () => resolve({ output: 'done' }))),
  });
  const task = processTask(client, { input: 'x' });
  await until(() => finish !== undefined);
  const stopping = server.stop(10_000);
  finish!();
  t.equal((await task).output, 'done');
  t.equal(await stopping, true);

  let started = false;
  const slow = await testAgent(t, {
    async *streamProcess(_, { signal }) {
      started = true;
      yield 'first';
      await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    },
  });
  const cut = failureOf(streamProcess(slow.client, { input: 'x' }));
  await until(() => started);
  t.equal(await slow.server.stop(50), false);
  t.match(await cut, { code: status.UNAVAILABLE, details: 'the agent is stopping' });
});

t.test('an agent listens on a Unix socket, also one that a killed process left behind', async (t) => {
  // Not t.testdir(): a socket's path may have 107 characters at most.
  const folder = mkdtempSync(join(tmpdir(), 'agent-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'agent.sock');
  const listen = `unix:${path}`;
  const { client, server } = await testAgent(t, {}, { listen });
  t.equal((await processTask(client, { input: 'hi' })).output, 'hi');
  await t.rejects(testAgent(t, {}, { listen }), 'an agent does not remove a socket in use');
  t.equal((await processTask(client, { input: 'still there' })).output, 'still there');
  await server.stop(1000);

  const code = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 9))`;
  await once(spawn(process.execPath, ['-e', code]), 'exit');
  t.ok(existsSync(path), 'left behind');
  const next = await testAgent(t, {}, { listen });
  t.equal((await processTask(next.client, { input: 'hi' })).output, 'hi');

  const file = join(folder, 'file');
  writeFileSync(file, 'kept');
  await t.rejects(testAgent(t, {}, { listen: `unix:${file}` }));
  t.ok(existsSync(file));
});

/** Starts an agent file as a process and waits for its address. */
async function startProcess(test: Test, file: string, env: Record<string, string>) {
  const path = fileURLToPath(new URL(`../${file}`, import.meta.url));
  const child: ChildProcess = spawn(process.execPath, [path], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  test.teardown(() => child.kill('SIGKILL'));
  const lines: Record<string, unknown>[] = [];
  const reading = createInterface({ input: child.stdout! });
  reading.on('line', (line) => lines.push(JSON.parse(line)));
  const exited = once(child, 'exit');
  const left = exited.then(() => {
    throw new Error(`the process ended: ${JSON.stringify(lines)}`);
  });
  left.catch(() => {});
  await Promise.race([until(() => lines.length > 0), left]).catch(() => {});
  return { child, lines, exited };
}

t.test('the three agents run as processes, call the model, and drain on SIGTERM', async (t) => {
  const provider = await testProvider(t);
  const agents = ['research', 'writing', 'code'];
  const env = { AGENT_LISTEN: '127.0.0.1:0', OPENAI_BASE_URL: provider.baseUrl, OPENAI_API_KEY: 'k-123456' };
  await Promise.all(
    agents.map(async (name) => {
      const { child, lines, exited } = await startProcess(t, `${name}/agent.ts`, env);
      const client = connectAgent(String(lines[0]!['address']));
      t.teardown(() => client.close());
      const task = { task_id: `task-${name}`, input: 'Sort a list of canoes by length' };
      const answer = await processTask(client, task);
      t.match(answer, { task_id: task.task_id, status: 'SUCCESS' });
      t.match(answer.output, new RegExp(`to the ${name} instructions`));
      t.ok(answer.tokens_used > 20);
      const chunks = await streamProcess(client, task);
      t.equal(chunks.map(({ chunk }) => chunk).join(''), answer.output);
      t.equal((await processTask(client, { ...task, max_tokens: 4 })).status, 'PARTIAL');

      provider.faults.add({
        scope: { header: { name: 'x-task-id', value: `slow-${name}` } },
        behaviour: { latency_ms: 300 },
      });
      const last = processTask(client, { ...task, task_id: `slow-${name}` });
      await until(() => provider.stats.read().by_task[`slow-${name}`] === 1);
      child.kill('SIGTERM');
      t.equal((await last).status, 'SUCCESS', 'the agent finishes a running task');
      t.same(await exited, [0, null]);
      t.match(lines.at(-1), { msg: 'stopped', finished: true });
    }),
  );
});

t.test('an agent that cannot start logs the reason and exits with 1', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  t.teardown(() => taken.close());
  const { port } = taken.address() as { port: number };
  const busy = await startProcess(t, 'code/agent.ts', { AGENT_LISTEN: `127.0.0.1:${port}` });
  t.same(await busy.exited, [1, null]);
  t.match(JSON.stringify(busy.lines), /EADDRINUSE/);

  const wrong = await startProcess(t, 'code/agent.ts', { AGENT_DRAIN_TIMEOUT: 'soon' });
  t.same(await wrong.exited, [1, null]);
  t.match(JSON.stringify(wrong.lines), /AGENT_DRAIN_TIMEOUT must be a duration such as 30s/);
});

t.test('an agent ends although no process reads its output any more', async (t) => {
  const { child, exited } = await startProcess(t, 'code/agent.ts', { AGENT_LISTEN: '127.0.0.1:0' });
  child.stdout!.destroy();
  child.kill('SIGTERM');
  t.same(await exited, [0, null]);
});

t.test(
  'an agent whose output no process reads works and ends, also while one of its threads hangs',
  async (t) => {
    const provider = await testProvider(t);
    const fifo = join(t.testdir({}), 'fifo');
    execFileSync('mkfifo', [fifo]);
    // Blocks a thread for good, like an unresponsive name server or disk.
    const hook = `import{open}from'node:fs';open(${JSON.stringify(fifo)},'r',()=>{})`;
    const { child, lines, exited } = await startProcess(t, 'code/agent.ts', {
      AGENT_LISTEN: '127.0.0.1:0',
      OPENAI_BASE_URL: provider.baseUrl,
      OPENAI_API_KEY: 'k-123456',
      LOG_LEVEL: 'trace',
      NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(hook)}`,
    });
    const client = connectAgent(String(lines[0]!['address']));
    t.teardown(() => client.close());
    child.stdout!.pause();
    // The lines exceed a pipe's buffer.
    for (let i = 0; i < 400; i++) {
      const task = { task_id: `task-${i}-${'x'.repeat(900)}`, input: 'Sort a list of canoes by length' };
      await processTask(client, task).catch(() => {});
    }
    const at = performance.now();
    child.kill('SIGTERM');
    t.same(await exited, [0, null]);
    t.ok(performance.now() - at < 8_000, 'the end waits for neither');
  },
);
