/**
 * Puts the configuration together: defaults, then the file, then environment variables, then flags.
 * Either all of it is right, or every problem is told at once and nothing is used.
 */
import type { Config } from './config.ts';
import { toConfig } from './convert.ts';
import { applyOverrides, type Override } from './overrides.ts';
import { formatPath, type Path, type Problem } from './problems.ts';
import { type Environment, type Notice, providerNotices, withProvider } from './provider-environment.ts';
import { valueAt } from './raw-values.ts';
import { redact } from './redact.ts';
import { type Finding, validate } from './validate.ts';
import { type ParsedFile, parseYaml, readConfigFile, type Yaml } from './yaml-file.ts';

export interface LoadInputs {
  /** The YAML file; `undefined` for none. */
  readonly path: string | undefined;
  /** In the order they are laid on top of the file. */
  readonly overrides: readonly Override[];
  /** The parser; needed when there is a file or an override. */
  readonly yaml: Yaml | undefined;
  /** Where the provider of models may be named; empty when it is left out. */
  readonly env?: Environment;
}

export interface LoadedConfig {
  readonly config: Config;
  /** The same in the file's form with every default, for eyes: without secrets. */
  readonly effective: Readonly<Record<string, unknown>>;
  /** Settings that work, but perhaps not as the operator meant them. For people to read; holds no secrets. */
  readonly notices: readonly Notice[];
}

export type LoadResult = LoadedConfig | { readonly problems: readonly Problem[] };

/** Reads the file again and gives the configuration, or every problem. Never throws. */
export function loadConfig({ path, overrides, yaml, env = {} }: LoadInputs): LoadResult {
  let file: ParsedFile = { value: {}, locate: () => undefined };
  if (path !== undefined) {
    const read = readConfigFile(path);
    if ('problem' in read) return { problems: [read.problem] };
    const parsed = parseYaml(yaml!, read.text, path);
    if ('problems' in parsed) return parsed;
    file = parsed;
  }
  const overridden = applyOverrides(file.value, overrides, yaml);
  const value = withProvider(overridden.value, env);
  const validated = validate(value);
  const findings = 'findings' in validated ? validated.findings : [];
  const problems = [
    ...findings.map((finding) => locate(finding, path ?? 'defaults', file, overridden.origins)),
    ...overridden.problems,
  ];
  if (problems.length > 0 || !('file' in validated)) return { problems: problems.sort(byPlace) };
  return {
    config: toConfig(validated.file),
    effective: redact(validated.file),
    notices: providerNotices(validated.file, valueAt(value, ['llm', 'upstreams']) !== undefined, env),
  };
}

/** A value that an override set (or one inside it) is the override's fault, any other the file's. */
function locate(
  { path, part, message, remedy }: Finding,
  filePath: string,
  file: ParsedFile,
  origins: readonly { readonly path: Path; readonly source: string }[],
): Problem {
  const covers = (outer: Path, inner: Path) => outer.every((step, index) => inner[index] === step);
  const origin =
    origins.findLast((candidate) => covers(candidate.path, path)) ??
    (file.locate(path, part) === undefined
      ? origins.findLast(({ path: set }) => covers(path, set))
      : undefined);
  const position = origin === undefined ? file.locate(path, part) : undefined;
  return {
    path: formatPath(path),
    source: origin?.source ?? filePath,
    line: position?.line,
    column: position?.column,
    message,
    remedy,
  };
}

/** In the order of the file; what has no line comes last. */
function byPlace(a: Problem, b: Problem): number {
  const line = (problem: Problem) => problem.line ?? Number.MAX_SAFE_INTEGER;
  return line(a) - line(b) || (a.column ?? 0) - (b.column ?? 0);
}
