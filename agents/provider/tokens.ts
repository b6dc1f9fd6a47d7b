/** Up to eight letters or digits, or one other sign, with the blanks before it. */
const piece = /\s*[\p{L}\p{N}_]{1,8}|\s*[^\s\p{L}\p{N}_]|\s+$/gu;

/** Texts longer than this are estimated instead of split. */
const longestExactChars = 65_536;

/** Splits a text into pieces about the size of a model's tokens. Joined they give the text again. */
export function tokensOf(text: string): string[] {
  return text.match(piece) ?? [];
}

/** How many tokens a text has: exact for what tokensOf splits, four characters a token beyond. */
export function countTokens(text: string): number {
  if (text.length <= longestExactChars) return tokensOf(text).length;
  return Math.ceil(text.length / 4);
}
