// docs/write-an-agent.md, followed by a reader beside a provider and on ports of the test's own.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { startProvider } from '../../agents/provider/server.ts';
import { freePort } from '../../scripts/harness/free-port.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { follow, inShell, type Reader, sectionOf } from './page-commands.ts';

const page = readFileSync(join(import.meta.dirname, '..', '..', 'docs', 'write-an-agent.md'), 'utf8');

const LISTENERS = {
  inbound: '15006',
  outbound: '15001',
  llm: '15002',
  admin: '15000',
  metrics: '15020',
  health: '15021',
} as const;

/**
 * Follows the section, then "Look at it, and break it": what the caller prints, the dashboard's data, and the call of an agent that
 * has ended.
 *
 * @param env the reader's environment, with its PATH
 */
export async function followAgentPage(
  t: Test,
  heading: string,
  env: Record<string, string>,
  installs: Reader['installs'],
  prepare: (folder: string) => void = () => {},
): Promise<void> {
  const provider = await startProvider('127.0.0.1', 0);
  t.teardown(() => provider.close());
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-page-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  prepare(folder);
  const ports = new Map([['50051', await freePort()]]);
  for (const port of Object.values(LISTENERS)) ports.set(port, await freePort());
  const at = (port: string) => `127.0.0.1:${ports.get(port)}`;
  const reader: Reader = {
    folder,
    ports,
    installs,
    env: {
      ...env,
      AGENT_LISTEN: at('50051'),
      AGENT_OUTBOUND: at('15001'),
      ...Object.fromEntries(
        Object.entries(LISTENERS).map(([name, port]) => [`OUTRIGGER_${name.toUpperCase()}_LISTEN`, at(port)]),
      ),
      OUTRIGGER_INBOUND_APP: at('50051'),
    },
    starts: (command) => {
      if (/^(?:node|python) agent\.\w+$/.test(command))
        return { env: { OPENAI_BASE_URL: `http://${at('15002')}/v1` }, ready: async () => {} };
      if (!/npx outrigger run$/.test(command)) return undefined;
      return {
        env: { OPENAI_BASE_URL: provider.baseUrl },
        ready: (sidecar) =>
          waitUntil('the sidecar and its agent are ready', async () => {
            if (sidecar.child.exitCode !== null) return true;
            return (await fetch(`http://${at('15021')}/healthz/ready`)).ok;
          }),
      };
    },
  };
  const { ran, running } = await follow(t, sectionOf(page, heading), reader);
  const calls = ran.filter(({ command }) => command.includes('haiku'));
  t.ok(calls.length > 0, 'the section calls its agent');
  for (const { command, output } of calls) t.match(output, /Offline answer.*haiku/s, command);

  const looked = await follow(t, sectionOf(page, 'Look at it, and break it'), reader);
  for (const { output } of looked.ran) t.match(output, /"app"/, 'the agent is on the dashboard');
  const agent = [...running].find(([command]) => / agent\./.test(command))![1];
  agent.kill('SIGTERM');
  if ((await agent.ended) !== 0) throw new Error(`the agent did not end in order:\n${agent.logs()}`);
  const failed = await inShell(t, calls[0]!.command, reader);
  t.not(failed.code, 0);
  t.match(failed.output, /UNAVAILABLE/);
}
