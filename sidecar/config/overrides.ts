/**
 * Environment variables and flags that override the file: `OUTRIGGER_INBOUND_APP`, `--inbound.app` and `--inbound-app`
 * all set `inbound.app`. The value replaces the file's; a section, list or map (written as YAML in one line) replaces
 * the whole. An override can also set a cluster's settings by its name: `OUTRIGGER_OUTBOUND_CLUSTERS_WRITING_TIMEOUT`,
 * `--outbound.clusters.writing.timeout`.
 */
import { formatPath, nearest, type Path, type Problem } from './problems.ts';
import { isSection, valueAt, withValue } from './raw-values.ts';
import { schema } from './schema.ts';
import { placeAt, settablePaths } from './schema-paths.ts';
import { parseYaml, type Yaml } from './yaml-file.ts';

/** One setting from outside the file; `source` is the name of the variable or flag, as written. */
export interface Override {
  readonly source: string;
  /** Without prefix, in lower case, with `_` between the words: `inbound_app`. */
  readonly name: string;
  /** The segments of a dotted flag; they can name a cluster that does not exist yet. */
  readonly segments: readonly string[] | undefined;
  /** `undefined` for a flag without a value. */
  readonly text: string | undefined;
}

export interface Overridden {
  readonly value: unknown;
  /** The path that each override set; later ones win. */
  readonly origins: readonly { readonly path: Path; readonly source: string }[];
  readonly problems: readonly Problem[];
}

const PREFIX = 'OUTRIGGER_';
/** The path of the file, like --config. */
export const CONFIG_VARIABLE = 'OUTRIGGER_CONFIG';
/** The address of tool servers for an agent: it is for the agent's container, and no setting. */
const MCP_URL_VARIABLE = 'OUTRIGGER_MCP_URL';
/**
 * Kubernetes sets such variables for every Service of the namespace. A Service named "outrigger" or "outrigger-webhook"
 * gets variables with our prefix that are no settings.
 */
const SERVICE_LINK =
  /^OUTRIGGER_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)?)$/;

/** The overrides in the environment, sections before their contents. */
export function overridesFromEnv(env: NodeJS.ProcessEnv): Override[] {
  return Object.keys(env)
    .filter((name) => name.startsWith(PREFIX) && name !== CONFIG_VARIABLE && name !== MCP_URL_VARIABLE)
    .sort((a, b) => a.length - b.length || (a < b ? -1 : 1))
    .map((source) => {
      const name = source.slice(PREFIX.length).toLowerCase();
      return { source, name, segments: undefined, text: env[source]! };
    });
}

/**
 * The overrides among command line arguments, and the remaining arguments. Forms: `--flag=value`, `--flag value`, and
 * `--flag` alone for booleans.
 */
export function overridesFromFlags(args: readonly string[]): { overrides: Override[]; rest: string[] } {
  const overrides: Override[] = [];
  const rest: string[] = [];
  for (let index = 0; index < args.length; index++) {
    const arg = args[index]!;
    if (!arg.startsWith('--') || arg === '--') {
      rest.push(arg);
      continue;
    }
    const equals = arg.indexOf('=');
    const source = equals < 0 ? arg : arg.slice(0, equals);
    const written = source.slice('--'.length);
    const name = written.toLowerCase().replaceAll(/[.-]/g, '_');
    const segments = written.includes('.') ? written.split('.') : undefined;
    let text = equals < 0 ? undefined : arg.slice(equals + 1);
    const next = args[index + 1];
    if (text === undefined && next !== undefined && takesNext(name, next)) {
      text = next;
      index++;
    }
    overrides.push({ source, name, segments, text });
  }
  return { overrides, rest };
}

function takesNext(name: string, next: string): boolean {
  const path = resolve({}, name, undefined);
  const isFlag = path !== undefined && placeAt(schema, path)?.kind === 'boolean';
  return isFlag ? /^(?:true|false)$/.test(next) : !next.startsWith('--');
}

/** `raw` with the overrides applied in order. */
export function applyOverrides(
  raw: unknown,
  overrides: readonly Override[],
  yaml: Yaml | undefined,
): Overridden {
  let value = raw;
  const origins: { path: Path; source: string }[] = [];
  const problems: Problem[] = [];
  for (const override of overrides) {
    const { source, name, segments, text } = override;
    const path = resolve(value, name, segments);
    if (path === undefined) {
      if (!SERVICE_LINK.test(source)) problems.push(unknown(value, override));
      continue;
    }
    const parsed = parseValue(path, text, yaml);
    if ('remedy' in parsed) {
      problems.push(problem(formatPath(path), source, parsed.message, parsed.remedy));
      continue;
    }
    value = withValue(value, path, parsed.value);
    origins.push({ path, source });
  }
  return { value, origins, problems };
}

/** The path that a name means: exact keys first, then the same words with `_` between all of them. */
function resolve(value: unknown, name: string, segments: readonly string[] | undefined): Path | undefined {
  if (segments !== undefined) {
    const exact = segments.map((segment, index) => {
      const isKey = placeAt(schema, segments.slice(0, index))?.kind === 'section';
      return isKey ? segment.replaceAll('-', '_') : segment;
    });
    const kinds = exact.map((_, index) => placeAt(schema, exact.slice(0, index))?.kind);
    if (placeAt(schema, exact) !== undefined && !kinds.includes('list')) return exact;
  }
  for (const path of settablePaths(schema, (map) => namesAt(value, map))) {
    if (words(path) === name) return path;
  }
  return undefined;
}

function namesAt(value: unknown, path: Path): readonly string[] {
  const map = valueAt(value, path);
  return isSection(map) ? Object.keys(map) : [];
}

function words(path: Path): string {
  return path
    .join('_')
    .toLowerCase()
    .replaceAll(/[^a-z0-9]/g, '_');
}

type Parsed = { readonly value: unknown } | { readonly message: string; readonly remedy: string };

/** Parses a text as the kind of value that belongs at `path`; the schema judges its form later. */
function parseValue(path: Path, text: string | undefined, yaml: Yaml | undefined): Parsed {
  const place = placeAt(schema, path)!;
  if (text === undefined) {
    if (place.kind === 'boolean') return { value: true };
    const form = 'form' in place ? place.form : 'YAML in one line';
    return { message: 'has no value', remedy: `give ${form} after it` };
  }
  if ('nullable' in place && place.nullable && text === 'null') return { value: null };
  switch (place.kind) {
    case 'text':
      return { value: text };
    case 'boolean':
      return { value: text === 'true' ? true : text === 'false' ? false : text };
    case 'number':
      return { value: /^-?\d+(?:\.\d+)?$/.test(text) ? Number(text) : text };
    case 'list':
      return parseYamlValue(yaml!, text, '[a, b]');
    case 'section':
    case 'map':
      return parseYamlValue(yaml!, text, '{key: value}');
    default:
      return place satisfies never;
  }
}

function parseYamlValue(yaml: Yaml, text: string, example: string): Parsed {
  const parsed = parseYaml(yaml, text, '');
  if ('value' in parsed) return { value: parsed.value };
  return { message: parsed.problems[0]!.message, remedy: `write YAML in one line: ${example}` };
}

function unknown(value: unknown, { source, name }: Override): Problem {
  const paths = [...settablePaths(schema, (map) => namesAt(value, map))];
  const close = nearest(name, paths.map(words));
  const path = paths.find((candidate) => words(candidate) === close);
  const isFlag = source.startsWith('--');
  if (path === undefined) {
    const remedy = isFlag
      ? '"outrigger run --help --all" lists the settings'
      : 'remove it; a variable is named after its setting';
    return problem('', source, 'is not a known setting', remedy);
  }
  const meant = isFlag ? `--${formatPath(path)}` : PREFIX + words(path).toUpperCase();
  return problem('', source, 'is not a known setting', `did you mean ${meant}?`);
}

function problem(path: string, source: string, message: string, remedy: string): Problem {
  return { path, source, line: undefined, column: undefined, message, remedy };
}
