// Joining of small TLS records.
import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { seededRandom } from '../../test/support/seeded-random.ts';
import { joinRecords } from './joined-records.ts';

/** Makes a stream that behaves like a socket for its reader. */
function newSocket(): Socket {
  const socket = new Readable({ read() {} }) as Socket;
  joinRecords(socket);
  return socket;
}

t.test('all bytes arrive in order, whatever the sizes of records and the times of reads', async (t) => {
  for (let seed = 1; seed <= 60; seed++) {
    const random = seededRandom(seed);
    const socket = newSocket();
    const sent: Buffer[] = [];
    const got: Buffer[] = [];
    let ended = false;
    socket.on('data', (bytes: Buffer) => {
      if (random() < 0.1) {
        // Defer the read, as `parser-feed.ts` does when it has no time.
        socket.pause();
        socket.unshift(bytes);
      } else got.push(bytes);
    });
    socket.on('end', () => {
      ended = true;
    });
    let at = 0;
    for (let reads = 0; reads < 20; reads++) {
      const records = Math.ceil(random() * 200);
      for (let record = 0; record < records; record++) {
        const bytes = Buffer.alloc(random() < 0.02 ? 5_000 : Math.ceil(random() * 30));
        for (let index = 0; index < bytes.length; index++) bytes[index] = at++ % 251;
        sent.push(bytes);
        socket.push(bytes);
      }
      if (random() < 0.7) socket.resume();
      if (random() < 0.5) await turn();
    }
    socket.push(null);
    while (!ended) {
      socket.resume();
      await turn();
    }
    t.ok(Buffer.concat(sent).equals(Buffer.concat(got)), `seed ${seed}`);
  }
});

t.test('a waiting reader has few buffers for many records', async (t) => {
  const socket = newSocket();
  socket.pause();
  for (let record = 0; record < 10_000; record++) socket.push(Buffer.from('a'));
  await turn();
  let buffers = 0;
  let bytes = 0;
  socket.on('data', (part: Buffer) => {
    buffers++;
    bytes += part.length;
  });
  socket.resume();
  while (bytes < 10_000) await turn();
  t.ok(buffers <= 4, `${buffers} buffers`);
});

t.test('a few small records pass at once', async (t) => {
  const socket = newSocket();
  let got = 0;
  socket.on('data', () => got++);
  await turn();
  for (let record = 1; record <= 20; record++) {
    socket.push(Buffer.from('data: {}\n\n'));
    t.equal(got, record);
  }
});
