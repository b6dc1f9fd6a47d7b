// Answers as the request's metadata asks; see the suite's README.
import { createServer } from 'node:http2';
import { StringValueSchema } from '@bufbuild/protobuf/wkt';
import { ConnectError } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { Bytes, message, say } from './service.mjs';

/** What the metadata of a call asks for, and what every kind of call does with it. */
class Run {
  constructor(context) {
    const { requestHeader, signal, responseHeader, responseTrailer } = context;
    this.asked = requestHeader;
    this.signal = signal;
    this.code = Number(requestHeader.get('do-code') ?? 0);
    this.after = Number(requestHeader.get('do-after') ?? (this.code === 0 ? -1 : 0));
    const key = requestHeader.get('do-key');
    if (key !== null) {
      say(`${key} started`);
      signal.addEventListener('abort', () => !this.ended && say(`${key} cancelled`));
    }
    for (const [name, value] of requestHeader) {
      if (!name.startsWith('e-')) continue;
      if (this.after !== 0) responseHeader.set(name, value);
      responseTrailer.set(name, value);
    }
    if (requestHeader.has('do-deadline')) {
      const left = context.timeoutMs();
      responseTrailer.set('deadline', left === undefined ? 'none' : `${Math.floor(left)}`);
    }
  }

  async hang() {
    if (!this.asked.has('do-hang')) return;
    await new Promise((_, reject) => {
      this.signal.addEventListener('abort', () => reject(this.signal.reason), { once: true });
    });
  }

  end() {
    this.ended = true;
    if (this.asked.has('do-stop')) stop();
    if (this.code === 0) return;
    const asked = this.asked.get('do-details-bin');
    const details = asked === null ? [] : [{ desc: StringValueSchema, value: { value: asked } }];
    const text = decodeURIComponent(this.asked.get('do-message') ?? '');
    throw new ConnectError(text, this.code, undefined, details);
  }
}

const implementation = {
  async unary(request, context) {
    const run = new Run(context);
    await run.hang();
    run.end();
    return request;
  },
  async clientStream(requests, context) {
    const run = new Run(context);
    let received = 0;
    let total = 0;
    if (run.after !== 0) {
      for await (const { data } of requests) {
        total += data.length;
        if (++received === run.after) break;
      }
    }
    run.end();
    return message(total);
  },
  async *serverStream(request, context) {
    const run = new Run(context);
    const count = Number(run.asked.get('do-count') ?? 0);
    for (let sent = 0; sent < count && sent !== run.after; sent += 1) yield request;
    run.end();
  },
  async *bidiStream(requests, context) {
    const run = new Run(context);
    const late = [];
    let sent = 0;
    if (run.after !== 0) {
      for await (const request of requests) {
        if (run.asked.has('do-late')) late.push(request);
        else yield request;
        if (++sent === run.after) break;
      }
    }
    yield* late;
    run.end();
  },
};

const sessions = new Set();
const server = createServer(
  connectNodeAdapter({ routes: (router) => router.service(Bytes, implementation) }),
);
/** Those whose answers have not ended. Streams whose requests nobody reads to their end close only with their connection. */
const answering = new Set();
server.on('session', (session) => {
  sessions.add(session);
  session.on('close', () => sessions.delete(session));
  session.on('stream', (stream) => {
    answering.add(stream);
    for (const event of ['finish', 'close']) stream.on(event, () => answering.delete(stream));
  });
});

/** Nothing new is accepted; the process ends with the last answer. */
function stop() {
  server.close();
  for (const session of sessions) session.goaway();
  setInterval(() => answering.size === 0 && process.exit(0), 100);
}

export function runServer(port) {
  server.listen(port, '127.0.0.1', () => say('listening'));
}
