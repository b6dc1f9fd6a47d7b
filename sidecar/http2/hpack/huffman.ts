/**
 * Huffman decoding (RFC 7541 §5.2, Appendix B), one byte of input a step.
 *
 * There is no encoder: a relay's peers are one hop away, and coding the few names and values that the tables lack would take more
 * time than the saved bytes are worth.
 */

/** The end-of-string symbol: its code only pads, and its whole code in a string is an error. */
const EOS = 256;

/**
 * The length in bits of each octet's code, and of EOS's. Appendix B's code is canonical: codes of one length are consecutive in
 * the order of the symbols, and each length continues after the one before. So the lengths define the whole table.
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

/** The fewest and the most bits a code has. */
const SHORTEST_CODE_BITS = 5;
const LONGEST_CODE_BITS = 30;

// The result of a step: the next state (bits 0-7), the completed octets (bits 8-15 and 16-23) with a bit for each, and whether
// EOS was completed. Eight bits complete two octets at most. A result is never 0, because a step that completes nothing leaves
// the root of the code.
const EMITS_ONE = 1 << 24;
const EMITS_TWO = 1 << 25;
const FAILS = 1 << 26;

/** The code as a tree: children[node * 2 + bit] is an inner node, or ~symbol. Node 0 is the root. */
const children = buildTree();

/** Whether the input may end in a state: after whole codes and at most seven bits of padding, which is all ones. */
const mayEnd = new Uint8Array(256);
for (let node = 0, depth = 0; depth < 8; depth++) {
  mayEnd[node] = 1;
  node = children[node * 2 + 1]!;
}

/**
 * The step from each state on each byte, computed at its first use: text uses few of the 65,536, and computing all would delay
 * the start of the process too much. The states are the inner nodes of the tree: a tree with 257 leaves has 256, so a state is
 * a byte.
 */
const steps = new Int32Array(256 * 256);

/** The room that decoding `bytes` of input needs: the longest output, and one byte. */
export function huffmanRoom(bytes: number): number {
  return Math.floor((bytes * 8) / SHORTEST_CODE_BITS) + 1;
}

/**
 * Decodes input[start,end) to the start of `out`, which must have room for huffmanRoom(end - start) bytes.
 *
 * @param whole false for the beginning of a string, which may end within a code
 * @returns the number of bytes written, or -1 for EOS in the string, padding of more than seven bits, or padding that is not all
 *   ones (each a decoding error by §5.2)
 */
export function huffmanDecode(
  input: Uint8Array,
  start: number,
  end: number,
  out: Uint8Array,
  whole = true,
): number {
  let written = 0;
  let step = 0;
  let flags = 0;
  for (let i = start; i < end; i++) {
    const at = ((step & 0xff) << 8) | input[i]!;
    step = steps[at]!;
    if (step === 0) step = workOut(at);
    flags |= step;
    // We always write, and count only a completed octet, which is cheaper than an unpredictable branch.
    out[written] = step >> 8;
    written += (step >> 24) & 1;
    out[written] = step >> 16;
    written += (step >> 25) & 1;
  }
  return flags < FAILS && (!whole || mayEnd[step & 0xff] === 1) ? written : -1;
}

/** Computes one step by walking the tree. */
function workOut(at: number): number {
  let node = at >> 8;
  let step = 0;
  for (let bit = 7; bit >= 0; bit--) {
    const child = children[node * 2 + ((at >> bit) & 1)]!;
    node = Math.max(child, 0);
    if (child >= 0) continue;
    const symbol = ~child;
    if (symbol === EOS) step |= FAILS;
    else if ((step & EMITS_ONE) === 0) step |= EMITS_ONE | (symbol << 8);
    else step |= EMITS_TWO | (symbol << 16);
  }
  return (steps[at] = step | node);
}

function buildTree(): Int16Array {
  const tree = new Int16Array(256 * 2);
  let nodes = 1;
  let code = 0;
  for (let bits = SHORTEST_CODE_BITS; bits <= LONGEST_CODE_BITS; bits++) {
    code *= 2;
    for (let symbol = CODE_BITS.indexOf(bits); symbol >= 0; symbol = CODE_BITS.indexOf(bits, symbol + 1)) {
      let node = 0;
      for (let bit = bits - 1; bit > 0; bit--) {
        // The root is no node's child, so 0 means that there is no node yet.
        node = tree[node * 2 + ((code >> bit) & 1)] ||= nodes++;
      }
      tree[node * 2 + (code & 1)] = ~symbol;
      code++;
    }
  }
  return tree;
}
