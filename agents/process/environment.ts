/** An invalid setting. The message names it and describes valid values. */
export class SettingError extends Error {
  override readonly name = 'SettingError';
}

export type Environment = Readonly<Record<string, string | undefined>>;

const unitMs = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 } as const;

/** The longest delay of a Node timer, about 24.8 days. */
const longestMs = 2 ** 31 - 1;

/**
 * Reads a duration such as `500ms`, `30s`, `5m`.
 *
 * @returns milliseconds
 * @throws SettingError for any other text
 */
export function durationMs(environment: Environment, name: string, byDefault: number): number {
  const text = environment[name];
  if (text === undefined || text === '') return byDefault;
  const match = /^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h)$/.exec(text);
  if (match === null) throw new SettingError(`${name} must be a duration such as 30s, not "${text}"`);
  const value = Number(match[1]) * unitMs[match[2] as keyof typeof unitMs];
  if (value > longestMs) throw new SettingError(`${name} must be at most 24 days, not "${text}"`);
  return value;
}

/**
 * Reads a whole number.
 *
 * @throws SettingError for any other text or a number outside of least..most
 */
export function wholeNumber(
  environment: Environment,
  name: string,
  byDefault: number,
  [least, most]: readonly [number, number],
): number {
  const text = environment[name];
  if (text === undefined || text === '') return byDefault;
  const value = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= least && value <= most)) {
    throw new SettingError(`${name} must be a whole number from ${least} to ${most}, not "${text}"`);
  }
  return value;
}

/**
 * Reads an address to listen on or to call: `host:port`, `[v6]:port` or `unix:/path`.
 *
 * @throws SettingError for any other text
 */
export function address(environment: Environment, name: string, byDefault: string): string {
  const text = environment[name] || byDefault;
  const port = /^(?:\[[0-9a-fA-F:.%]+\]|[^\s:/[\]]+):(\d{1,5})$/.exec(text)?.[1];
  if (/^unix:\/?[^\s]+$/.test(text) || (port !== undefined && Number(port) <= 65_535)) return text;
  throw new SettingError(`${name} must be host:port or unix:/path, not "${text}"`);
}
