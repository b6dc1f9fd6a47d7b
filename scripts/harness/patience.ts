// The time limit for waits in tests.

/**
 * The time limit of a test's wait, in milliseconds. Only a failing test waits this long, so it suits the slowest
 * machine under load, and stays well below the runner's limit for a file.
 */
export const PATIENCE_MS = 60_000;
