/** The status listener: metrics, the sandbox's proof as JSON, and readiness. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import { Counter, Gauge, Registry } from 'prom-client';
import type { RunCounts } from '../run/run-counts.ts';
import type { Runner } from '../run/runner.ts';
import { tiers } from '../sandbox/tiers.ts';

export interface StatusServer {
  readonly address: string;
  close(): void;
}

/** @throws Error if the address can't be bound */
export async function startStatusServer(
  listen: string,
  runner: Runner,
  counts: RunCounts,
): Promise<StatusServer> {
  const registry = registryOf(runner, counts);
  const server = createServer({ maxHeaderSize: 16_384, requestTimeout: 5_000 }, (request, response) => {
    const send = (status: number, type: string, body: string) => {
      response.writeHead(status, { 'content-type': type, 'cache-control': 'no-store' });
      response.end(request.method === 'HEAD' ? undefined : body);
    };
    if (request.method !== 'GET' && request.method !== 'HEAD') return send(405, 'text/plain', 'only GET\n');
    switch (request.url?.split('?')[0]) {
      case '/metrics':
        return void registry.metrics().then((text) => send(200, registry.contentType, text));
      case '/stats':
        return send(200, 'application/json', `${JSON.stringify(statsOf(runner, counts), null, 2)}\n`);
      case '/healthz/ready':
        if (runner.problem === undefined) return send(200, 'text/plain', 'ready\n');
        return send(503, 'text/plain', `${runner.problem}\n`);
      default:
        return send(404, 'text/plain', 'there are /metrics, /stats and /healthz/ready\n');
    }
  });
  const at = listen.lastIndexOf(':');
  server.listen(Number(listen.slice(at + 1)), listen.slice(0, at).replace(/^\[|\]$/g, ''));
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  return {
    address: `${listen.slice(0, at)}:${port}`,
    close: () => {
      server.close();
      server.closeAllConnections();
    },
  };
}

function statsOf({ proof, settings, catalogue, problem }: Runner, counts: RunCounts): object {
  const { programs, ...sandbox } = proof;
  return {
    ready: problem === undefined,
    ...(problem === undefined ? {} : { problem }),
    has_proc: programs.withoutProc !== true,
    sandbox: { ...sandbox, minimum: settings.minimum },
    tools: catalogue.tools.map(({ name }) => name),
    runs: counts.list(),
  };
}

function registryOf(runner: Runner, counts: RunCounts): Registry {
  const registry = new Registry();
  const runs = new Counter({
    name: 'outrigger_tool_runs_total',
    help: 'Runs of tools, by tool and outcome.',
    labelNames: ['tool', 'outcome'],
    registers: [registry],
    collect() {
      this.reset();
      for (const { tool, outcome, runs: number } of counts.list()) this.inc({ tool, outcome }, number);
    },
  });
  const tier = new Gauge({
    name: 'outrigger_tool_sandbox_tier',
    help: 'The tier of the sandbox that holds what it promises: 1 at that tier, 0 at the others.',
    labelNames: ['tier'],
    registers: [registry],
  });
  for (const name of ['none', ...tiers]) tier.set({ tier: name }, name === runner.proof.tier ? 1 : 0);
  void runs;
  return registry;
}
