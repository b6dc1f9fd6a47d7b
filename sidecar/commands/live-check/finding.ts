/** What a look at the network found: one result for each target. */
import type { Path } from '../../config/problems.ts';

export interface LiveResult {
  /** `problem`: calls will fail. `warning`: they may. */
  readonly level: 'ok' | 'warning' | 'problem';
  /** The setting. */
  readonly path: Path;
  /** The address, name or URL; never with credentials. */
  readonly target: string;
  readonly message: string;
  /** What to do; '' where all is well. */
  readonly remedy: string;
  /** What was sent there, where that is more than a connection. */
  readonly sent?: string;
}

export function ok(path: Path, target: string, message: string): LiveResult {
  return { level: 'ok', path, target, message, remedy: '' };
}

export function warning(path: Path, target: string, message: string, remedy: string): LiveResult {
  return { level: 'warning', path, target, message, remedy };
}

export function problem(path: Path, target: string, message: string, remedy: string): LiveResult {
  return { level: 'problem', path, target, message, remedy };
}

/** How long one look may take. */
export const LOOK_MS = 5_000;

/** Resolves as `work` does, or with `late` after `ms`. */
export async function within<Result>(ms: number, work: Promise<Result>, late: Result): Promise<Result> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<Result>((resolve) => {
    timer = setTimeout(() => resolve(late), ms);
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}
