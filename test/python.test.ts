// A plain Python agent and a plain Python caller (grpcio, unchanged) through outbound → inbound.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { runProcess, startProcess } from '../scripts/harness/process.ts';
import { outboundTo, startSidecar } from '../scripts/harness/sidecar.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';

t.setTimeout(290_000);

const python = join(import.meta.dirname, 'support', 'python');
/** The names in agent_client.py's list, so that a check which never came is noticed. */
const checks = /^CHECKS = \[\n([^\]]*)\]/m
  .exec(readFileSync(join(python, 'agent_client.py'), 'utf8'))![1]!
  .split(',')
  .map((name) => name.trim())
  .filter((name) => name !== '');

const skip = skipWithout('python');

async function startAgent(t: Test): Promise<string> {
  const agent = startProcess(t, requireTool('python'), [join(python, 'agent.py')]);
  const port = await waitUntil('the agent said its port', () => /^(\d+)$/m.exec(agent.logs())?.[1]);
  return `127.0.0.1:${port}`;
}

/** Runs the caller against an address; each of its checks is an assertion. */
async function expectAllChecks(t: Test, address: string): Promise<void> {
  const args = [join(python, 'agent_client.py'), address];
  const { output } = await runProcess(t, requireTool('python'), args, { limitMs: 120_000 });
  const results = new Map<string, string | null>();
  for (const line of output.split('\n').filter((line) => line.startsWith('{'))) {
    const { check, error } = JSON.parse(line) as { check: string; error: string | null };
    results.set(check, error);
  }
  if (results.size < checks.length) t.comment(output.slice(-2_000));
  t.ok(checks.length >= 20, `${checks.length} checks are known`);
  for (const check of checks) {
    t.equal(results.has(check) ? results.get(check) : 'the caller did not come to it', null, check);
  }
}

t.test('a Python agent and caller work without sidecars', { skip }, async (t) => {
  await expectAllChecks(t, await startAgent(t));
});

t.test('a Python agent and caller work through two sidecars', { skip }, async (t) => {
  const app = await startAgent(t);
  const beside = await startSidecar(t, { name: 'python-agent', inbound: { app } });
  const caller = await startSidecar(t, outboundTo(`127.0.0.1:${beside.inboundPort}`), { until: 'live' });
  await expectAllChecks(t, `127.0.0.1:${caller.outboundPort}`);
  t.equal(beside.child.exitCode, null, 'the sidecar beside the agent still runs');
  t.equal(caller.child.exitCode, null, "the caller's sidecar still runs");
});

t.test('a Python agent and caller work over a bus', { skip }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-bus-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const bus = { url: `file:${join(folder, 'tasks.db')}` };
  const app = await startAgent(t);
  const beside = await startSidecar(t, {
    name: 'python-agent',
    inbound: { app },
    bus: { ...bus, consume: { agent_types: ['research'], places: 32 } },
  });
  const outbound = {
    routes: [{ match: {}, cluster: 'research' }],
    clusters: { research: { bus: 'research' } },
  };
  const caller = await startSidecar(t, { inbound: { app: 'none' }, outbound, bus }, { until: 'live' });
  await expectAllChecks(t, `127.0.0.1:${caller.outboundPort}`);
  t.equal(beside.child.exitCode, null, 'the sidecar beside the agent still runs');
  t.equal(caller.child.exitCode, null, "the caller's sidecar still runs");
});
