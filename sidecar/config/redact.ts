/**
 * The configuration for display. It never holds keys (only the names of their variables), but a URL can carry a
 * password or a token; those are masked.
 */
import { isSecretHeader } from '../llm/shared/provider-credentials.ts';
import type { FileConfig } from './schema.ts';

const MASK = '***';

/** A copy without secrets. */
export function redact(file: FileConfig): Record<string, unknown> {
  const upstreams = file.llm.upstreams.map((upstream) => ({
    ...upstream,
    url: redactUrl(upstream.url),
    headers: redactHeaders(upstream.headers),
  }));
  const servers = Object.entries(file.mcp.servers).map(([name, server]) => [
    name,
    { ...server, url: redactUrl(server.url), headers: redactHeaders(server.headers) },
  ]);
  return {
    ...file,
    llm: { ...file.llm, upstreams },
    mcp: { ...file.mcp, servers: Object.fromEntries(servers) },
  };
}

function redactHeaders(headers: Readonly<Record<string, string>>): Record<string, string> {
  const shown = Object.entries(headers).map(([name, value]) => [name, isSecretHeader(name) ? MASK : value]);
  return Object.fromEntries(shown);
}

/** The URL with its user, password and query masked. */
export function redactUrl(text: string): string {
  if (!URL.canParse(text)) return MASK;
  const { protocol, username, password, host, pathname, search } = new URL(text);
  const user = username === '' && password === '' ? '' : `${MASK}@`;
  return `${protocol}//${user}${host}${pathname}${search === '' ? '' : `?${MASK}`}`;
}
