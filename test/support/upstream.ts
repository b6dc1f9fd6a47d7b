// A gRPC server on node:http2 that keeps what it was sent and does to its answer whatever a test wants.
import {
  createServer,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { AddressInfo } from 'node:net';
import type { Test } from 'tap';
import { stringField } from '../../sidecar/task/protobuf.ts';

export interface SeenCall {
  readonly headers: IncomingHttpHeaders;
  readonly stream: ServerHttp2Stream;
  /** What has come of the request, gRPC's prefixes included. */
  body: Buffer;
  /** The caller has said END_STREAM. */
  complete: boolean;
  /** How the stream ended, once it has: the RST_STREAM code, 0 for an orderly end. */
  closedWith: number | undefined;
}

export interface Upstream {
  readonly port: number;
  readonly address: string;
  readonly calls: readonly SeenCall[];
  readonly sessions: ReadonlySet<ServerHttp2Session>;
  /** Ends it as a process does that is killed: its port refuses connections from then on. */
  stop(): Promise<void>;
}

/** A message with gRPC's prefix. */
export function grpcFrame(message: Buffer | string): Buffer {
  const bytes = Buffer.from(message);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([prefix, bytes]);
}

/** The bytes of an `agent.TaskRequest`; fields that are absent are left out. */
export function taskRequest(task: { id?: string; type?: string; input?: string }): Buffer {
  const fields = [
    task.id === undefined ? Buffer.alloc(0) : stringField(1, task.id),
    task.type === undefined ? Buffer.alloc(0) : stringField(3, task.type),
    task.input === undefined ? Buffer.alloc(0) : stringField(4, task.input),
  ];
  return Buffer.concat(fields);
}

/** Ends a call with one message and OK. */
export function answerWith(stream: ServerHttp2Stream, message: Buffer | string): void {
  if (stream.destroyed) return;
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
  stream.end(grpcFrame(message));
}

/**
 * Starts the server; it ends with the test. `onCall` is asked as soon as the head of a call is there; without one the
 * server answers with `name` when the request is complete. It has no health service unless `health` is set: then
 * calls of it are calls as all others. With `sidecar` it says of itself that it is one, so that its reasons count.
 */
export async function startUpstream(
  t: Pick<Test, 'teardown'>,
  {
    name = 'upstream',
    port = 0,
    health = false,
    sidecar = false,
    onCall,
  }: {
    name?: string;
    port?: number;
    health?: boolean;
    sidecar?: boolean;
    onCall?: (call: SeenCall) => void;
  } = {},
): Promise<Upstream> {
  const calls: SeenCall[] = [];
  const sessions = new Set<ServerHttp2Session>();
  const server = createServer(sidecar ? { settings: { customSettings: { 61607: 1 } } } : {});
  server.on('session', (session) => {
    sessions.add(session);
    session.on('close', () => sessions.delete(session));
    session.on('error', () => {});
  });
  server.on('stream', (stream, headers) => {
    if (!health && headers[':path']?.startsWith('/grpc.health.v1.')) {
      stream.respond({ ':status': 200, 'grpc-status': '12' }, { endStream: true });
      return;
    }
    const call: SeenCall = { headers, stream, body: Buffer.alloc(0), complete: false, closedWith: undefined };
    calls.push(call);
    stream.on('data', (chunk: Buffer) => {
      call.body = Buffer.concat([call.body, chunk]);
    });
    stream.on('end', () => {
      call.complete = !stream.aborted;
      if (onCall === undefined) answerWith(stream, name);
    });
    stream.on('error', () => {});
    stream.on('close', () => {
      call.closedWith = stream.rstCode;
    });
    onCall?.(call);
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  const stop = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      for (const session of sessions) session.destroy();
    });
  t.teardown(stop);
  const bound = (server.address() as AddressInfo).port;
  return { port: bound, address: `127.0.0.1:${bound}`, calls, sessions, stop };
}
