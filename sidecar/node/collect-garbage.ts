/** Runs V8's garbage collector. */

/** What V8's `gc` takes; without options it collects everything, at once. */
interface CollectionOptions {
  readonly type: 'major';
  readonly execution: 'sync';
  readonly flavor: 'last-resort';
}

let collector: ((options?: CollectionOptions) => void) | undefined;

export function collectGarbage(options?: CollectionOptions): void {
  if (collector === undefined) {
    // Loaded here, because loading them earlier would take a thirtieth of the start.
    const { setFlagsFromString } = process.getBuiltinModule('node:v8');
    const { runInNewContext } = process.getBuiltinModule('node:vm');
    setFlagsFromString('--expose-gc');
    collector = runInNewContext('gc') as (options?: CollectionOptions) => void;
    setFlagsFromString('--no-expose-gc');
  }
  if (options === undefined) collector();
  else collector(options);
}
