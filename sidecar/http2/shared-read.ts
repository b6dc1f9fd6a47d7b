import type { OnReadOpts, Socket } from 'node:net';

/** What one read takes at most: half the system calls that Node's own 64 KiB a read need for large answers. */
const READ_BYTES = 131_072;

/**
 * One buffer that all sockets which ask for it are read into. Node gives each read 64 KiB of new memory otherwise, which
 * costs more than most of what is read: to get, to touch for the first time, and to collect.
 */
const shared = Buffer.allocUnsafeSlow(READ_BYTES);

/**
 * Whether bytes lie where the next read of any socket will write: they are good within the event that brought them, and
 * who keeps them longer has to copy them.
 */
export function isSharedRead(buffer: Buffer): boolean {
  return buffer.buffer === shared.buffer;
}

/**
 * Options of `net.connect` for a socket that is read into the shared buffer. Its `data` events bring views of it.
 *
 * @param socket the socket that was made with them
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
 * The same for a socket that a server has accepted, before anything was read from it. For those Node has no option, only
 * what it keeps one in; where that is not found the socket is read as ever.
 *
 * @returns whether it is read into the shared buffer
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

/** The symbols under which Node's sockets keep `onread`; the same for all sockets. */
let places: readonly [buffer: symbol | undefined, callback: symbol | undefined] | undefined;

function placesIn(socket: Socket): readonly [symbol | undefined, symbol | undefined] {
  if (places === undefined) {
    const symbols = Object.getOwnPropertySymbols(socket);
    const named = (name: string) => symbols.find(({ description }) => description === name);
    places = [named('kBuffer'), named('kBufferCb')];
  }
  return places;
}
