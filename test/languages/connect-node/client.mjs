// Makes the calls that the suite asks for.
import { createInterface } from 'node:readline';
import { crc32 } from 'node:zlib';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createWritableIterable } from '@connectrpc/connect/protocol';
import { compressionGzip, createGrpcTransport } from '@connectrpc/connect-node';
import { Bytes, fields, message, put, say } from './service.mjs';

const methods = { unary: 'unary', client: 'clientStream', server: 'serverStream', bidi: 'bidiStream' };

export function runClient(port) {
  const baseUrl = `http://127.0.0.1:${port}`;
  const client = createClient(Bytes, createGrpcTransport({ baseUrl }));
  const zipping = createGrpcTransport({ baseUrl, sendCompression: compressionGzip, compressMinBytes: 0 });
  const gzip = createClient(Bytes, zipping);
  const holds = new Map();
  createInterface({ input: process.stdin }).on('line', (line) => {
    const words = line.split(' ');
    if (words[0] === 'go') return holds.get(words[1])();
    const held = new Promise((resolve) => holds.set(words[0], resolve));
    const { asked, headers } = parse(words.slice(2));
    void make(asked.gzip ? gzip : client, words[0], words[1], asked, headers, held);
  });
}

function parse(words) {
  const asked = {};
  const headers = new Headers();
  for (const word of words) {
    const at = word.indexOf('=');
    const name = word.slice(0, at);
    const value = decodeURIComponent(word.slice(at + 1));
    if (name.startsWith('m.')) put(headers, name.slice(2), value);
    else asked[name] = value;
  }
  return { asked, headers };
}

async function make(client, id, kind, asked, headers, held) {
  const abort = new AbortController();
  const sizes = [];
  let crc = 0;
  let initial;
  let trailing;
  let over = false;
  let end = { code: 0, message: '' };
  const options = {
    headers,
    signal: abort.signal,
    onHeader: (received) => {
      initial = received;
    },
    onTrailer: (received) => {
      trailing = received;
    },
    ...(asked.deadline ? { timeoutMs: Number(asked.deadline) } : {}),
  };
  const hold = async () => {
    say(`${id} held`);
    await held;
    if (!asked.cancel) return;
    over = true;
    abort.abort();
  };
  const got = async ({ data }) => {
    sizes.push(data.length);
    crc = crc32(data, crc);
    if (sizes.length === Number(asked.hold ?? -1)) await hold();
  };
  const wanted = (asked.send ?? '').split(',').filter((size) => size !== '');
  const streams = kind === 'client' || kind === 'bidi';
  const requests = createWritableIterable();
  let finish;
  const finished = new Promise((resolve) => {
    finish = resolve;
  });
  const answers = (async function* () {
    const call = client[methods[kind]];
    const request = streams ? requests : message(Number(wanted[0]));
    if (kind === 'unary' || kind === 'client') yield await call(request, options);
    else yield* call(request, options);
  })();
  const receive = async () => {
    try {
      const { value, done } = await answers.next();
      if (!done) await got(value);
      else over = true;
      return !done;
    } catch (error) {
      const failure = ConnectError.from(error);
      end = { code: failure.code, message: failure.rawMessage };
      if (failure.code === Code.Canceled && !asked.cancel && error.cause) end.message += ` ${error.cause}`;
      trailing ??= failure.metadata;
      for (const detail of failure.details)
        trailing.append('details-bin', Buffer.from(detail.value).toString('base64'));
      over = true;
      return false;
    } finally {
      if (over) {
        requests.close();
        finish();
      }
    }
  };
  try {
    // One answer is awaited while requests go out; more are read when it is their turn.
    const first = kind === 'bidi' ? undefined : receive();
    let pending = first;
    let pulled;
    if (streams) {
      for (const size of wanted) {
        // A stream of answers begins with the first read.
        if (kind === 'bidi' && asked.turns) pulled = receive();
        if (kind === 'bidi' && !asked.turns) pending ??= receive();
        if (over) break;
        // After an early end nobody takes it any more.
        await Promise.race([requests.write(message(Number(size))).catch(() => undefined), finished]);
        if (pulled !== undefined && !(await pulled)) break;
        pulled = undefined;
      }
      requests.close();
    }
    if (asked.hold === '0') await hold();
    if (pulled !== undefined) await pulled;
    if (pending !== undefined) await pending;
    while (!over && (await receive()));
  } catch (error) {
    end = { code: 'client', message: `${error}` };
  }
  say(
    `${id} end code=${end.code} message=${encodeURIComponent(end.message)} sizes=${sizes.join(',')} crc=${crc}` +
      `${fields('i', initial)}${fields('t', trailing)}`,
  );
}
