/** The source of the running sidecar's configuration, which it reads again on every change. */
import type { Config } from './config.ts';
import { LastGood } from './last-good.ts';
import { type LoadedConfig, type LoadResult, loadConfig } from './load.ts';
import type { Given } from './losses.ts';
import { CONFIG_VARIABLE, type Override, overridesFromEnv } from './overrides.ts';
import type { Finding, Problem } from './problems.ts';
import type { Notice } from './provider-environment.ts';
import { fingerprintOf, type StopWatching, untilStill, watchFile } from './watch.ts';

export interface ConfigSource {
  /** The configuration in use: the first, or the latest that was adopted. */
  readonly current: Config;
  /** `current` in the file's form with every default, for display: without secrets. */
  readonly effective: Readonly<Record<string, unknown>>;
  /** Settings of `current` that work, but perhaps not as the operator intended. */
  readonly notices: readonly Notice[];
  /** Settings of `current` that work, and are surely a mistake. */
  readonly warnings: readonly Problem[];
  /** Gives the place of a setting of `current` to what is wrong with it. */
  readonly locate: (finding: Finding) => Problem;
  /** The path of the file; `undefined` when there is none and the configuration can't change. */
  readonly path: string | undefined;
  /** The problems of the file, if the first configuration is the last good one instead. */
  readonly refused: readonly Problem[];
  /** Reads everything again. `current` stays until `adopt`. */
  load(): LoadResult;
  /** The same, after the file has stopped changing. */
  loadWhenStill(): Promise<LoadResult>;
  /**
   * Stores the file of `current` for a later start with a broken one, if --last-good asked for that.
   *
   * @returns why it failed; undefined for success
   */
  keep(): string | undefined;
  /** The running sidecar uses this configuration: it becomes `current`. */
  adopt(loaded: LoadedConfig): void;
  /** Loads the file at each change, and reports the outcome. */
  watch(
    onLoaded: (loaded: LoadedConfig) => void,
    onProblems: (problems: readonly Problem[]) => void,
  ): StopWatching;
}

export interface SourceOptions {
  /** From --config; `OUTRIGGER_CONFIG` when absent. */
  readonly path: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  /** The settings of the flags, which override the environment. */
  readonly flags: readonly Override[];
  /** How often we check the file; for tests. */
  readonly watchIntervalMs?: number;
  /** From --last-good: the folder that stores the last file in use. */
  readonly lastGood?: string | undefined;
}

/** Loads for the first time: returns a source, or every problem. */
export async function openConfigSource(
  options: SourceOptions,
): Promise<{ source: ConfigSource } | { problems: readonly Problem[] }> {
  const path = options.path ?? (options.env[CONFIG_VARIABLE] || undefined);
  const overrides = [...overridesFromEnv(options.env), ...options.flags];
  // The parser takes longer to load than to run: a sidecar without a file starts without it.
  const yaml = path === undefined && overrides.length === 0 ? undefined : await import('yaml');
  const load = (before: Given | undefined, text?: string) =>
    loadConfig({ path, overrides, yaml, env: options.env, before, text });
  const fingerprint = path === undefined ? '' : fingerprintOf(path);
  const lastGood = options.lastGood === undefined ? undefined : new LastGood(options.lastGood);
  const keptText = path === undefined ? undefined : lastGood?.read();
  const keptResult = keptText === undefined ? undefined : load(undefined, keptText);
  const kept = keptResult !== undefined && 'config' in keptResult ? keptResult : undefined;
  const first = load(kept?.given);
  const refused = 'problems' in first ? first.problems : [];
  const used = 'problems' in first ? kept : first;
  if (used === undefined) return { problems: refused };
  const watch = (onChange: () => void): StopWatching => {
    if (path === undefined) return () => {};
    return watchFile(path, fingerprint, onChange, options.watchIntervalMs);
  };
  return { source: createSource({ path, first: used, refused, load, watch, lastGood }) };
}

interface SourceParts {
  readonly path: string | undefined;
  readonly first: LoadedConfig;
  readonly refused: readonly Problem[];
  readonly load: (before: Given | undefined) => LoadResult;
  readonly watch: (onChange: () => void) => StopWatching;
  readonly lastGood: LastGood | undefined;
}

function createSource({ path, first, refused, load, watch, lastGood }: SourceParts): ConfigSource {
  let adopted = first;
  const reload = () => load(adopted.given);
  return {
    path,
    refused,
    load: reload,
    async loadWhenStill() {
      if (path !== undefined) await untilStill(path);
      return reload();
    },
    adopt(loaded) {
      adopted = loaded;
    },
    keep() {
      return adopted.given === undefined ? undefined : lastGood?.keep(adopted.given.text);
    },
    get current() {
      return adopted.config;
    },
    get effective() {
      return adopted.effective;
    },
    get notices() {
      return adopted.notices;
    },
    get warnings() {
      return adopted.warnings;
    },
    get locate() {
      return adopted.locate;
    },
    watch(onLoaded, onProblems) {
      return watch(() => {
        const result = reload();
        if ('config' in result) onLoaded(result);
        else onProblems(result.problems);
      });
    },
  };
}
