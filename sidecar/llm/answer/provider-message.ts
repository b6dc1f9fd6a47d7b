/** Reads the message of a provider's error for operators: short, on one line, and without keys. Pure. */

/** A longer message is cut. */
const MAX_CHARS = 300;
const SECRET = '[secret]';
/** Shorter keys are placeholders, such as `none`, and may be words of the message. */
const MIN_SECRET_CHARS = 8;

/**
 * Providers repeat the key that they refuse, whole or in part. The patterns find keys in these forms:
 *
 *     Bearer eyJhbG…      sk-proj-1234      sk-ab*****yz      ****1234      gsk_…, xai-…, hf_…, AIza…
 */
const KEYS: readonly RegExp[] = [
  /(?<=\b(?:Bearer|Basic)\s+)[\w.~+/=*-]+/gi,
  /[\w-]*\*{2,}[\w*-]*/g,
  /\b(?:sk|gsk|xai|hf|r8|pplx|nvapi|csk)[-_][\w*.-]{4,}/g,
  /\bAIza[\w-]{8,}/g,
  /\b\w+…\w*/g,
  // A long run of letters and digits is no word.
  /\b(?=[A-Za-z_]*\d)(?=[\d_]*[A-Za-z])[A-Za-z0-9_]{20,}\b/g,
];

/** Masks keys. @param secrets known secrets, whatever their form */
export function withoutKeys(text: string, secrets: readonly string[]): string {
  let clean = text;
  for (const secret of secrets)
    if (secret.length >= MIN_SECRET_CHARS) clean = clean.replaceAll(secret, SECRET);
  for (const pattern of KEYS) clean = clean.replace(pattern, SECRET);
  return clean;
}

/** Returns the message in an error's body, as it came; '' without a readable one. */
export function providerMessage(body: Buffer): string {
  const text = body.toString('utf8').trim();
  const said = /^[[{]/.test(text) ? messageIn(text) : text;
  // A page for a browser is no message.
  return said.startsWith('<') ? '' : said.slice(0, 4 * MAX_CHARS);
}

/** Returns at most {@link MAX_CHARS} characters, with spaces for control characters and line breaks. */
export function oneLine(text: string): string {
  const line = text.replace(/[\p{C}\s]+/gu, ' ').trim();
  return line.length <= MAX_CHARS ? line : `${line.slice(0, MAX_CHARS - 1)}…`;
}

/** Finds `{"error":{"message"}}` (OpenAI, Anthropic, and Gemini in a list), `{"error":"…"}`, `{"message"}`, `{"detail"}`. */
function messageIn(json: string): string {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    return '';
  }
  const outer = record(Array.isArray(parsed) ? parsed[0] : parsed);
  const inner = record(outer['error']);
  for (const value of [inner['message'], outer['error'], outer['message'], outer['detail'], inner['code']])
    if (typeof value === 'string' && value !== '') return value;
  const { detail } = outer;
  return detail === undefined ? '' : JSON.stringify(detail);
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}
