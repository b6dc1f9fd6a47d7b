/** Undoes the encodings of request bodies (RFC 9110, section 8.4). */
import type { Transform } from 'node:stream';
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from 'node:zlib';
import type { LlmSettings } from '../shared/llm-settings.ts';

const OPTIONS = { chunkSize: 65_536 };

/** Does a policy need what is in a body that is encoded? Otherwise it passes as it is. */
export function readsEncoded({ limits, streamUsage, upstreams }: LlmSettings, hasBudget: boolean): boolean {
  return (
    hasBudget ||
    limits.tokensPerMinute > 0 ||
    streamUsage === 'always' ||
    upstreams.some(({ model }) => model !== undefined)
  );
}

/** @returns undefined for an encoding that is not known here */
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
