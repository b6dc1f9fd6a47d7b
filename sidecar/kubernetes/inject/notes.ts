/** What injection tells about one workload: what it did, what it left alone, and what it doubts. Never a secret. */

/**
 * - `did`: a change, or a way that calls now take
 * - `left`: unchanged on purpose, with the reason
 * - `doubt`: may be wrong for this app; the text says what to do
 */
export type NoteKind = 'did' | 'left' | 'doubt';

export interface Note {
  readonly kind: NoteKind;
  readonly text: string;
}

export const did = (text: string): Note => ({ kind: 'did', text: harmless(text) });
export const left = (text: string): Note => ({ kind: 'left', text: harmless(text) });
export const doubt = (text: string): Note => ({ kind: 'doubt', text: harmless(text) });

/** The most characters of a name or value from a manifest in a text. */
const SHOWN_MAX = 80;

/** A name or a value from a manifest, short and {@link harmless}. */
export function shown(text: string): string {
  const plain = harmless(text);
  return plain.length > SHOWN_MAX ? `${plain.slice(0, SHOWN_MAX)}…` : plain;
}

/** Text without control characters, which a terminal would obey; each becomes U+FFFD. */
export function harmless(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}\u2028\u2029]/gu, '\ufffd');
}
