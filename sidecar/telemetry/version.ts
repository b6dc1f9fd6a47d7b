/** Outrigger's version. */
import { readFileSync } from 'node:fs';

let version: string | undefined;

/** Outrigger's version, from package.json: the sidecar's version, not the app's. */
export function outriggerVersion(): string {
  if (version !== undefined) return version;
  const file = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  version = (JSON.parse(file) as { version: string }).version;
  return version;
}
