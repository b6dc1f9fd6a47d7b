// A pass-through on the streams of node:http2, as one would write it: `node bench/world/peers/node-http2.ts PORT UPSTREAM_PORT`.
// No policies, no metrics; what a sidecar would begin with that did not relay frames itself.
import {
  type ClientHttp2Session,
  connect,
  createServer,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
  type ServerHttp2Session,
} from 'node:http2';

const [port, upstreamPort] = process.argv.slice(2).map(Number);
const initialWindowSize = 1 << 20;

const server = createServer({ settings: { maxConcurrentStreams: 1_000, initialWindowSize } });
const upstreams = new WeakMap<ServerHttp2Session, ClientHttp2Session>();

server.on('session', (session) => {
  // One for each caller's, so that there are always streams enough.
  const upstream = connect(`http://127.0.0.1:${upstreamPort}`, { settings: { initialWindowSize } });
  upstream.on('error', () => session.destroy());
  session.on('error', () => {});
  session.on('close', () => upstream.close());
  upstreams.set(session, upstream);
});

server.on('stream', (stream, headers: IncomingHttpHeaders) => {
  const request = upstreams
    .get(stream.session as ServerHttp2Session)!
    .request(headers as OutgoingHttpHeaders);
  let trailers: IncomingHttpHeaders = {};
  stream.pipe(request);
  request.on('response', (answer, flags) => {
    const endStream = (flags & 1) !== 0;
    stream.respond(answer as OutgoingHttpHeaders, { waitForTrailers: !endStream, endStream });
    if (endStream) return;
    stream.on('wantTrailers', () => stream.sendTrailers(withoutPseudo(trailers)));
    request.pipe(stream);
  });
  request.on('trailers', (answer) => {
    trailers = answer;
  });
  request.on('error', () => stream.close());
  stream.on('error', () => request.close());
  stream.on('aborted', () => request.close());
});

function withoutPseudo(headers: IncomingHttpHeaders): OutgoingHttpHeaders {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !name.startsWith(':')));
}

server.listen(port, '127.0.0.1');
