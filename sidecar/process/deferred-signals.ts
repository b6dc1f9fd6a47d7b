/** Keeps signals that arrive before the sidecar can handle them. */
import { endProcess } from '../node/end-process.ts';

/** The signals that end a sidecar. */
export const ENDING_SIGNALS = ['SIGTERM', 'SIGINT'] as const;

const deferred: NodeJS.Signals[] = [];

function defer(signal: NodeJS.Signals): void {
  deferred.push(signal);
  // A second signal ends the process at once, before the start has finished.
  if (deferred.length > 1) endProcess(1);
}

/**
 * Receives signals from the beginning of the start, and keeps them until the sidecar handles them. The kernel sends the
 * first process of a container no signal that it does not handle: an early SIGTERM would be lost, and the container
 * killed at the end of its grace period.
 */
export function deferSignals(): void {
  for (const signal of ENDING_SIGNALS) process.on(signal, defer);
}

/** Returns the signals received so far, in order. From now on the caller handles signals itself. */
export function takeDeferredSignals(): readonly NodeJS.Signals[] {
  for (const signal of ENDING_SIGNALS) process.off(signal, defer);
  return deferred.splice(0);
}
