/** The answers of POST /v1/embeddings. */
import { createHash } from 'node:crypto';
import { RequestError } from './requests.ts';
import { countTokens } from './tokens.ts';

const defaultDimensions = 256;
const mostDimensions = 4096;
const mostInputs = 2048;

/**
 * POST /v1/embeddings: every word of a text adds to the component that its hash selects, and the vector is normalized.
 * So equal texts have equal vectors, and texts that share words have similar ones.
 *
 * @throws RequestError
 */
export function embeddings(body: Record<string, unknown>): object {
  const { model, input, dimensions = defaultDimensions, encoding_format: format = 'float' } = body;
  if (typeof model !== 'string' || model === '') throw new RequestError(400, "'model' is missing", 'model');
  const texts: unknown[] = Array.isArray(input) ? input : [input];
  if (texts.length === 0 || texts.length > mostInputs || !texts.every((text) => typeof text === 'string')) {
    throw new RequestError(400, `'input' must be a text or up to ${mostInputs} texts`, 'input');
  }
  if (!Number.isInteger(dimensions) || Number(dimensions) < 1 || Number(dimensions) > mostDimensions) {
    throw new RequestError(400, `'dimensions' must be a whole number up to ${mostDimensions}`, 'dimensions');
  }
  const tokens = (texts as string[]).reduce((sum, text) => sum + countTokens(text), 0);
  return {
    object: 'list',
    model,
    data: (texts as string[]).map((text, index) => {
      const vector = embed(text, Number(dimensions));
      const embedding =
        format === 'base64' ? Buffer.from(vector.buffer).toString('base64') : Array.from(vector);
      return { object: 'embedding', index, embedding };
    }),
    usage: { prompt_tokens: tokens, total_tokens: tokens },
  };
}

function embed(text: string, dimensions: number): Float32Array {
  const vector = new Float32Array(dimensions);
  for (const word of text
    .slice(0, 100_000)
    .toLowerCase()
    .match(/[\p{L}\p{N}]+/gu) ?? ['']) {
    const digest = createHash('sha256').update(word).digest();
    const place = digest.readUInt32LE(0) % dimensions;
    vector[place]! += digest[4]! % 2 === 0 ? 1 : -1;
  }
  const length = Math.hypot(...vector) || 1;
  return vector.map((value) => value / length);
}
