/**
 * Assembles the configuration: defaults, then the file, then environment variables, then flags. Either all of it is
 * valid, or the result is every problem at once and no part of it is used.
 */
import { busNotices } from './bus-relations.ts';
import { certificateWarnings } from './certificate-dates.ts';
import { type Config, toConfig } from './config.ts';
import { journalNotices } from './journal-relations.ts';
import { serviceNotices } from './llm-service.ts';
import { chainNotices } from './llm-warnings.ts';
import { type Given, lossesOf, withoutOff } from './losses.ts';
import { applyOverrides, type Override } from './overrides.ts';
import { type Finding, formatPath, type Path, type Problem } from './problems.ts';
import { type Environment, type Notice, providerNotices, withProvider } from './provider-environment.ts';
import { valueAt } from './raw-values.ts';
import { redact } from './redact.ts';
import { withTargetClusters } from './target-clusters.ts';
import { validate } from './validate.ts';
import { findWarnings } from './warnings.ts';
import { type ParsedFile, parseYaml, readConfigFile, type Yaml } from './yaml-file.ts';

export interface LoadInputs {
  /** The YAML file; `undefined` for none. */
  readonly path: string | undefined;
  /** In the order in which they override the file. */
  readonly overrides: readonly Override[];
  /** The parser; required when there is a file or an override. */
  readonly yaml: Yaml | undefined;
  /** The variables that may name the provider of models; empty by default. */
  readonly env?: Environment;
  /** The configuration in use, which the file must not lose by accident. */
  readonly before?: Given | undefined;
  /** The file's text, if it is already read. */
  readonly text?: string | undefined;
}

export interface LoadedConfig {
  readonly config: Config;
  /** The same in the file's form with every default, for display: without secrets. */
  readonly effective: Readonly<Record<string, unknown>>;
  /** Settings that work, but perhaps not as the operator intended. For operators to read; they hold no secrets. */
  readonly notices: readonly Notice[];
  /** Settings that work, and are surely a mistake, each with its place in the file. */
  readonly warnings: readonly Problem[];
  /** Gives the place of a setting to what is wrong with it. */
  readonly locate: (finding: Finding) => Problem;
  /** The values before defaults; undefined where there is no file. */
  readonly given: Given | undefined;
}

export type LoadResult = LoadedConfig | { readonly problems: readonly Problem[] };

/** Reads the file again and returns the configuration, or every problem. Never throws. */
export function loadConfig({ path, overrides, yaml, env = {}, before, text }: LoadInputs): LoadResult {
  let file: ParsedFile = { value: {}, isWhole: true, locate: () => undefined };
  let given: Given | undefined;
  const read = path === undefined || text !== undefined ? { text: text ?? '' } : readConfigFile(path);
  if ('problem' in read) return { problems: [read.problem] };
  if (path !== undefined) {
    const parsed = parseYaml(yaml!, read.text, path);
    if ('problems' in parsed) return parsed;
    file = parsed;
  }
  const overridden = applyOverrides(file.value, overrides, yaml);
  if (path !== undefined) {
    const { value, isWhole } = file;
    given = { text: read.text, source: path, file: value, value: overridden.value, isWhole };
    const losses = before === undefined ? [] : lossesOf(before, given);
    if (losses.length > 0) return { problems: losses };
  }
  const value = withTargetClusters(withProvider(withoutOff(overridden.value), env));
  const validated = validate(value);
  const findings = 'findings' in validated ? validated.findings : [];
  const problems = [
    ...findings.map((finding) => locate(finding, path ?? 'defaults', file, overridden.origins)),
    ...overridden.problems,
  ];
  if (problems.length > 0 || !('file' in validated)) return { problems: problems.sort(byPlace) };
  const located = (finding: Finding) => locate(finding, path ?? 'defaults', file, overridden.origins);
  const isNamed = valueAt(value, ['llm', 'upstreams']) !== undefined;
  const warnings = [
    ...findWarnings(validated.file, value),
    ...certificateWarnings(validated.file, Date.now()),
  ];
  return {
    warnings: warnings.map(located).sort(byPlace),
    locate: located,
    config: toConfig(validated.file),
    effective: redact(validated.file),
    notices: [
      ...providerNotices(validated.file, isNamed, env),
      ...chainNotices(validated.file),
      ...serviceNotices(validated.file, env),
      ...busNotices(validated.file),
      ...journalNotices(validated.file, env),
    ],
    given,
  };
}

/** Attributes a problem to the override that set the value (or a part of it), and any other problem to the file. */
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

/** In the order of the file; problems without a line come last. */
function byPlace(a: Problem, b: Problem): number {
  const line = (problem: Problem) => problem.line ?? Number.MAX_SAFE_INTEGER;
  return line(a) - line(b) || (a.column ?? 0) - (b.column ?? 0);
}
