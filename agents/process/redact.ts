/** An error in a form that is safe to log: without keys, wherever a library put them. */
export interface LoggedError {
  type: string;
  message: string;
  code?: string | number;
  stack?: string;
  cause?: LoggedError;
}

const bearer = /\b(Bearer\s+)[\w.~+/=-]+/gi;
const providerKey = /\b(?:sk|gsk|xai|hf|r8|pplx|nvapi|csk)[-_][\w*.-]{4,}|\bAIza[\w-]{8,}/g;
/** A provider that refuses a key may quote its first and last characters. */
const maskedKey = /[\w-]*\*{2,}[\w*-]*/g;
/** A run of letters and digits this long is no word. */
const longRun = /\b(?=[A-Za-z_]*\d)(?=[\d_]*[A-Za-z])[A-Za-z0-9_]{20,}\b/g;

/** Replaces everything that is or resembles a key. */
function redact(text: string, secrets: readonly string[]): string {
  let clean = text;
  for (const secret of secrets) if (secret.length >= 4) clean = clean.replaceAll(secret, '[secret]');
  return clean.replaceAll(bearer, '$1[secret]').replaceAll(providerKey, '[secret]');
}

/**
 * An error with its causes, safe to log.
 *
 * @param depth how many causes to follow
 */
export function loggedError(error: unknown, secrets: readonly string[], depth = 4): LoggedError {
  if (!(error instanceof Error)) return { type: typeof error, message: redact(String(error), secrets) };
  const { code } = error as { code?: unknown };
  const described: LoggedError = { type: error.name, message: redact(error.message, secrets) };
  if (typeof code === 'string' || typeof code === 'number') described.code = code;
  if (error.stack !== undefined) described.stack = redact(error.stack, secrets);
  if (error.cause !== undefined && depth > 0) described.cause = loggedError(error.cause, secrets, depth - 1);
  return described;
}

/** Redacts a provider's message, which may quote the refused key, whole or in part. */
export function redactProvider(text: string, secrets: readonly string[]): string {
  return redact(text, secrets).replaceAll(maskedKey, '[secret]').replaceAll(longRun, '[secret]');
}
