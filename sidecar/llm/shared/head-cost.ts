/** Says what the head of a message takes in memory. */

/** Each field has two strings, and its place among the others. */
const FIELD_COST_BYTES = 128;

/** @param textBytes the characters of all names and values */
export function headCost(textBytes: number, fields: number): number {
  return textBytes + fields * FIELD_COST_BYTES;
}

/** @param rawHeaders names and values in turn, as Node has them */
export function rawHeadCost(rawHeaders: readonly string[]): number {
  let textBytes = 0;
  for (const text of rawHeaders) textBytes += text.length;
  return headCost(textBytes, rawHeaders.length / 2);
}
