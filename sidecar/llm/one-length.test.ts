// Lengths that a provider gives twice, however its head comes in pieces.
import { EventEmitter } from 'node:events';
import type { Socket } from 'node:net';
import t from 'tap';
import { mendLengths } from './one-length.ts';

/** What the parser gets of these bytes, in pieces of this size. */
function parsed(bytes: string, size: number): { text: string; isWrapped: boolean } {
  const socket = new EventEmitter();
  let text = '';
  const parse = (piece: Buffer): void => {
    text += piece.toString('latin1');
  };
  socket.on('data', parse);
  mendLengths(socket as unknown as Socket);
  for (let at = 0; at < bytes.length; at += size)
    socket.emit('data', Buffer.from(bytes.slice(at, at + size), 'latin1'));
  return { text, isWrapped: socket.rawListeners('data')[0] !== parse };
}

const body = 'content-length: 2\r\ncontent-length: 2\r\n\r\n\xff\0';

t.test('the second of two lengths is left out, and no other byte', async (t) => {
  for (const [head, mended] of [
    [
      'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: 1\r\ncontent-length:2\r\n\r\n',
      'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: 1\r\n\r\n',
    ],
    ['HTTP/1.1 200 OK\ncontent-length: 2\ncontent-length: 2\n\n', 'HTTP/1.1 200 OK\ncontent-length: 2\n\n'],
    ['HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\n', 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n'],
    [
      'HTTP/1.1 103 Early\r\ncontent-length: 2\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\n',
      'HTTP/1.1 103 Early\r\ncontent-length: 2\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n',
    ],
    ['HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n', undefined],
    ['HTTP/1.1 200 OK\r\ncontent-length: 2, 3\r\n\r\n', undefined],
    ['HTTP/1.1 200 OK\r\ncontent: 1\r\nc: 2\r\ncontent-lengthy: 2\r\ncontent-lengthy: 2\r\n\r\n', undefined],
    ['HTTP/1.1 200 OK\r\n\r\n', undefined],
  ] as const)
    for (const size of [1, 2, 3, 7, 19, 10_000])
      t.strictSame(
        parsed(head + body, size),
        { text: (mended ?? head) + body, isWrapped: false },
        `${JSON.stringify(head)}, ${size} bytes at a time`,
      );
});

t.test('what is no head passes at once', async (t) => {
  for (const bytes of ['SSH-2.0-OpenSSH_9.6\r\n', 'HTTP/1.1 200 OK\r\nx: 1', '\0\0\0\x04'])
    t.equal(parsed(bytes, 5).text, bytes);
  t.notOk(parsed('x'.repeat(200_000), 65_536).isWrapped, 'and nothing is looked for in much of it');
});
