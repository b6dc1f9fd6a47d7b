/**
 * Encodes a batch of a run's messages, which a log stores and never reads.
 *
 *     a run's first batch: 80 │ 4 bytes: length │ the answer's head: JSON     where the agent sent fields of its own
 *     every batch:         00 │ 4 bytes: length │ a message    00 │ …         as gRPC frames them, uncompressed
 */

import { PREFIX_BYTES } from '../../grpc/message-framing.ts';
import { LogSetupError } from '../log/log-errors.ts';
import type { Fields } from './payload.ts';

/** Above the flags of gRPC's own frames. */
const HEAD_FLAG = 0x80;

export interface ChunkPayload {
  /** Undefined where the batch is not the first one, or the agent's head has no fields of its own. */
  readonly head: Fields | undefined;
  /** Each behind its prefix. */
  readonly messages: Buffer;
}

/** The first batch of a run whose answer has this head. */
export function withHead(head: Fields, messages: Buffer): Buffer {
  if (head.length === 0) return messages;
  const json = Buffer.from(JSON.stringify(head));
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix[0] = HEAD_FLAG;
  prefix.writeUInt32BE(json.length, 1);
  return Buffer.concat([prefix, json, messages]);
}

/** Throws LogSetupError when the bytes are no batch. */
export function decodeChunks(payload: Buffer): ChunkPayload {
  if (payload.length < PREFIX_BYTES || payload[0] !== HEAD_FLAG)
    return { head: undefined, messages: payload };
  const end = PREFIX_BYTES + payload.readUInt32BE(1);
  try {
    const head = JSON.parse(payload.toString('utf8', PREFIX_BYTES, end)) as Fields;
    return { head, messages: payload.subarray(end) };
  } catch (error) {
    throw new LogSetupError(
      'chunks on the bus can not be read: use one version of Outrigger for the bus',
      error,
    );
  }
}
