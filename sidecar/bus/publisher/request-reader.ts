/** Reads the one message of a call's request, within the limit of its size, and when there is room for it. */
import type { ServerHttp2Stream } from 'node:http2';
import { READABLE_ENCODINGS, readOnlyMessage } from '../../grpc/message-encoding.ts';
import { PREFIX_BYTES } from '../../grpc/message-framing.ts';
import type { Room } from '../memory/room.ts';
import { NO_MESSAGE, type Refusal, tooLarge, unknownEncoding } from './refusals.ts';

/** How often a request is in memory at once while it is stored: as it came, encoded with its head, and twice on its way to the log. */
export const REQUEST_COPIES = 4;

/**
 * Returns the message without its prefix and uncompressed; or why there is none; or undefined when the stream ended before
 * its request did. The room is the caller's to give back. Rejects with NoRoomError.
 *
 * @param encoding `grpc-encoding`
 * @param maxBytes the limit of the message, also of an inflated one
 */
export async function readRequest(
  stream: ServerHttp2Stream,
  encoding: string,
  maxBytes: number,
  room: Room,
): Promise<Buffer | Refusal | undefined> {
  const body = await new RequestBody(stream, maxBytes, room).read();
  if (body === undefined) return undefined;
  if (body === 'too_large') return tooLarge(maxBytes);
  if (body === 'unreadable') return NO_MESSAGE;
  let message = readOnlyMessage(body, encoding, maxBytes);
  if (body[0] !== 0 && Buffer.isBuffer(message) && message.length > body.length) {
    const { length } = message;
    // Drop the inflated bytes, of which only the size was wanted, while others use the memory.
    message = NOTHING;
    await room.take(REQUEST_COPIES * length + body.length);
    message = readOnlyMessage(body, encoding, maxBytes);
  }
  if (Buffer.isBuffer(message)) return message;
  if (message === 'too_large') return tooLarge(maxBytes);
  return message === 'unsupported' ? unknownEncoding(encoding, READABLE_ENCODINGS) : NO_MESSAGE;
}

const NOTHING = Buffer.alloc(0);

/** A message with its prefix. The prefix says how long it is: the rest waits in the stream until there is room for it. */
class RequestBody {
  private readonly stream: ServerHttp2Stream;
  private readonly maxBytes: number;
  private readonly room: Room;
  private first: Buffer = NOTHING;
  private whole: Buffer | undefined = undefined;
  private bytes = 0;
  private isWaiting = false;
  private isEnded = false;
  private settle: (body: Buffer | 'too_large' | 'unreadable' | undefined) => void = () => {};
  private fail: (error: unknown) => void = () => {};

  constructor(stream: ServerHttp2Stream, maxBytes: number, room: Room) {
    this.stream = stream;
    this.maxBytes = maxBytes;
    this.room = room;
  }

  async read(): Promise<Buffer | 'too_large' | 'unreadable' | undefined> {
    const { stream } = this;
    const onData = (chunk: Buffer): void => this.add(chunk);
    const onEnd = (): void => {
      this.isEnded = true;
      this.checkEnd();
    };
    const onClose = (): void => this.settle(undefined);
    stream.on('data', onData).on('end', onEnd).on('close', onClose);
    try {
      return await new Promise((resolve, reject) => {
        this.settle = resolve;
        this.fail = reject;
      });
    } finally {
      stream.off('data', onData).off('end', onEnd).off('close', onClose);
      this.whole = undefined;
      // What still comes is dropped.
      stream.resume();
    }
  }

  private add(chunk: Buffer): void {
    if (this.whole !== undefined) {
      this.fill(chunk);
      return;
    }
    this.first = this.first.length === 0 ? chunk : Buffer.concat([this.first, chunk]);
    if (this.first.length < PREFIX_BYTES || this.isWaiting) return;
    const length = this.first.readUInt32BE(1);
    if (length > this.maxBytes) this.settle('too_large');
    else void this.makeRoom(length);
  }

  /** Node may say that the stream has ended while it is paused. */
  private checkEnd(): void {
    if (this.isEnded && !this.isWaiting)
      this.settle(this.whole?.length === this.bytes ? this.whole : 'unreadable');
  }

  private async makeRoom(length: number): Promise<void> {
    const { stream } = this;
    this.isWaiting = true;
    stream.pause();
    try {
      await this.room.take(REQUEST_COPIES * length);
      if (stream.destroyed) return;
      this.whole = Buffer.allocUnsafeSlow(PREFIX_BYTES + length);
      this.isWaiting = false;
      this.fill(this.first);
      this.checkEnd();
      stream.resume();
    } catch (error) {
      this.fail(error);
    }
  }

  private fill(chunk: Buffer): void {
    const { whole } = this;
    if (whole === undefined) return;
    if (this.bytes + chunk.length > whole.length) this.settle('unreadable');
    else chunk.copy(whole, this.bytes);
    this.bytes += chunk.length;
  }
}
