import { setFlagsFromString } from 'node:v8';

/**
 * Keeps V8's memory for new objects as small as it begins, as the image does by --max-semi-space-size: it would grow to 128 MB
 * under many large tasks, and be kept. Whoever sets its size by Node's options has that.
 */
export function keepYoungMemorySmall(
  options = `${process.env['NODE_OPTIONS'] ?? ''} ${process.execArgv.join(' ')}`,
): boolean {
  if (options.includes('semi-space')) return false;
  setFlagsFromString('--semi-space-growth-factor=1');
  return true;
}
