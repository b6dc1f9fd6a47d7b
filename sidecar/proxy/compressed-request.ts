import { inflateMessage, READABLE_ENCODINGS } from '../grpc/message-encoding.ts';
import { Status } from '../grpc/status.ts';
import { type LocalReply, replyToCaller } from './reasons.ts';
import type { FirstMessage } from './request-buffer.ts';

/** As much of a compressed message is inflated to be read; of what is not compressed as much is waited for. */
const INFLATED_MAX_BYTES = 65_536;

const NO_BYTES = Buffer.alloc(0);

/**
 * A compressed first message, inflated as far as that is possible.
 *
 * @param message as it came
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

/** The answer to a call whose route hangs on what can't be read; the codes are those of gRPC's compression.md. */
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
