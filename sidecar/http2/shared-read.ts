/** Reads all sockets into one buffer. */
import type { OnReadOpts, Socket } from 'node:net';

/** The size of a read, twice Node's own 64 KiB, so that large answers need half as many system calls. */
const READ_BYTES = 131_072;

/**
 * One buffer for the reads of all sockets that use it. Otherwise Node allocates 64 KiB for each read, and allocating, first
 * touching and collecting that memory costs more than handling most reads.
 */
const shared = Buffer.allocUnsafeSlow(READ_BYTES);

/**
 * Whether the next read of any socket will overwrite these bytes. They are valid within the event that brought them; copy bytes
 * that you keep longer.
 */
export function isSharedRead(buffer: Buffer): boolean {
  return buffer.buffer === shared.buffer;
}

/**
 * Options of `net.connect` that make the socket use the shared buffer. Its `data` events carry views of it.
 *
 * @param socket returns the socket that was made with them
 */
export function sharedRead(socket: () => Socket): OnReadOpts {
  return {
    buffer: shared,
    callback: (bytes) => {
      socket().emit('data', shared.subarray(0, bytes));
      return true;
    },
  };
}

/**
 * The same for a socket that a server has accepted, before its first read. Node has no option for accepted sockets, so this
 * sets the properties in which Node keeps the option. If they are missing, the socket reads as usual.
 *
 * @returns whether the socket uses the shared buffer
 */
export function readShared(socket: Socket): boolean {
  const { _handle: handle } = socket as unknown as {
    _handle: { useUserBuffer?: (buffer: Buffer) => void } | null;
  };
  const [buffer, callback] = placesIn(socket);
  if (buffer === undefined || callback === undefined || typeof handle?.useUserBuffer !== 'function')
    return false;
  const options = sharedRead(() => socket);
  Object.assign(socket, { [buffer]: options.buffer, [callback]: options.callback });
  handle.useUserBuffer(shared);
  return true;
}

/** The symbols of the properties in which Node's sockets keep `onread`, the same for all sockets. */
let places: readonly [buffer: symbol | undefined, callback: symbol | undefined] | undefined;

function placesIn(socket: Socket): readonly [symbol | undefined, symbol | undefined] {
  if (places === undefined) {
    const symbols = Object.getOwnPropertySymbols(socket);
    const named = (name: string) => symbols.find(({ description }) => description === name);
    places = [named('kBuffer'), named('kBufferCb')];
  }
  return places;
}
