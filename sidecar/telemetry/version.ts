import { readFileSync } from 'node:fs';

let version: string | undefined;

/** Outrigger's own version, from package.json: of the sidecar, not of the app beside it. */
export function outriggerVersion(): string {
  if (version !== undefined) return version;
  const file = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  version = (JSON.parse(file) as { version: string }).version;
  return version;
}
