// How long tests wait for what has to come.

/**
 * The time after which a test gives up what it waits for, in milliseconds. Only a test that fails ever waits so long, so
 * it is chosen for the slowest machine, with others at work on it, and well below the runner's limit for a file.
 */
export const PATIENCE_MS = 60_000;
