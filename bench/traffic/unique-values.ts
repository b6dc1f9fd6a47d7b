// Values that differ in every call and cost next to nothing to make: ten digits are chosen whose Huffman codes all
// have six bits (RFC 7541, Appendix B), so four of them are three whole bytes, and a counter is written with a table.

/** Hexadecimal digits with codes of six bits, in the order of the decimal digits they stand for. */
const DIGITS = '3456789bdf';
const CODES: Readonly<Record<string, readonly [code: number, bits: number]>> = {
  '-': [0x16, 6],
  ...{ '0': [0x00, 5], '1': [0x01, 5], '3': [0x19, 6], '4': [0x1a, 6], '5': [0x1b, 6], '6': [0x1c, 6] },
  ...{ '7': [0x1d, 6], '8': [0x1e, 6], '9': [0x1f, 6], b: [0x23, 6], d: [0x24, 6], f: [0x25, 6] },
};
const GROUP_VALUES = 10_000;
const GROUP_DIGITS = 4;
const GROUP_BYTES = 3;

/** Three bytes for each of the 10,000 values of a group. */
const groups = Buffer.concat(
  Array.from({ length: GROUP_VALUES }, (_, value) => huffman(digitsOf(value, GROUP_DIGITS))),
);

/** A field whose value has eight digits that are new in each call. */
export interface UniqueField {
  readonly name: string;
  /** Huffman-coded, with digits to be overwritten. */
  readonly value: Buffer;
  /** Where they are in `value`. */
  readonly at: number;
}

/** Fields of one process: what is not the counter tells processes apart. */
export function uniqueFields(): UniqueField[] {
  const own = (length: number): string => digitsOf(Math.floor(Math.random() * 10 ** length), length);
  const trace = `${own(12)}${own(12)}`;
  return [
    // `00-` is two bytes, and so the trace id begins at a whole one.
    { name: 'traceparent', value: huffman(`00-${digitsOf(0, 8)}${trace}-${own(8)}${own(8)}-01`), at: 2 },
    {
      name: 'x-request-id',
      value: huffman(`${digitsOf(0, 8)}-${own(4)}-4${own(3)}-9${own(3)}-${own(12)}`),
      at: 0,
    },
  ];
}

/** Writes `count`, modulo 10^8, where the digits are. */
export function writeUnique(out: Buffer, at: number, count: number): void {
  writeGroup(out, at, Math.floor(count / GROUP_VALUES) % GROUP_VALUES);
  writeGroup(out, at + GROUP_BYTES, count % GROUP_VALUES);
}

function writeGroup(out: Buffer, at: number, value: number): void {
  const from = value * GROUP_BYTES;
  out[at] = groups[from]!;
  out[at + 1] = groups[from + 1]!;
  out[at + 2] = groups[from + 2]!;
}

function digitsOf(value: number, length: number): string {
  return [...`${value}`.padStart(length, '0')].map((digit) => DIGITS[Number(digit)]).join('');
}

function huffman(text: string): Buffer {
  const bytes: number[] = [];
  let bits = 0;
  let count = 0;
  for (const char of text) {
    const [code, length] = CODES[char]!;
    bits = (bits << length) | code;
    count += length;
    while (count >= 8) {
      count -= 8;
      bytes.push((bits >>> count) & 0xff);
    }
    bits &= (1 << count) - 1;
  }
  // Padding is the beginning of the longest code: ones (RFC 7541 §5.2).
  if (count > 0) bytes.push(((bits << (8 - count)) | (0xff >> count)) & 0xff);
  return Buffer.from(bytes);
}
