/** Up to eight letters or digits, or one other character, with the white space before it. */
const piece = /\s*[\p{L}\p{N}_]{1,8}|\s*[^\s\p{L}\p{N}_]|\s+$/gu;

/** Longer texts are estimated instead of split. */
const longestExactChars = 65_536;

/** Splits a text into pieces of about a model token's size. Joined they equal the text. */
export function tokensOf(text: string): string[] {
  return text.match(piece) ?? [];
}

/** Counts the tokens of a text: exactly up to the limit of tokensOf, beyond it as four characters a token. */
export function countTokens(text: string): number {
  if (text.length <= longestExactChars) return tokensOf(text).length;
  return Math.ceil(text.length / 4);
}
