// Lengths that a provider gives twice, however its head comes in pieces.
import t from 'tap';
import { Heads } from './one-length.ts';

/** What the parser gets of these bytes, in pieces of this size. */
function parsed(bytes: string, size: number): { text: string; isOver: boolean; isEndless: boolean } {
  const heads = new Heads();
  let text = '';
  for (let at = 0; at < bytes.length; at += size) {
    const piece = Buffer.from(bytes.slice(at, at + size), 'latin1');
    text += (heads.isOver ? piece : heads.push(piece)).toString('latin1');
  }
  return { text, isOver: heads.isOver, isEndless: heads.isEndless };
}

const body = 'content-length: 2\r\ncontent-length: 2\r\n\r\n\xff\0';

t.test('the second of two equal lengths is left out, and no other byte', async (t) => {
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
        { text: (mended ?? head) + body, isOver: true, isEndless: false },
        `${JSON.stringify(head)}, ${size} bytes at a time`,
      );
});

t.test('bytes that are no head pass at once', async (t) => {
  for (const bytes of ['SSH-2.0-OpenSSH_9.6\r\n', 'HTTP/1.1 200 OK\r\nx: 1', '\0\0\0\x04'])
    t.equal(parsed(bytes, 5).text, bytes);
  const { isOver, isEndless } = parsed('x'.repeat(200_000), 65_536);
  t.ok(isOver && isEndless, 'and nothing is looked for in much of it');
});
