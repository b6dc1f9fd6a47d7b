/**
 * The configuration for display. It never holds keys (only the names of their variables), but a URL can carry a
 * password or a token; those are masked.
 */
import type { FileConfig } from './schema.ts';

const MASK = '***';

/** A copy without secrets. */
export function redact(file: FileConfig): Record<string, unknown> {
  const upstreams = file.llm.upstreams.map((upstream) => ({ ...upstream, url: redactUrl(upstream.url) }));
  return { ...file, llm: { ...file.llm, upstreams } };
}

/** The URL with its user, password and query masked. */
export function redactUrl(text: string): string {
  if (!URL.canParse(text)) return MASK;
  const { protocol, username, password, host, pathname, search } = new URL(text);
  const user = username === '' && password === '' ? '' : `${MASK}@`;
  return `${protocol}//${user}${host}${pathname}${search === '' ? '' : `?${MASK}`}`;
}
