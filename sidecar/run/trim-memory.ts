import { flushCompileCache } from 'node:module';

/** After the start, and long enough before anybody looks at memory. */
const TRIM_AFTER_MS = 2_000;

/**
 * Starting leaves 15 to 20 MB that nobody will use again: the configuration's schema, compiled once, the source
 * text of every module. A sidecar that then idles would never collect it, so it is collected once, in a moment
 * without calls.
 */
export function trimMemoryWhenIdle(activeCalls: () => number): void {
  const trim = () => {
    if (activeCalls() > 0) {
      schedule();
      return;
    }
    // Otherwise written at the exit only, which a process that is killed never comes to.
    flushCompileCache();
    // Here, because loading them would be a thirtieth of the start.
    const { setFlagsFromString } = process.getBuiltinModule('node:v8');
    const { runInNewContext } = process.getBuiltinModule('node:vm');
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as (options: object) => void;
    setFlagsFromString('--no-expose-gc');
    collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
  };
  const schedule = () => setTimeout(trim, TRIM_AFTER_MS).unref();
  schedule();
}
