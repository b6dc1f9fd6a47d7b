// What stands for a pod: an HTTP/2 server that answers every call alike, and counts them.
import http2 from 'node:http2';
import type { Test } from 'tap';
import { freePort } from '../../scripts/harness/free-port.ts';

/** A gRPC message of no bytes. */
export const EMPTY_MESSAGE = Buffer.alloc(5);

export interface Pod {
  readonly port: number;
  readonly calls: () => number;
}

/** A pod that answers every call with this status: without a message, as servers refuse, or in trailers behind one. */
export async function startPod(
  t: Test,
  status: number,
  where: 'headers' | 'trailers' = 'headers',
): Promise<Pod> {
  let calls = 0;
  const server = http2.createServer();
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on('session', (session) => sessions.add(session));
  server.on('stream', (stream) => {
    calls++;
    stream.on('error', () => {});
    stream.resume();
    const head = { ':status': 200, 'content-type': 'application/grpc' };
    const end = { 'grpc-status': String(status) };
    if (where === 'headers') {
      stream.respond({ ...head, ...end }, { endStream: true });
      return;
    }
    stream.on('wantTrailers', () => stream.sendTrailers(end));
    stream.respond(head, { waitForTrailers: true });
    stream.end(EMPTY_MESSAGE);
  });
  const port = await freePort();
  await new Promise<void>((resolve) => server.listen(port, '0.0.0.0', resolve));
  t.teardown(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  return { port, calls: () => calls };
}
