// What a sidecar says of itself at this moment: the `now` of its `/live`.
import type { Sidecar } from '../../scripts/harness/sidecar.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';

export interface Finding {
  readonly kind: string;
  readonly severity: 'bad' | 'warn';
  readonly text: string;
  readonly detail: string;
  readonly numbers: Readonly<Record<string, number>>;
  readonly since: string;
}

export interface Look {
  readonly well: boolean;
  readonly summary: string;
  readonly detail: string;
  /** Counts the looks, one a second. */
  readonly looks: number;
  readonly findings: readonly Finding[];
}

export async function lookOf({ adminPort }: Sidecar): Promise<Look> {
  const live = await fetch(`http://127.0.0.1:${adminPort}/live?format=json`);
  return ((await live.json()) as { now: Look }).now;
}

/** Waits until the first finding is of this kind and says this. */
export function untilFound(sidecar: Sidecar, kind: string, text: RegExp): Promise<Look> {
  return until(
    sidecar,
    `${kind} is found first`,
    ({ findings: [first] }) => first?.kind === kind && text.test(first.text),
  );
}

export function untilWell(sidecar: Sidecar): Promise<Look> {
  return until(sidecar, 'all is well', ({ well, looks }) => well && looks > 0);
}

async function until(sidecar: Sidecar, what: string, holds: (look: Look) => boolean): Promise<Look> {
  let latest: Look | undefined;
  try {
    return await waitUntil(
      what,
      async () => {
        latest = await lookOf(sidecar);
        return holds(latest) && latest;
      },
      { everyMs: 200 },
    );
  } catch (error) {
    throw new Error(`${(error as Error).message}; it says: ${JSON.stringify(latest?.findings, null, 1)}`);
  }
}
