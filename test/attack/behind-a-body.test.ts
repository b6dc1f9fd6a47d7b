// Requests that follow a body in chunks in one piece with its end: larger pieces are parsed of a body, so that it costs
// little, and hundreds of small requests fit into one.
import { createServer, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import t, { type Test } from 'tap';
import { sentAhead } from '../../agents/gateway/connections.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { SentAhead } from '../../sidecar/node/sent-ahead.ts';

const AHEAD = 200;
/** So many of the shortest requests are in a piece of 512 bytes; each server lets some more wait. */
const OF_A_PIECE = 19;

interface Begun {
  readonly most: number;
  readonly all: number;
}

/** Answers when no more requests have begun for a turn of the event loop, one at a time. */
async function mostAtOnce(t: Test, server: Server, bytes: string): Promise<Begun> {
  const waiting: ServerResponse[] = [];
  let most = 0;
  let all = 0;
  server.on('request', (request, response) => {
    all++;
    request.resume();
    waiting.push(response);
    most = Math.max(most, waiting.length);
    setImmediate(() => waiting.shift()?.end());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const socket = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1' });
  t.teardown(() => {
    socket.destroy();
    server.close();
    server.closeAllConnections();
  });
  let closed = false;
  socket.on('error', () => {}).resume();
  socket.on('close', () => {
    closed = true;
  });
  socket.write(bytes);
  await waitUntil('all have been answered', () => closed || (all === 1 + AHEAD && waiting.length === 0));
  return { most, all };
}

const SMALL = 'GET /a HTTP/1.1\r\nhost:a\r\n\r\n';
const HEAD = 'POST / HTTP/1.1\r\nhost:a\r\ntransfer-encoding: chunked\r\n\r\n';
const chunk = `400\r\n${'b'.repeat(1_024)}\r\n`;

for (const [name, last] of Object.entries({
  'an end as usual': '0\r\n\r\n',
  'an end with an extension and a trailer': '000;a=b\r\nx-trailer: a\r\n\r\n',
  // The empty line is cut in two by pieces of 4 KB.
  ...Object.fromEntries(
    [1, 2, 3, 4].map((more) => [`${more} bytes more`, `${more}\r\n${'b'.repeat(more)}\r\n0\r\n\r\n`]),
  ),
})) {
  const bytes = HEAD + chunk.repeat(20) + last + SMALL.repeat(AHEAD);
  t.test(`the sidecar's servers withstand input after a body with ${name}`, async (t) => {
    const server = createServer();
    SentAhead.on(server, 'connection', { maxRequests: 4, above: 'wait' });
    const { most, all } = await mostAtOnce(t, server, bytes);
    t.equal(all, 1 + AHEAD);
    t.ok(most <= 4 + OF_A_PIECE, `${most} begun at once`);
  });
  t.test(`the gateway's server withstands input after a body with ${name}`, async (t) => {
    const server = createServer();
    SentAhead.on(server, 'connection', sentAhead);
    const { most } = await mostAtOnce(t, server, bytes);
    t.ok(most <= 16 + OF_A_PIECE, `${most} begun at once`);
  });
}
