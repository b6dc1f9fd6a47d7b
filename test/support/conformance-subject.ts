// What the conformance runner starts in its subject's place: it starts the subject and puts sidecars between the
// two. The runner hears the sidecar's port as the server's; each of its requests names the sidecar's port to a client.
//
//     node conformance-subject.ts server|client inbound|outbound|both SUBJECT
//
// The runner and its subjects exchange protobuf messages on standard input and output, four bytes of length before each.
import { spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { freePort } from '../../scripts/harness/free-port.ts';
import { startSidecar } from '../../scripts/harness/sidecar.ts';

const [role, way, subject = ''] = process.argv.slice(2);

/** The number of the field `port`: in ServerCompatResponse, and in ClientCompatRequest. */
const portField = role === 'server' ? 2 : 7;

const teardowns: (() => unknown)[] = [];
const lifetime = { teardown: (end: () => unknown): void => void teardowns.push(end) };

/** The suite provokes failure upon failure, after which these policies would refuse calls, as they should. */
const policies = {
  circuit_breaker: { consecutive_failures: 0, failure_percent: 0 },
  outlier_detection: { consecutive_failures: 0 },
};

async function startOutbound(target: string): Promise<number> {
  const routes = [{ match: { path_prefix: '/' }, cluster: 'upstream' }];
  const clusters = { upstream: { endpoints: [target], ...policies } };
  return (await startSidecar(lifetime, { outbound: { routes, clusters } }, { until: 'live' })).outboundPort;
}

async function startInbound(app: string, port: number): Promise<number> {
  const inbound = { app, listen: `127.0.0.1:${port}` };
  return (await startSidecar(lifetime, { inbound }, { until: 'live' })).inboundPort;
}

/** Starts the sidecars before this port and gives the port to use instead. */
async function startBefore(port: number): Promise<number> {
  const app = `127.0.0.1:${port}`;
  if (way === 'outbound') return startOutbound(app);
  const between = await freePort();
  const ports = [startInbound(app, between)];
  // Side by side: the runner gives a server ten seconds to start.
  if (way === 'both') ports.unshift(startOutbound(`127.0.0.1:${between}`));
  return (await Promise.all(ports))[0]!;
}

async function* messagesOf(stream: Readable): AsyncGenerator<Buffer> {
  let waiting: Buffer = Buffer.alloc(0);
  for await (const chunk of stream) {
    waiting = Buffer.concat([waiting, chunk as Buffer]);
    while (waiting.length >= 4 && waiting.length >= 4 + waiting.readUInt32BE()) {
      const end = 4 + waiting.readUInt32BE();
      yield waiting.subarray(4, end);
      waiting = waiting.subarray(end);
    }
  }
}

function varint(bytes: Buffer, at: number): { value: number; next: number } {
  let value = 0;
  let next = at;
  for (let scale = 1; ; scale *= 128) {
    const byte = bytes[next++] ?? 0;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return { value, next };
  }
}

function portOf(message: Buffer): number {
  let port = 0;
  for (let at = 0; at < message.length; ) {
    const tag = varint(message, at);
    const { value, next } = varint(message, tag.next);
    if (tag.value === portField * 8) port = value;
    at = tag.value % 8 === 2 ? next + value : next;
  }
  return port;
}

/** The message with another port behind it: the last value of a field counts. */
function withPort(message: Buffer, port: number): Buffer {
  const field = Buffer.from([portField * 8, (port & 0x7f) | 0x80, ((port >> 7) & 0x7f) | 0x80, port >> 14]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(message.length + field.length);
  return Buffer.concat([length, message, field]);
}

// The runner that was killed ends nobody; what it has started must not outlive it.
const runner = process.ppid;
setInterval(() => process.ppid !== runner && process.exit(1), 1_000).unref();

const child = spawn(subject, {
  stdio: role === 'server' ? ['inherit', 'pipe', 'inherit'] : ['pipe', 'inherit', 'inherit'],
});
process.once('exit', () => child.kill('SIGKILL'));
const ended = new Promise<number>((resolve) => {
  child.once('error', (error) => {
    console.error(`${subject} can't be started: ${error.message}`);
    resolve(127);
  });
  child.once('close', (code) => resolve(code ?? 1));
});

const [from, to] = role === 'server' ? [child.stdout, process.stdout] : [process.stdin, child.stdin];
if (from === null || to === null) throw new Error(`the role is server or client, not ${role}`);
const sidecars = new Map<number, Promise<number>>();
for await (const message of messagesOf(from)) {
  const port = portOf(message);
  const started = sidecars.get(port) ?? startBefore(port);
  sidecars.set(port, started);
  to.write(withPort(message, await started));
}
if (role === 'client') to.end();
process.exitCode = await ended;
for (const end of teardowns) await end();
