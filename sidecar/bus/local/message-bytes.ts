/** Weighs the messages between the threads of a task file, and says which of their bytes move rather than being copied. */
import type { FromThread, Request, Taken, Watched } from './requests.ts';

/** Large bytes move to the other thread, rather than being copied twice on their way. */
const MOVED_BYTES = 16_384;

export function buffersOf(message: FromThread): ArrayBuffer[] {
  if (message.name !== 'done' || typeof message.output !== 'object' || message.output === null) return [];
  const output = message.output as Partial<Taken & Watched> | Uint8Array;
  const all = ArrayBuffer.isView(output)
    ? [output]
    : [
        output.payload,
        ...(output.events ?? []).map((event) => (event.kind === 'chunks' ? event.batch.payload : undefined)),
      ];
  return all.flatMap((bytes) =>
    bytes !== undefined && bytes.length > MOVED_BYTES ? [bytes.buffer as ArrayBuffer] : [],
  );
}

/** The bytes that a request brings. */
export function sizeOf(request: Request): number {
  if (request.name === 'submit') return request.input.task.payload.length;
  return request.name === 'write' || request.name === 'settle' ? request.input.payload.length : 0;
}
