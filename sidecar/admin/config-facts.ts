/** The mistakes in the configuration that "Now" reports: those that no fact of the running sidecar shows. */
import type { ConfigSource } from '../config/source.ts';

export type Configured = Pick<ConfigSource, 'notices' | 'warnings'>;

/** A configuration with more is another kind of problem. */
const MAX_MISTAKES = 20;

/** Certificates are left out, because "Now" reads the dates of those in use. */
export function configMistakes({ notices, warnings }: Configured) {
  const told = notices
    .filter(({ level }) => level === 'warn')
    .map(({ message }) => ({
      setting: /^[\w.[\]]*/.exec(message)![0],
      text: `${capital(message)}.`,
    }));
  const found = warnings
    .filter(({ path }) => !/\.tls\.[a-z_]+$/.test(path))
    .map(({ path, message, remedy }) => ({ setting: path, text: `${path} ${message}: ${remedy}.` }));
  return [...told, ...found].slice(0, MAX_MISTAKES);
}

function capital(text: string): string {
  return text.replace(/^(?=[a-z])/, 'The setting ');
}
