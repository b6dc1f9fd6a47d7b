/** Formats numbers and names for findings. */

/** Formats a duration: `0.2 s`, `8 s`, `3 min`. */
export function spanOf(ms: number): string {
  const seconds = ms / 1000;
  if (seconds < 1) return `${Math.max(Math.round(ms), 1)} ms`;
  if (seconds < 10) return `${Math.round(seconds * 10) / 10} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return `${Math.round(seconds / 60)} min`;
}

/** `1 call waits`, `3 calls wait`: pass the verb in the singular. */
export function counted(count: number, noun: string, verb = ''): string {
  const subject = count === 1 ? `1 ${noun}` : `${count} ${noun}s`;
  if (verb === '') return subject;
  return `${subject} ${count === 1 ? verb : (PLURALS[verb] ?? verb.replace(/s$/, ''))}`;
}

const PLURALS: Readonly<Record<string, string>> = { is: 'are', was: 'were', has: 'have' };

/** `package.Service/Method` without its package. */
export function shortMethod(method: string): string {
  return method.replace(/^\/?(?:[^/]*\.)?([^/.]+\/[^/]+)$/, '$1') || '(no method)';
}

/** Joins the parts that are not empty. */
export function joined(separator: string, ...parts: readonly string[]): string {
  return parts.filter((part) => part !== '').join(separator);
}
