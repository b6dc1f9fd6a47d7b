// A tool runner as a process, behind a real sidecar, and its client.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Client, credentials, Metadata, makeClientConstructor, type ServiceError } from '@grpc/grpc-js';
import type { Test } from 'tap';
import { stringify } from 'yaml';
import { toolsService } from '../../agents/protocol/definitions.ts';
import type { ToolEvent, ToolList, ToolResult } from '../../agents/protocol/tool-messages.ts';
import { freePort } from '../../scripts/harness/free-port.ts';
import { startProcess, type TestProcess } from '../../scripts/harness/process.ts';
import { requireTool } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';

const root = join(import.meta.dirname, '..', '..');

export interface ToolRunnerProcess extends TestProcess {
  address: string;
  status: string;
  /** The folder of its workspaces. */
  folder: string;
}

/** A folder that the user of runs may enter, with the helper in it: a checkout may lie where it may not. */
export function folderForRuns(t: Pick<Test, 'teardown'>): { folder: string; confine: string } {
  const folder = mkdtempSync(join(tmpdir(), 'tool-runner-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  chmodSync(folder, 0o711);
  const confine = join(folder, 'confine');
  copyFileSync(requireTool('confine'), confine);
  chmodSync(confine, 0o755);
  return { folder, confine };
}

/** A Node that the user of runs may start, too: the checkout's, unless it lies where that user may not go. */
function nodeForRuns(folder: string): string {
  const tried = spawnSync(process.execPath, ['--version'], { uid: 15000, gid: 15000, cwd: '/' });
  if (tried.status === 0) return process.execPath;
  const copy = join(folder, 'node');
  copyFileSync(process.execPath, copy);
  chmodSync(copy, 0o755);
  return copy;
}

/** Starts a runner and waits until its status listener answers, whether or not it is ready. */
export async function startToolRunner(
  t: Pick<Test, 'teardown'>,
  tools: object = {},
  env: Record<string, string> = {},
): Promise<ToolRunnerProcess> {
  const { folder, confine } = folderForRuns(t);
  const address = `127.0.0.1:${await freePort()}`;
  const status = `127.0.0.1:${await freePort()}`;
  const config = join(folder, 'tools.yaml');
  const settings = {
    helper: confine,
    status: { listen: status },
    workspaces: { path: join(folder, 'runs') },
    ...tools,
  };
  writeFileSync(config, stringify({ tools: settings }));
  const started = startProcess(t, nodeForRuns(folder), [join(root, 'agents/tools/agent.ts')], {
    env: { AGENT_LISTEN: address, TOOLS_CONFIG: config, ...env },
  });
  let exit: unknown;
  void started.ended.then((code) => {
    exit = code;
  });
  await waitUntil('the tool runner answers', async () => {
    if (exit !== undefined) return true;
    return (await fetch(`http://${status}/stats`).catch(() => undefined))?.ok === true;
  });
  if (exit !== undefined) throw new Error(`the tool runner ended with ${exit}:\n${started.logs()}`);
  return { ...started, address, status, folder };
}

/** A call of a tool: its arguments as an object. */
export interface Call {
  tool: string;
  args?: object;
  callId?: string;
  taskId?: string;
  timeoutMs?: number;
  metadata?: Record<string, string>;
}

const ToolClient = makeClientConstructor(toolsService, 'ToolRunner');

export class ToolRunnerClient {
  // biome-ignore lint/suspicious/noExplicitAny: a client made from a definition has the definition's methods
  private readonly client: any;

  constructor(t: Pick<Test, 'teardown'>, address: string, authority?: string) {
    const options = authority === undefined ? {} : { 'grpc.default_authority': authority };
    this.client = new ToolClient(address, credentials.createInsecure(), options);
    t.teardown(() => (this.client as Client).close());
  }

  list(): Promise<ToolList> {
    return new Promise((resolve, reject) =>
      this.client.List({}, (error: ServiceError | null, list: ToolList) =>
        error ? reject(error) : resolve(list),
      ),
    );
  }

  /** Rejects with the ServiceError. `cancelled` ends the call. */
  run(call: Call, cancelled?: Promise<unknown>): Promise<ToolResult> {
    return new Promise((resolve, reject) => {
      const running = this.client.Run(...requestOf(call), (error: ServiceError | null, result: ToolResult) =>
        error ? reject(error) : resolve(result),
      );
      void cancelled?.then(() => running.cancel());
    });
  }

  /** The ServiceError of a call that has to fail. */
  failure(call: Call, cancelled?: Promise<unknown>): Promise<ServiceError> {
    return this.run(call, cancelled).then(
      (result) => {
        throw new Error(`the call succeeded: ${result.call?.result}`);
      },
      (error: ServiceError) => error,
    );
  }

  async stream(call: Call): Promise<ToolEvent[]> {
    const events: ToolEvent[] = [];
    for await (const event of this.client.RunStream(...requestOf(call))) events.push(event);
    return events;
  }
}

function requestOf({ tool, args = {}, callId = '', taskId = '', timeoutMs = 60_000, metadata = {} }: Call) {
  const fields = new Metadata();
  for (const [name, value] of Object.entries(metadata)) fields.set(name, value);
  const request = { tool_name: tool, arguments: JSON.stringify(args), call_id: callId, task_id: taskId };
  return [request, fields, { deadline: Date.now() + timeoutMs }] as const;
}

/** The processes whose command line has this text, and begins with the other one. */
export function processesWith(text: string, start = ''): string[] {
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      const line = readFileSync(join('/proc', pid, 'cmdline'), 'utf8');
      return line.includes(text) && line.startsWith(start);
    } catch {
      return false;
    }
  });
}
