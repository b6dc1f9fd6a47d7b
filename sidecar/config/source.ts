/** Where the running sidecar gets its configuration from, again and again. */
import type { Config } from './config.ts';
import { type LoadedConfig, type LoadResult, loadConfig } from './load.ts';
import { CONFIG_VARIABLE, type Override, overridesFromEnv } from './overrides.ts';
import type { Problem } from './problems.ts';
import type { Notice } from './provider-environment.ts';
import { fingerprintOf, type StopWatching, watchFile } from './watch.ts';

export interface ConfigSource {
  /** The one in use: the first, or the latest that was adopted. */
  readonly current: Config;
  /** `current` in the file's form with every default, for eyes: without secrets. */
  readonly effective: Readonly<Record<string, unknown>>;
  /** Settings of `current` that work, but perhaps not as the operator meant them. */
  readonly notices: readonly Notice[];
  /** The file; `undefined` when there is none and nothing can change. */
  readonly path: string | undefined;
  /** Reads everything again. `current` stays until the result is adopted. */
  load(): LoadResult;
  /** The running sidecar has taken this configuration: it is `current` from now on. */
  adopt(loaded: LoadedConfig): void;
  /** Loads whenever the file changes, and tells the outcome. */
  watch(
    onLoaded: (loaded: LoadedConfig) => void,
    onProblems: (problems: readonly Problem[]) => void,
  ): StopWatching;
}

export interface SourceOptions {
  /** From --config; `OUTRIGGER_CONFIG` when absent. */
  readonly path: string | undefined;
  readonly env: NodeJS.ProcessEnv;
  /** What the flags set; on top of the environment. */
  readonly flags: readonly Override[];
  /** How often the file is looked at; for tests. */
  readonly watchIntervalMs?: number;
}

/** Loads for the first time: a source, or every problem. */
export async function openConfigSource(
  options: SourceOptions,
): Promise<{ source: ConfigSource } | { problems: readonly Problem[] }> {
  const path = options.path ?? (options.env[CONFIG_VARIABLE] || undefined);
  const overrides = [...overridesFromEnv(options.env), ...options.flags];
  // The parser takes longer to load than to run: a sidecar without a file starts without it.
  const yaml = path === undefined && overrides.length === 0 ? undefined : await import('yaml');
  const load = () => loadConfig({ path, overrides, yaml, env: options.env });
  const fingerprint = path === undefined ? '' : fingerprintOf(path);
  const first = load();
  if ('problems' in first) return first;
  const watch = (onChange: () => void): StopWatching => {
    if (path === undefined) return () => {};
    return watchFile(path, fingerprint, onChange, options.watchIntervalMs);
  };
  return { source: createSource(path, first, load, watch) };
}

function createSource(
  path: string | undefined,
  first: LoadedConfig,
  reload: () => LoadResult,
  watch: (onChange: () => void) => StopWatching,
): ConfigSource {
  let adopted = first;
  return {
    path,
    load: reload,
    adopt(loaded) {
      adopted = loaded;
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
    watch(onLoaded, onProblems) {
      return watch(() => {
        const result = reload();
        if ('config' in result) onLoaded(result);
        else onProblems(result.problems);
      });
    },
  };
}
