import { readFileSync } from 'node:fs';

/** Outrigger's own version, from package.json. */
export function outriggerVersion(): string {
  const file = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(file) as { version: string }).version;
}
