/** Places in a YAML text where values can go in, change or go away, by the ranges of its parsed nodes. */
import {
  isAlias,
  isMap,
  isNode,
  isPair,
  isScalar,
  isSeq,
  type Node,
  type Pair,
  stringify,
  type YAMLMap,
  type YAMLSeq,
} from 'yaml';
import type { Json } from './json.ts';

/** One change of a text: the characters from `start` up to `end` become `text`. */
export interface TextEdit {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

/** How new parts of a text are written, so that they fit the old ones. */
export interface TextStyle {
  readonly text: string;
  readonly lineEnd: '\n' | '\r\n';
  /** Whether lists are indented below their key. */
  readonly indentSeq: boolean;
  /** The text is JSON, whose flow style has quotes everywhere. */
  readonly isJson: boolean;
}

export function styleOf(text: string): TextStyle {
  return {
    text,
    lineEnd: text.includes('\r\n') ? '\r\n' : '\n',
    indentSeq: !/^( *)[\w"']+:[^\n]*\n\1- /m.test(text),
    isJson: /^\s*\{\s*("|\})/.test(text),
  };
}

/** The value on one line. */
export function flowText(value: Json, { isJson }: TextStyle, padding = true): string {
  if (isJson) return JSON.stringify(value);
  const options = {
    lineWidth: 0,
    collectionStyle: 'flow',
    schema: 'yaml-1.1',
    flowCollectionPadding: padding,
  } as const;
  return stringify(value, options).replace(/\n$/, '').replaceAll(/\n\s*/g, ' ');
}

/** The value on lines of their own, each after so many spaces. Ends with a line end. */
export function blockText(value: Json, indent: number, { lineEnd, indentSeq }: TextStyle): string {
  const options = { lineWidth: 0, indentSeq, schema: 'yaml-1.1', aliasDuplicateObjects: false } as const;
  const lines = stringify(value, options).replace(/\n$/, '').split('\n');
  return lines.map((line) => (line === '' ? '' : ' '.repeat(indent) + line) + lineEnd).join('');
}

/** A scalar in place of another, with the same quotes. */
export function scalarText(node: Node, value: Json, style: TextStyle): string {
  const type = isScalar(node) ? node.type : undefined;
  if (typeof value === 'string' && type === 'QUOTE_DOUBLE') return JSON.stringify(value);
  if (typeof value === 'string' && type === 'QUOTE_SINGLE' && !/[\n\r]/.test(value))
    return `'${value.replaceAll("'", "''")}'`;
  return flowText(value, style);
}

/** The node of a pair's value, or of its key where the value is empty. */
function lastNode(pair: Pair): Node | undefined {
  if (isNode(pair.value) && (pair.value.range?.[1] ?? 0) > 0) return pair.value;
  return isNode(pair.key) ? pair.key : undefined;
}

/** Where the contents of a node end: before comments and empty lines that follow. */
export function contentEnd(node: Node | undefined): number {
  if (node === undefined) return -1;
  if ((isMap(node) || isSeq(node)) && node.flow !== true && node.items.length > 0) {
    const last: unknown = node.items.at(-1);
    return contentEnd(isPair(last) ? lastNode(last) : isNode(last) ? last : undefined);
  }
  return node.range?.[1] ?? -1;
}

export function endOfPair(pair: Pair): number {
  return contentEnd(lastNode(pair));
}

/** The start of the line after a position: where new lines go. The last line of a text may have no end. */
function nextLine(text: string, position: number): number {
  if (text[position - 1] === '\n') return position;
  const end = text.indexOf('\n', position);
  return end < 0 ? text.length : end + 1;
}

/** New lines behind a position. */
export function linesAfter(position: number, lines: string, { text, lineEnd }: TextStyle): TextEdit {
  const start = nextLine(text, position);
  const isUnended = start === text.length && text[start - 1] !== '\n';
  return { start, end: start, text: isUnended ? lineEnd + lines.slice(0, -lineEnd.length) : lines };
}

function lineStart(text: string, position: number): number {
  return text.lastIndexOf('\n', position - 1) + 1;
}

function isBlank(text: string): boolean {
  return text.trim() === '';
}

/** New lines in front of a list's item, and of the comments above it. Undefined: the item has no line of its own. */
export function linesBefore(position: number, lines: string, { text }: TextStyle): TextEdit | undefined {
  let start = lineStart(text, position);
  if (!/^\s*-\s*([&!]\S+\s+)*$/.test(text.slice(start, position))) return undefined;
  for (let above = lineStart(text, start - 1); start > 0; above = lineStart(text, start - 1)) {
    if (!/^\s*#/.test(text.slice(above, start))) break;
    start = above;
  }
  return { start, end: start, text: lines };
}

/** Takes a pair out of its map. */
export function withoutPair(map: YAMLMap, index: number, { text }: TextStyle): TextEdit | undefined {
  const pair = map.items[index]!;
  const start = startOf(pair);
  const end = endOfPair(pair);
  const next = map.items[index + 1];
  const previous = map.items[index - 1];
  if (map.flow === true) {
    if (next !== undefined) return { start, end: startOf(next), text: '' };
    return { start: previous === undefined ? start : endOfPair(previous), end, text: '' };
  }
  if (next === undefined && previous === undefined) return { start, end, text: '{}' };
  const line = lineStart(text, start);
  if (isBlank(text.slice(line, start))) return { start: line, end: nextLine(text, end), text: '' };
  // The first key stands behind a dash: the next one takes its place.
  if (next === undefined) return undefined;
  const between = text.slice(end, startOf(next));
  if (!/\n\s*#/.test(between)) return { start, end: startOf(next), text: '' };
  return { start, end: nextLine(text, end) - 1, text: '' };
}

export function startOf(pair: Pair): number {
  return isNode(pair.key) ? (pair.key.range?.[0] ?? 0) : 0;
}

/** The column of a block collection's keys or dashes; undefined for flow style. */
export function indentOf(node: YAMLMap | YAMLSeq): number | undefined {
  const token = node.srcToken;
  if (node.flow === true || token === undefined) return undefined;
  return token.type === 'block-map' || token.type === 'block-seq' ? token.indent : undefined;
}

/** A further entry of a flow collection, at its end or in front of an item. */
export function flowEntry(
  node: YAMLMap | YAMLSeq,
  entry: string,
  { text }: TextStyle,
  before?: Node,
): TextEdit {
  const start = node.range![0];
  if (before !== undefined) {
    const at = before.range![0];
    return { start: at, end: at, text: `${entry}, ` };
  }
  const last: unknown = node.items.at(-1);
  const end = isPair(last) ? endOfPair(last) : isNode(last) ? contentEnd(last) : -1;
  if (end >= 0) return { start: end, end, text: `, ${entry}` };
  const padding = text[start + 1] === ' ' || isAlias(node) ? '' : ' ';
  return { start: start + 1, end: start + 1, text: isMap(node) ? `${padding}${entry}${padding}` : entry };
}

/** Whether the text pads its flow maps: `{ a: b }` and not `{a: b}`. A list has the style of its last item. */
export function isPadded(node: YAMLMap | YAMLSeq, style: TextStyle): boolean {
  const last: unknown = node.items.at(-1);
  if (isSeq(node) && isMap(last) && last.flow === true) return isPadded(last, style);
  return node.items.length === 0 || /\s/.test(style.text[node.range![0] + 1] ?? ' ');
}
