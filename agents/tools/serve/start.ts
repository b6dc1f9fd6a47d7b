/** Puts the tool runner together: attacks the sandbox, and serves. */
import { chmodSync, mkdirSync } from 'node:fs';
import type { Logger } from 'pino';
import type { Environment } from '../../process/environment.ts';
import { toolsService, toolsServiceName } from '../../protocol/definitions.ts';
import { startAgentServer } from '../../runtime/server.ts';
import type { RuntimeSettings } from '../../runtime/settings.ts';
import { RunCounts } from '../run/run-counts.ts';
import { Runner } from '../run/runner.ts';
import { attackSandbox, type Proof } from '../sandbox/self-attack.ts';
import type { ToolsSettings } from '../settings/settings.ts';
import { startStatusServer } from './status-server.ts';
import { toolService } from './tool-service.ts';
import { toolsAgent } from './tools-agent.ts';

export interface RunningToolRunner {
  /** Of gRPC. */
  readonly address: string;
  /** Of the status listener; undefined where it is turned off. */
  readonly status: string | undefined;
  /** Of MCP; undefined where it is turned off. */
  readonly mcp: string | undefined;
  readonly proof: Proof;
  /** Why it is not ready. */
  readonly problem: string | undefined;
  /** As `AgentServer.stop`. */
  stop(limitMs: number): Promise<boolean>;
}

/** @throws SettingError; Error if an address can't be bound, or the folder can't be made */
export async function startToolRunner(
  settings: RuntimeSettings,
  tools: ToolsSettings,
  log: Logger,
  environment: Environment,
): Promise<RunningToolRunner> {
  const folder = tools.workspaces.path;
  mkdirSync(folder, { recursive: true });
  // The user of runs passes through it, and lists nothing.
  chmodSync(folder, 0o711);
  const programs = { confine: tools.helper, bubblewrap: tools.bubblewrap };
  const proof = await attackSandbox(programs, folder);
  const counts = new RunCounts();
  const runner = new Runner(tools, proof, counts);
  const mcp = await startMcp(tools, environment, runner, log);
  const server = await startAgentServer(toolsAgent(runner), settings, log, {
    services: [toolsServiceName],
    problem: () => runner.problem,
    checks: () => ({ sandbox: proof.tier }),
    implement: (stopping) => [
      {
        name: toolsServiceName,
        definition: toolsService,
        implementation: toolService({ runner, log, stopping }),
      },
    ],
  });
  const status =
    tools.status.listen === null ? undefined : await startStatusServer(tools.status.listen, runner, counts);
  return {
    address: server.address,
    status: status?.address,
    mcp: mcp?.address,
    proof,
    problem: runner.problem,
    async stop(limitMs) {
      const finished = await Promise.all([server.stop(limitMs), mcp?.stop(limitMs) ?? true]);
      status?.close();
      runner.close();
      return finished.every(Boolean);
    },
  };
}

/** Its libraries are loaded only where it is turned on. */
async function startMcp({ mcp }: ToolsSettings, environment: Environment, runner: Runner, log: Logger) {
  const { listen } = mcp;
  if (listen === null) return undefined;
  const { startMcpListener } = await import('../mcp/listener.ts');
  return startMcpListener({ ...mcp, listen }, environment, runner, log);
}
