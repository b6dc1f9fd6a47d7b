/** Reads the YAML file, within bounds, and finds the line of a setting in it. */
import type { Document, Node, Pair, YAMLMap } from 'yaml';
import { FileError, readRegularFile } from '../files/regular-file.ts';
import type { Path, Problem } from './problems.ts';

export type Yaml = typeof import('yaml');

/** A configuration has a few kilobytes; a larger file is no configuration. */
export const MAX_FILE_BYTES = 1_048_576;
/** Enough for a cluster's settings shared by anchors; an alias bomb needs thousands. */
const MAX_ALIASES = 256;
/** Deeper than any setting. */
const MAX_DEPTH = 32;
/** The limit of reported syntax errors; one often causes others. */
const MAX_FLAWS = 10;
/** Tags that name YAML's built-in types. */
const PLAIN_TAGS = /^tag:yaml\.org,2002:(?:str|int|float|bool|null|map|seq|merge)$/;

interface Position {
  readonly line: number;
  readonly column: number;
}

export interface ParsedFile {
  /** Plain values, before validation. */
  readonly value: unknown;
  /** Whether the file has an end marker: a last line `...`, or it is one `{…}`. */
  readonly isWhole: boolean;
  /** The position of a setting, or of the nearest enclosing section in the file. */
  locate(path: Path, part: 'key' | 'value'): Position | undefined;
}

/** Reads the text, or reports why not. Follows symbolic links, because config maps are mounted that way. */
export function readConfigFile(path: string): { text: string } | { problem: Problem } {
  let bytes: Buffer;
  try {
    bytes = readRegularFile(path, MAX_FILE_BYTES);
  } catch (error) {
    if (!(error instanceof FileError)) throw error;
    if (error.code === 'NOT_REGULAR')
      return fail(path, 'is not a regular file', 'give the path of a YAML file');
    if (error.code === 'TOO_LARGE') return fail(path, 'is larger than 1 MiB', 'is it the right file?');
    if (error.code === 'ENOENT') return fail(path, 'does not exist', 'check the path given by --config');
    return fail(path, `can not be read: ${error.code}`, 'check its permissions');
  }
  try {
    return { text: new TextDecoder('utf-8', { fatal: true }).decode(bytes) };
  } catch {
    return fail(path, 'is not UTF-8 text', 'save it as UTF-8');
  }
}

function fail(source: string, message: string, remedy: string): { problem: Problem } {
  return { problem: { path: '', source, line: undefined, column: undefined, message, remedy } };
}

/** Parses YAML 1.2 with merge keys (`<<`); returns syntax errors as problems. */
export function parseYaml(
  yaml: Yaml,
  text: string,
  source: string,
): ParsedFile | { problems: readonly Problem[] } {
  const lineCounter = new yaml.LineCounter();
  const at = (offset: number): Position => {
    const { line, col } = lineCounter.linePos(offset);
    return { line, column: col };
  };
  try {
    const document = yaml.parseDocument(text, {
      lineCounter,
      merge: true,
      // The parser's check for duplicates compares every key with every other: a minute for 1 MiB of keys.
      uniqueKeys: false,
      // Pretty errors would copy lines of the file, which may hold secrets, into the messages.
      prettyErrors: false,
      logLevel: 'error',
    });
    const flaws = document.errors.length > 0 ? syntaxFlaws(document) : inspectNodes(yaml, document.contents);
    if (flaws.length > 0) {
      const problems = flaws.slice(0, MAX_FLAWS).map(({ offset, message, remedy }) => {
        return { path: '', source, ...at(offset), message, remedy };
      });
      return { problems };
    }
    const value: unknown = document.toJS({ maxAliasCount: MAX_ALIASES }) ?? {};
    const { contents, directives } = document;
    const isWhole = directives.docEnd || (yaml.isMap(contents) && contents.flow === true);
    const locate = (path: Path, part: 'key' | 'value') => {
      const offset = offsetOf(yaml, document, path, part);
      return offset === undefined ? undefined : at(offset);
    };
    return { value, isWhole, locate };
  } catch {
    // toJS throws for an alias without its anchor, and for too many aliases.
    const message = 'has aliases (*name) that can not be followed';
    const remedy = `use at most ${MAX_ALIASES}, each after its anchor (&name)`;
    return { problems: [{ path: '', source, line: undefined, column: undefined, message, remedy }] };
  }
}

interface Flaw {
  readonly offset: number;
  readonly message: string;
  readonly remedy: string;
}

function syntaxFlaws(document: Document.Parsed): Flaw[] {
  const exhausted = document.errors.find((error) => error.code === 'RESOURCE_EXHAUSTION');
  if (exhausted !== undefined) return [tooDeep(exhausted.pos[0])];
  return document.errors.map(({ code, pos }) => {
    return { offset: pos[0], message: syntaxMessage(code), remedy: syntaxRemedy(code) };
  });
}

function tooDeep(offset: number): Flaw {
  return { offset, message: 'is nested too deep', remedy: 'check the brackets and the indentation' };
}

/**
 * Refuses what YAML allows and a configuration does not: duplicate keys, keys that are no text, custom tags, deep
 * nesting.
 */
function inspectNodes(yaml: Yaml, node: unknown, around: readonly string[] = [], depth = 0): Flaw[] {
  if (!yaml.isNode(node)) return [];
  const offset = node.range?.[0] ?? 0;
  if (yaml.isAlias(node)) {
    if (!around.includes(node.source)) return [];
    return [{ offset, message: 'this alias is inside its own anchor', remedy: 'write the values out' }];
  }
  const inside = node.anchor === undefined ? around : [...around, node.anchor];
  if (depth > MAX_DEPTH) return [tooDeep(offset)];
  if (node.tag !== undefined && !PLAIN_TAGS.test(node.tag)) {
    return [
      { offset, message: 'has a tag (!name)', remedy: 'remove the tag: values are plain text and numbers' },
    ];
  }
  if (yaml.isSeq(node)) return node.items.flatMap((item) => inspectNodes(yaml, item, inside, depth + 1));
  if (!yaml.isMap(node)) return [];
  const seen = new Set<string>();
  return node.items.flatMap(({ key, value }) => {
    const keyOffset = (key as Node | null)?.range?.[0] ?? offset;
    if (!yaml.isScalar(key) || typeof key.value === 'object' || key.value === '__proto__') {
      return [{ offset: keyOffset, message: 'this key is not a name', remedy: 'write a plain word' }];
    }
    const name = String(key.value);
    const twice = seen.has(name);
    seen.add(name);
    const remedy = 'keep one of the two';
    const flaws = inspectNodes(yaml, value, inside, depth + 1);
    return twice
      ? [{ offset: keyOffset, message: 'this key is given twice in one section', remedy }, ...flaws]
      : flaws;
  });
}

function syntaxMessage(code: string): string {
  const messages: Record<string, string> = {
    MULTIPLE_DOCS: 'a second document begins here (---)',
    BAD_INDENT: 'the indentation does not fit the lines before',
    TAB_AS_INDENT: 'a tab is used for indentation',
    BLOCK_AS_IMPLICIT_KEY: 'a ":" or an indented block is where none can be',
    MISSING_CHAR: 'a quote, bracket or comma is missing',
  };
  return messages[code] ?? `is not YAML here (${code.toLowerCase().replaceAll('_', ' ')})`;
}

function syntaxRemedy(code: string): string {
  const remedies: Record<string, string> = {
    MULTIPLE_DOCS: 'a configuration is one document: remove the others',
    TAB_AS_INDENT: 'indent with spaces',
  };
  return remedies[code] ?? 'check the indentation and the quotes; [IPv6]:port and text with ": " need quotes';
}

/** Follows `path` through the document's nodes as far as it exists. */
function offsetOf(yaml: Yaml, document: Document.Parsed, path: Path, part: 'key' | 'value') {
  let node = document.contents as Node | null;
  let offset = node?.range?.[0] ?? undefined;
  for (const [index, step] of path.entries()) {
    if (yaml.isAlias(node)) node = node.resolve(document) ?? null;
    const isLast = index === path.length - 1;
    if (yaml.isMap(node)) {
      const pair = findPair(yaml, document, node, String(step));
      if (pair === undefined) return offset;
      const key = pair.key as Node;
      const value = pair.value as Node | null;
      const wantsKey = !isLast || part === 'key';
      offset = (wantsKey ? key.range?.[0] : (value?.range?.[0] ?? key.range?.[0])) ?? offset;
      node = value;
    } else if (yaml.isSeq(node) && typeof step === 'number') {
      node = (node.items[step] as Node | undefined) ?? null;
      offset = node?.range?.[0] ?? offset;
    } else {
      return offset;
    }
  }
  return offset;
}

function findPair(yaml: Yaml, document: Document.Parsed, map: YAMLMap, key: string): Pair | undefined {
  const own = map.items.find((pair) => yaml.isScalar(pair.key) && String(pair.key.value) === key);
  if (own !== undefined) return own;
  for (const pair of map.items) {
    if (!yaml.isScalar(pair.key) || pair.key.source !== '<<') continue;
    const merged = yaml.isAlias(pair.value) ? pair.value.resolve(document) : pair.value;
    const found = yaml.isMap(merged) ? merged.items.find((inner) => isKey(yaml, inner, key)) : undefined;
    if (found !== undefined) return found;
  }
  return undefined;
}

function isKey(yaml: Yaml, pair: Pair, key: string): boolean {
  return yaml.isScalar(pair.key) && String(pair.key.value) === key;
}
