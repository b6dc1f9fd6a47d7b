// Measures what a connection pays for keeping what it has written, so that its streams can be resumed, without sockets.
import { Socket } from 'node:net';
import { ListNode } from '../../sidecar/collections/linked-list.ts';
import { FrameType } from '../../sidecar/http2/frame.ts';
import type { StreamConnection } from '../../sidecar/http2/streams.ts';
import { FrameWriter } from '../../sidecar/http2/writer.ts';
import { type CarriedStream, Carrier } from '../../sidecar/proxy/carrier.ts';
import { SentBytes } from '../../sidecar/proxy/sent-bytes.ts';
import { measure } from './measure.ts';

/** As words of a model are. */
const CHUNK_BYTES = 36;
/** What is on the way, until the peer gives it back. */
const ON_THE_WAY_BYTES = 262_144;
const STREAMS = 100;

/** A socket that takes everything, as the kernel does: by a copy. */
class Sink extends Socket {
  private readonly kernel = Buffer.alloc(262_144);

  override write(bytes: unknown): boolean {
    (bytes as Buffer).copy(this.kernel);
    return true;
  }
}

const room = { take: () => true, give() {} };

class Stream extends ListNode<Stream> implements CarriedStream<Stream> {
  readonly streamId = 1;
  readonly isOver = false;
  readonly sent = new SentBytes(undefined as never, room);
  endAtBytes = -1;
  giveUp(): void {}
}

/** @returns a write of so many chunks, by a connection that keeps it for its streams or does not */
function writes(chunks: number, keeps: boolean): () => number {
  const writer = new FrameWriter(new Sink());
  const credit = { written: 0, receivedBytes: 0, writtenBytes: () => credit.written };
  if (keeps) {
    const connection = { writer, credit, sendWindow: 0, name: 'caller' } as unknown as StreamConnection;
    const carrier = new Carrier<Stream>(connection, { room, add() {}, remove() {} });
    for (let n = 0; n < STREAMS; n++) carrier.add(new Stream());
  }
  const payload = Buffer.alloc(131_072, 1);
  return () => {
    for (let n = 0, at = 0; n < chunks; n++, at += CHUNK_BYTES)
      writer.frame(FrameType.DATA, 0, 1, payload, at, at + CHUNK_BYTES);
    credit.written += chunks * CHUNK_BYTES;
    credit.receivedBytes = Math.max(0, credit.written - ON_THE_WAY_BYTES);
    writer.flush();
    return chunks;
  };
}

for (const chunks of [1, 20, 200, 2_000]) {
  const each = chunks === 1 ? 'alone' : `${chunks} a write`;
  measure(`write a chunk, ${each}`, writes(chunks, false));
  measure(`write a chunk, ${each}, and keep it for a resumption`, writes(chunks, true));
}
