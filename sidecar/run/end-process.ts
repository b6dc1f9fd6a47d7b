/** Time for open resources to close; longer than a flush of spans takes. */
const LINGER_MS = 3_000;

/**
 * Ends the process with this code, at the latest after a while. For an end without calls to finish: whatever would still
 * keep the process, such as a request that its server does not answer, must not. The timer itself keeps nothing.
 */
export function endProcessSoon(code: number): void {
  setTimeout(() => process.exit(code), LINGER_MS).unref();
}
