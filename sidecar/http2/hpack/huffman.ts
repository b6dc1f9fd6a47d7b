/**
 * Huffman decoding (RFC 7541 §5.2, Appendix B), four bits of input a step.
 *
 * There is no encoder: a relay's peers are a hop away, and the few bytes saved on names and values that the
 * tables don't hold already are worth less than the time to pack them.
 */

/** The end-of-string symbol: its code only ever pads, and is an error when it stands whole in a string. */
const EOS = 256;

/**
 * Length in bits of each octet's code, and EOS's. Appendix B's code is canonical: codes of one length follow
 * each other in the order of the symbols, and every length continues where the one before stopped; so the
 * lengths are the whole table.
 */
const CODE_BITS = Uint8Array.of(
  ...[13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28],
  ...[28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28],
  ...[6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6],
  ...[5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10],
  ...[13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7],
  ...[7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6],
  ...[15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5],
  ...[6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28],
  ...[20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23],
  ...[24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24],
  ...[22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23],
  ...[21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23],
  ...[26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25],
  ...[19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27],
  ...[20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23],
  ...[26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26],
  30,
);

// A step's outcome: the state after it (bits 0-7), the octet it completed (bits 8-15) and whether it did, and
// whether it ran into EOS. No code is shorter than five bits, so four bits complete one octet at most.
const EMITS = 1 << 16;
const FAILS = 1 << 17;

/** The fewest bits a code has: what bounds how much longer than its coding a string can be. */
const SHORTEST_CODE_BITS = 5;

/** Most octets that `bytes` of Huffman coding can stand for. */
export function huffmanDecodedMax(bytes: number): number {
  return Math.floor((bytes * 8) / SHORTEST_CODE_BITS);
}

const { steps, mayEnd } = buildSteps();

/**
 * Decodes input[start,end) to the start of `out`, which must hold huffmanDecodedMax(end - start) bytes.
 * Returns the bytes written, or -1 for EOS in the string, padding of more than seven bits, or padding that
 * is not all ones (each a decoding error by §5.2).
 */
export function huffmanDecode(input: Uint8Array, start: number, end: number, out: Uint8Array): number {
  let written = 0;
  let step = 0;
  for (let i = start; i < end; i++) {
    const byte = input[i]!;
    step = steps[((step & 0xff) << 4) | (byte >> 4)]!;
    if (step >= EMITS) {
      if (step >= FAILS) return -1;
      out[written++] = step >> 8;
    }
    step = steps[((step & 0xff) << 4) | (byte & 15)]!;
    if (step >= EMITS) {
      if (step >= FAILS) return -1;
      out[written++] = step >> 8;
    }
  }
  return mayEnd[step & 0xff] === 1 ? written : -1;
}

/**
 * Lays the code out as a tree and walks it from every inner node through every four bits. The inner nodes are
 * the states: 257 leaves make 256 of them, so a state is a byte.
 */
function buildSteps(): { steps: Int32Array; mayEnd: Uint8Array } {
  // children[node * 2 + bit] is an inner node, or ~symbol; 0, the root, is nobody's child and means none yet.
  const children = new Int16Array(256 * 2);
  let nodes = 1;
  let code = 0;
  for (let bits = SHORTEST_CODE_BITS; bits <= 30; bits++) {
    code *= 2;
    for (let symbol = 0; symbol <= EOS; symbol++) {
      if (CODE_BITS[symbol] !== bits) continue;
      let node = 0;
      for (let bit = bits - 1; bit > 0; bit--) {
        const at = node * 2 + ((code >> bit) & 1);
        node = children[at] ||= nodes++;
      }
      children[node * 2 + (code & 1)] = ~symbol;
      code++;
    }
  }

  const steps = new Int32Array(256 * 16);
  for (let state = 0; state < 256; state++) {
    for (let nibble = 0; nibble < 16; nibble++) {
      let node = state;
      let flags = 0;
      for (let bit = 3; bit >= 0; bit--) {
        const child = children[node * 2 + ((nibble >> bit) & 1)]!;
        node = Math.max(child, 0);
        if (child < 0) flags |= ~child === EOS ? FAILS : EMITS | (~child << 8);
      }
      steps[state * 16 + nibble] = flags | node;
    }
  }

  // Padding is the first bits of EOS, all ones, and less than a byte: the end may find us there and nowhere else.
  const mayEnd = new Uint8Array(256);
  for (let node = 0, depth = 0; depth < 8; depth++) {
    mayEnd[node] = 1;
    node = children[node * 2 + 1]!;
  }
  return { steps, mayEnd };
}
