/** Represents the caller of one published call: how long it waits, how it leaves, and its room in the memory of the bus. */
import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import { parseTimeout } from '../../grpc/timeout.ts';
import type { SharedMemory } from '../../policy/shared-memory.ts';
import type { Leaving } from '../log/wanted.ts';
import { Room } from '../memory/room.ts';

export class Caller {
  /** How its side of the stream ended; undefined while it waits. */
  end: Leaving | undefined = undefined;
  private readonly leaving = new AbortController();
  private readonly deadlineMs: number;

  /** @param isCut whether the connection to the pipeline is lost, so that the end of the stream says nothing of the caller */
  constructor(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, isCut: () => boolean) {
    const timeoutMs = parseTimeout(String(headers['grpc-timeout'] ?? ''));
    this.deadlineMs = Number.isNaN(timeoutMs) ? Number.POSITIVE_INFINITY : performance.now() + timeoutMs;
    stream.once('close', () => {
      const isCancelled = stream.rstCode === constants.NGHTTP2_CANCEL && !isCut();
      this.end = isCancelled ? 'cancelled' : 'vanished';
      this.leaving.abort();
    });
  }

  get isGone(): boolean {
    return this.end !== undefined;
  }

  /** Aborts when it is gone. */
  get gone(): AbortSignal {
    return this.leaving.signal;
  }

  timeLeftMs(): number {
    return this.deadlineMs - performance.now();
  }

  /** @param name shares the memory with others of this name */
  roomIn(memory: SharedMemory, name: string): Room {
    return new Room(memory, { caller: name, signal: this.gone, timeLeftMs: () => this.timeLeftMs() });
  }
}
