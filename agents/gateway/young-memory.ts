/** Limits V8's young generation. */
import { setFlagsFromString } from 'node:v8';

/**
 * Keeps V8's memory for new objects at its initial size, as the image does by --max-semi-space-size: under many large
 * tasks it would grow to 128 MB and stay there. A size in Node's options has precedence.
 */
export function keepYoungMemorySmall(
  options = `${process.env['NODE_OPTIONS'] ?? ''} ${process.execArgv.join(' ')}`,
): boolean {
  if (options.includes('semi-space')) return false;
  setFlagsFromString('--semi-space-growth-factor=1');
  return true;
}
