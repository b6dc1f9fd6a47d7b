/**
 * Bounds what a provider may send before its answer to a handshake: interim answers (RFC 9110, section 15.2) need not end,
 * and Node parses each read whole. `relay/parser-feed.ts` does this for requests; after the answer to a handshake the bytes
 * are no longer HTTP, and pass as they are.
 */
import type { ClientRequest } from 'node:http';
import type { Socket } from 'node:net';
import { MAX_INTERIM_ANSWERS } from '../relay/provider-relay.ts';

/** How much is parsed at once: twice the allowed number of the shortest interim answers. */
const SLICE_BYTES = 4_096;
const MAX_BYTES = 131_072;

type OnData = (this: Socket, chunk: Buffer) => void;

/** @param onEndless receives a description of the excess, and must end the request */
export function boundInterimAnswers(client: ClientRequest, onEndless: (what: string) => void): void {
  let interimAnswers = 0;
  client.on('information', () => {
    if (++interimAnswers === MAX_INTERIM_ANSWERS + 1)
      onEndless(`more than ${MAX_INTERIM_ANSWERS} interim answers`);
  });
  client.once('socket', (socket) => {
    const parse = socket.listeners('data').at(-1) as OnData | undefined;
    if (parse === undefined) return;
    let bytes = 0;
    let isAnswered = false;
    client.once('response', () => {
      isAnswered = true;
    });
    const read: OnData & { listener?: OnData } = (chunk) => {
      let rest = chunk;
      while (rest.length > 0 && !socket.destroyed) {
        const slice = isAnswered ? rest : rest.subarray(0, SLICE_BYTES);
        rest = rest.subarray(slice.length);
        bytes += slice.length;
        parse.call(socket, slice);
        // The answer to the handshake is here, and another listener reads on.
        if (!socket.listeners('data').includes(read)) {
          if (rest.length > 0) socket.unshift(rest);
          return;
        }
        if (!isAnswered && bytes > MAX_BYTES) onEndless(`${bytes} bytes of heads and no end of them`);
      }
    };
    // Node removes its own listener by this property.
    read.listener = parse;
    socket.removeListener('data', parse);
    socket.on('data', read);
  });
}
