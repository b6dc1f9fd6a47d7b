/** Sizes as the configuration has them: a number of bytes, or `64KiB`, `10MiB`, `1GiB`. */

export const SIZE_PATTERN = /^\d{1,15}(?:[KMG]iB)?$/;

const UNIT_BYTES: Readonly<Record<string, number>> = { KiB: 1_024, MiB: 1_048_576, GiB: 1_073_741_824 };

/** Bytes, or `undefined` when `text` is not a size. */
export function parseBytes(text: string | number): number | undefined {
  const written = String(text);
  if (!SIZE_PATTERN.test(written)) return undefined;
  return Number.parseInt(written, 10) * (UNIT_BYTES[written.slice(-3)] ?? 1);
}
