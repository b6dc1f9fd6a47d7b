/** Reads the one message of a call's request, within the limit of its size. */
import type { ServerHttp2Stream } from 'node:http2';
import { READABLE_ENCODINGS, readOnlyMessage } from '../../grpc/message-encoding.ts';
import { PREFIX_BYTES } from '../../grpc/message-framing.ts';
import { NO_MESSAGE, type Refusal, tooLarge, unknownEncoding } from './refusals.ts';

/**
 * Returns the message without its prefix and uncompressed; or why there is none; or undefined when the stream ended before
 * its request did.
 *
 * @param encoding `grpc-encoding`
 * @param maxBytes the limit of the message, also of an inflated one
 */
export async function readRequest(
  stream: ServerHttp2Stream,
  encoding: string,
  maxBytes: number,
): Promise<Buffer | Refusal | undefined> {
  const body = await readBody(stream, PREFIX_BYTES + maxBytes);
  if (body === undefined) return undefined;
  if (body === 'too_large') return tooLarge(maxBytes);
  const message = readOnlyMessage(body, encoding, maxBytes);
  if (Buffer.isBuffer(message)) return message;
  if (message === 'too_large') return tooLarge(maxBytes);
  return message === 'unsupported' ? unknownEncoding(encoding, READABLE_ENCODINGS) : NO_MESSAGE;
}

function readBody(stream: ServerHttp2Stream, maxBytes: number): Promise<Buffer | 'too_large' | undefined> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const onData = (chunk: Buffer): void => {
      bytes += chunk.length;
      if (bytes > maxBytes) settle('too_large');
      else chunks.push(chunk);
    };
    const onEnd = (): void => settle(Buffer.concat(chunks));
    const onClose = (): void => settle(undefined);
    const settle = (body: Buffer | 'too_large' | undefined): void => {
      stream.off('data', onData).off('end', onEnd).off('close', onClose);
      // What still comes is dropped.
      stream.resume();
      resolve(body);
    };
    stream.on('data', onData).on('end', onEnd).on('close', onClose);
  });
}
