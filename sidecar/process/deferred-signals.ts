import { endProcess } from '../node/end-process.ts';

/** The signals that end a sidecar. */
export const ENDING_SIGNALS = ['SIGTERM', 'SIGINT'] as const;

const deferred: NodeJS.Signals[] = [];

function defer(signal: NodeJS.Signals): void {
  deferred.push(signal);
  // Whoever asks twice does not want to wait for the start.
  if (deferred.length > 1) endProcess(1);
}

/**
 * Takes signals from the beginning of the start. The first process of a container is sent none that it does not ask for:
 * an early SIGTERM would be lost, and the container killed when its time is over.
 */
export function deferSignals(): void {
  for (const signal of ENDING_SIGNALS) process.on(signal, defer);
}

/** What has come meanwhile, in order. From now on the caller listens itself. */
export function takeDeferredSignals(): readonly NodeJS.Signals[] {
  for (const signal of ENDING_SIGNALS) process.off(signal, defer);
  return deferred.splice(0);
}
