/** Undoes the encodings of request bodies (RFC 9110, section 8.4). */
import type { Transform } from 'node:stream';
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from 'node:zlib';
import type { LlmSettings } from '../shared/llm-settings.ts';

const OPTIONS = { chunkSize: 65_536 };

/** Whether a policy must read an encoded body; otherwise it passes as it is. */
export function readsEncoded({ limits, streamUsage, upstreams }: LlmSettings, hasBudget: boolean): boolean {
  return (
    hasBudget ||
    limits.tokensPerMinute > 0 ||
    streamUsage === 'always' ||
    upstreams.some(({ model }) => model !== undefined)
  );
}

/** Returns a decoder; undefined for an unknown encoding. */
export function decoderOf(encoding: string): Transform | undefined {
  switch (encoding) {
    case 'gzip':
    case 'x-gzip':
      return createGunzip(OPTIONS);
    case 'deflate':
      return createInflate(OPTIONS);
    case 'br':
      return createBrotliDecompress(OPTIONS);
    case 'zstd':
      return createZstdDecompress(OPTIONS);
    default:
      return undefined;
  }
}
