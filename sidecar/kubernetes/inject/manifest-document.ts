/** Parses one YAML document of a manifest, within bounds. No message quotes the text, which may hold a secret anywhere. */
import {
  Composer,
  type Document,
  isAlias,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  Lexer,
  type Node,
  type ParsedNode,
  Parser,
  type Tags,
} from 'yaml';
import { TypedError } from '../../errors/typed-error.ts';
import type { Json } from './json.ts';

/** A document that is not valid YAML; the message names its line in the whole text. */
export class ManifestError extends TypedError {
  override readonly name = 'ManifestError';
  override readonly source = 'downstream';
  override readonly isSafeToRetry = false;
}

/**
 * YAML 1.1 as Kubernetes' own parser accepts it, including `0644` and `yes`; without types that JSON lacks, and without
 * sexagesimal numbers, which that parser does not support either.
 */
export const YAML_OPTIONS = {
  schema: 'yaml-1.1',
  merge: true,
  logLevel: 'silent',
  keepSourceTokens: true,
  customTags: (tags: Tags) =>
    tags.filter(
      (tag) =>
        typeof tag === 'string' ||
        ((tag as { format?: string }).format !== 'TIME' &&
          !/:(timestamp|binary|omap|pairs|set)$/.test(tag.tag)),
    ),
} as const;

/** More alias expansions than this are an attack or a mistake ("billion laughs"). */
const MAX_ALIASES = 1_000;
/** Deeper than any object of Kubernetes, and far from the end of the stack. */
const MAX_DEPTH = 200;
/** The parser has up to two tokens for each level: the collection, and the pair or the item in it. */
const MAX_TOKENS = 2 * MAX_DEPTH;

const TOO_DEEP = 'the text is nested too deeply; check the brackets and the indentation';

/** What the parser's codes mean. Its own messages quote the text. */
const MEANINGS: Readonly<Record<string, string>> = {
  ALIAS_PROPS: 'an alias (*name) has an anchor or a tag; remove one of the two',
  BAD_ALIAS: 'an alias (*name) or an anchor (&name) has no valid name; quote text that begins with * or &',
  BAD_COLLECTION_TYPE: 'a tag (!name) does not fit the list or map behind it; remove the tag',
  BAD_DQ_ESCAPE: 'double quotes hold an escape that YAML does not know; write \\\\ for a backslash',
  BAD_INDENT: 'the indentation does not fit the lines before it',
  BAD_SCALAR_START: 'text begins with a character that YAML reserves; put it in quotes',
  BLOCK_AS_IMPLICIT_KEY: 'a colon or an indented block is where none can be; quote text that has ": " in it',
  BLOCK_IN_FLOW: 'an indented block is inside brackets or braces',
  DUPLICATE_KEY: 'a map has the same key twice; remove one of them',
  KEY_OVER_1024_CHARS: 'a key has more than 1024 characters; a quote or a line end may be missing',
  MISSING_CHAR: 'a quote, a bracket, a comma, a colon or a space is missing',
  MULTILINE_IMPLICIT_KEY: 'a key goes over more than one line; a colon or a quote may be missing',
  MULTIPLE_ANCHORS: 'a value has two anchors (&name); remove one of them',
  MULTIPLE_TAGS: 'a value has two tags (!name); remove one of them',
  RESOURCE_EXHAUSTION: TOO_DEEP,
  TAB_AS_INDENT: 'a tab is used as indentation; use spaces',
  TAG_RESOLVE_FAILED: 'a value does not fit its tag (!name); remove the tag',
  UNEXPECTED_TOKEN:
    'a character is where YAML does not expect it; check the brackets, the commas and the quotes',
};

interface ManifestDocument {
  readonly document: Document<ParsedNode>;
  readonly value: Json;
}

/** Throws a {@link ManifestError} whose line counts from `firstLine`, the line where the text begins. */
export function parseManifest(text: string, firstLine: number): ManifestDocument {
  const fail = (offset: number, problem: string): never => {
    throw new ManifestError(`line ${firstLine + linesOf(text.slice(0, offset))}: ${problem}`);
  };
  const document = composed(text, fail);
  const [error] = document.errors;
  if (error !== undefined) {
    const problem = MEANINGS[error.code] ?? `this is not YAML (${error.code})`;
    fail(error.pos[0], problem);
  }
  inspect(document.contents, { fail, heights: new Map(), open: new Set() }, 0);
  try {
    return { document, value: document.toJS({ maxAliasCount: MAX_ALIASES }) as Json };
  } catch {
    return fail(
      0,
      `the document from here has more than ${MAX_ALIASES} uses of aliases (*name), or a merge key (<<) of what is no map; write them out`,
    );
  }
}

export function linesOf(text: string): number {
  return text.split('\n').length - 1;
}

type Fail = (offset: number, problem: string) => never;

/** The first document of a text. The parser counts its levels, because the composer would run out of stack. */
function composed(text: string, fail: Fail): Document<ParsedNode> {
  const tokens = function* () {
    const parser = new Parser();
    for (const lexeme of new Lexer().lex(text)) {
      yield* parser.next(lexeme);
      if (parser.stack.length > MAX_TOKENS) fail(parser.offset, TOO_DEEP);
    }
    yield* parser.end();
  };
  const [document] = new Composer(YAML_OPTIONS).compose(tokens(), true, text.length);
  return document as unknown as Document<ParsedNode>;
}

interface Inspection {
  readonly fail: Fail;
  /** How many levels the node of an anchor has. */
  readonly heights: Map<string, number>;
  /** The anchors around a node. */
  readonly open: Set<string>;
}

/** Refuses what the parser accepts and no value can come of; returns the levels of a node, aliases included. */
function inspect(node: unknown, inspection: Inspection, depth: number): number {
  if (!isNode(node)) return 0;
  const { fail, heights, open } = inspection;
  const offset = node.range?.[0] ?? 0;
  if (isAlias(node)) {
    if (open.has(node.source))
      fail(offset, 'an alias (*name) is inside its own anchor (&name); write it out');
    const height = heights.get(node.source);
    if (height === undefined)
      return fail(offset, 'an alias (*name) has no anchor (&name) before it; quote text that begins with *');
    if (depth + height > MAX_DEPTH) fail(offset, TOO_DEEP);
    return height;
  }
  if (depth > MAX_DEPTH) fail(offset, TOO_DEEP);
  const anchor = node.anchor;
  // Inside a second anchor of the same name the first one is hidden.
  const isNew = anchor !== undefined && !open.has(anchor);
  if (isNew) open.add(anchor);
  let height = 0;
  for (const inner of innerNodes(node, fail))
    height = Math.max(height, inspect(inner, inspection, depth + 1));
  if (isNew) open.delete(anchor);
  if (anchor !== undefined) heights.set(anchor, height + 1);
  return height + 1;
}

function innerNodes(node: Node, fail: Fail): unknown[] {
  if (isSeq(node)) return node.items.flatMap((item) => (isPair(item) ? [item.key, item.value] : [item]));
  if (!isMap(node)) return [];
  return node.items.flatMap(({ key, value }) => {
    if (isScalar(key) && key.source === '<<' && isScalar(value) && key.type === 'PLAIN')
      fail(value.range?.[0] ?? 0, 'a merge key (<<) takes a map or an alias (*name) of one');
    return [key, value];
  });
}
