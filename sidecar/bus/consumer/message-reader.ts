/** Cuts an answer into its messages, uncompressed and within a limit. */
import { readOnlyMessage } from '../../grpc/message-encoding.ts';
import { PREFIX_BYTES } from '../../grpc/message-framing.ts';

/** Why an answer can't be read any further. */
export type ReadFailure = 'too_large' | 'unreadable';

export class MessageReader {
  /** `grpc-encoding` of the answer. Only an app that compresses unasked uses it. */
  encoding = 'identity';
  /** All bytes of the answer's messages so far, without compression, with prefixes. */
  bytes = 0;
  private readonly maxBytes: number;
  private readonly onMessage: (prefixed: Buffer) => void;
  private parts: Buffer[] = [];
  private waiting = 0;

  /** @param onMessage receives each message with its prefix, in a buffer of its own or a part of what was read */
  constructor(maxBytes: number, onMessage: (prefixed: Buffer) => void) {
    this.maxBytes = maxBytes;
    this.onMessage = onMessage;
  }

  /** Whether the answer may end here. */
  get atBoundary(): boolean {
    return this.waiting === 0;
  }

  /** A message that has begun takes so much in all, as its prefix says: one that is compressed may take all that is allowed. */
  get begunBytes(): number {
    if (this.waiting < PREFIX_BYTES) return 0;
    const [first] = this.parts as [Buffer];
    return first[0] === 0 ? PREFIX_BYTES + first.readUInt32BE(1) : this.maxBytes;
  }

  read(chunk: Buffer): ReadFailure | undefined {
    this.parts.push(chunk);
    this.waiting += chunk.length;
    while (this.waiting >= PREFIX_BYTES) {
      if (this.parts[0]!.length < PREFIX_BYTES) this.join();
      const end = PREFIX_BYTES + this.parts[0]!.readUInt32BE(1);
      if (this.bytes + end > this.maxBytes) return 'too_large';
      if (this.waiting < end) return undefined;
      if (this.parts[0]!.length < end) this.join();
      const [first] = this.parts as [Buffer];
      this.waiting -= end;
      if (first.length === end) this.parts.shift();
      else this.parts[0] = first.subarray(end);
      const failure = this.take(first.subarray(0, end));
      if (failure !== undefined) return failure;
    }
    return undefined;
  }

  private join(): void {
    this.parts = [Buffer.concat(this.parts)];
  }

  private take(prefixed: Buffer): ReadFailure | undefined {
    const message = prefixed[0] === 0 ? prefixed : this.inflate(prefixed);
    if (typeof message === 'string') return message;
    this.bytes += message.length;
    if (this.bytes > this.maxBytes) return 'too_large';
    this.onMessage(message);
    return undefined;
  }

  private inflate(prefixed: Buffer): Buffer | ReadFailure {
    const read = readOnlyMessage(prefixed, this.encoding, this.maxBytes);
    if (typeof read === 'string') return read === 'too_large' ? read : 'unreadable';
    const prefix = Buffer.alloc(PREFIX_BYTES);
    prefix.writeUInt32BE(read.length, 1);
    return Buffer.concat([prefix, read]);
  }
}
