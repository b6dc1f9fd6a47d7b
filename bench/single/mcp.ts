// `node bench/single/mcp.ts [CALLS]`: what the sidecar adds to a call of a tool: the same calls of an official server, directly and
// through a sidecar, in turns. The bar: at most 0.5 ms more at the median. On a busy machine the sidecar's CPU time says more.
import { readFileSync } from 'node:fs';
import { Agent, createServer, request as httpRequest } from 'node:http';
import type { AddressInfo } from 'node:net';
import { toNodeHandler } from '@modelcontextprotocol/node';
import { createMcpHandler, Server } from '@modelcontextprotocol/server';
import { freePort } from '../../scripts/harness/free-port.ts';
import { startSidecar } from '../../scripts/harness/sidecar.ts';

const CALLS = Number(process.argv[2] ?? 3_000);
const WARM_UP = 300;
const REVISION = '2026-07-28';

const ends: (() => unknown)[] = [];
const owner = { teardown: (end: () => unknown) => void ends.unshift(end) };

async function startServer(): Promise<string> {
  const handler = createMcpHandler(
    () => {
      const server = new Server({ name: 'bench', version: '1.0.0' }, { capabilities: { tools: {} } });
      server.setRequestHandler('tools/list', () => ({ tools: [] }));
      server.setRequestHandler('tools/call', () => ({ content: [{ type: 'text', text: 'done' }] }));
      return server;
    },
    { responseMode: 'json' },
  );
  const serve = toNodeHandler(handler);
  const server = createServer(
    (request, response) => void serve(request as Parameters<typeof serve>[0], response),
  );
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  owner.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`;
}

class Subject {
  readonly took: number[] = [];
  private readonly url: string;
  private readonly agent = new Agent({ keepAlive: true, maxSockets: 1 });

  constructor(url: string) {
    this.url = url;
    owner.teardown(() => this.agent.destroy());
  }

  async call(id: number, counts: boolean): Promise<void> {
    const meta = {
      'io.modelcontextprotocol/protocolVersion': REVISION,
      'io.modelcontextprotocol/clientInfo': { name: 'bench', version: '1.0.0' },
      'io.modelcontextprotocol/clientCapabilities': {},
    };
    const params = { name: 'write', arguments: { id, text: 'word '.repeat(20) }, _meta: meta };
    const body = JSON.stringify({ jsonrpc: '2.0', id, method: 'tools/call', params });
    const startedMs = performance.now();
    const text = await new Promise<string>((resolve, reject) => {
      const request = httpRequest(
        this.url,
        {
          method: 'POST',
          agent: this.agent,
          headers: {
            'content-type': 'application/json',
            accept: 'application/json, text/event-stream',
            'mcp-protocol-version': REVISION,
            'mcp-method': 'tools/call',
            'mcp-name': 'write',
          },
        },
        (response) => {
          let all = '';
          response.setEncoding('utf8');
          response.on('data', (chunk: string) => (all += chunk));
          response.on('end', () => resolve(all));
        },
      );
      request.on('error', reject);
      request.end(body);
    });
    const tookMs = performance.now() - startedMs;
    if (!text.includes('"done"')) throw new Error(`the call was answered with ${text.slice(0, 300)}`);
    if (counts) this.took.push(tookMs);
  }

  at(percent: number): number {
    const sorted = this.took.toSorted((a, b) => a - b);
    return sorted[Math.floor((sorted.length * percent) / 100)]!;
  }
}

/** User and system time of a process, in steps of 10 ms (proc(5), `stat`). */
function cpuMsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

try {
  const url = await startServer();
  const listen = `127.0.0.1:${await freePort()}`;
  const sidecar = await startSidecar(
    owner,
    { mcp: { listen, servers: { bench: { url } } } },
    { until: 'live' },
  );
  const direct = new Subject(url);
  const through = new Subject(`http://${listen}/mcp/bench`);
  let cpuMs = 0;
  for (let id = 1; id <= WARM_UP + CALLS; id++) {
    if (id === WARM_UP + 1) cpuMs = cpuMsOf(sidecar.pid);
    for (const subject of id % 2 === 0 ? [direct, through] : [through, direct])
      await subject.call(id, id > WARM_UP);
  }
  cpuMs = cpuMsOf(sidecar.pid) - cpuMs;
  console.log(`${CALLS} calls of a tool, in turns       p50        p99`);
  for (const [name, one] of Object.entries({ directly: direct, 'through a sidecar': through }))
    console.log(`${name.padEnd(32)} ${one.at(50).toFixed(3)} ms   ${one.at(99).toFixed(3)} ms`);
  console.log(
    `added                            ${(through.at(50) - direct.at(50)).toFixed(3)} ms (bar: 0.5 ms)`,
  );
  console.log(`CPU time of the sidecar           ${(cpuMs / CALLS).toFixed(3)} ms a call`);
} finally {
  for (const end of ends) await end();
}
