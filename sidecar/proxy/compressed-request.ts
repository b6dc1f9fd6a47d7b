/** Inflates the compressed first message of a request, so that its ids and agent type can be read. */
import { inflateMessage, READABLE_ENCODINGS } from '../grpc/message-encoding.ts';
import { Status } from '../grpc/status.ts';
import { type LocalReply, replyToCaller } from './reasons.ts';
import type { FirstMessage } from './request-buffer.ts';

/** The limit of an inflated message that is read; the same as the limit of an uncompressed one. */
const INFLATED_MAX_BYTES = 65_536;

const NO_BYTES = Buffer.alloc(0);

/**
 * Inflates a compressed first message as far as possible.
 *
 * @param message as received
 * @param encoding the call's `grpc-encoding`; '' without one
 */
export function inflateFirst(message: FirstMessage, encoding: string): FirstMessage {
  const { buffer, start, end, whole, flag, wireBytes } = message;
  const data = buffer.subarray(start, end);
  const read = flag === 1 ? inflateMessage(encoding, data, whole, INFLATED_MAX_BYTES) : 'corrupt';
  if (typeof read === 'string')
    return { buffer: NO_BYTES, start: 0, end: 0, whole: false, flag, wireBytes, unreadable: read };
  const { bytes } = read;
  return {
    buffer: bytes,
    start: 0,
    end: bytes.length,
    whole: read.whole,
    flag,
    wireBytes,
    unreadable: undefined,
  };
}

/** The answer to a call whose route depends on an unreadable message; the codes are those of gRPC's compression.md. */
export function replyToUnreadable({ flag, unreadable }: FirstMessage, encoding: string): LocalReply {
  const where = "this call's route is by agent_type, which is in its message, and";
  const known = READABLE_ENCODINGS.join(', ');
  const named = encoding !== '' && encoding !== 'identity';
  if (unreadable === 'unsupported' && named) {
    const what = `${where} ${encoding} can't be read here; compress it by ${known}, or not at all`;
    return replyToCaller('unreadable_message', what);
  }
  let what = `${where} that inflates to too much, or too little, at once; send it as it is`;
  if (unreadable === 'corrupt' || unreadable === 'unsupported') {
    what =
      flag === 1 && named
        ? `${where} that is not ${encoding}, or was cut`
        : `${where} its compressed flag is ${flag} with ${named ? encoding : 'no grpc-encoding'}`;
  }
  return { ...replyToCaller('unreadable_message', what), status: Status.INTERNAL };
}
