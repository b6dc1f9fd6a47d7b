/**
 * Changes values in a YAML text and nothing else: comments, quotes, flow style, anchors and line ends stay byte for
 * byte. The result is parsed again and compared; where an edit can't say the change, the caller learns it.
 */
import {
  type Document,
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  type Node,
  type Pair,
  visit,
  type YAMLMap,
  type YAMLSeq,
} from 'yaml';
import { TypedError } from '../../errors/typed-error.ts';
import { at, isObject, type Json, type JsonObject } from './json.ts';
import { same } from './json-patch.ts';
import {
  blockText,
  contentEnd,
  endOfPair,
  flowEntry,
  flowText,
  indentOf,
  isPadded,
  linesAfter,
  linesBefore,
  scalarText,
  startOf,
  styleOf,
  type TextEdit,
  type TextStyle,
  withoutPair,
} from './yaml-places.ts';

/** An edit can't express the change. */
class NoPlace extends TypedError {
  override readonly name = 'NoPlace';
  override readonly source = 'downstream';
  override readonly isSafeToRetry = false;

  constructor() {
    super('the text has no place for the change; the document is written anew');
  }
}

/**
 * @param document the parsed text, with its source tokens
 * @returns undefined if the change can't be made in place
 */
export function editText(text: string, document: Document, before: Json, after: Json): string | undefined {
  const editor = new Editor(text, document);
  try {
    editor.visit(document.contents, before, after);
  } catch (error) {
    if (error instanceof NoPlace) return undefined;
    throw error;
  }
  return applied(text, editor.edits);
}

function applied(text: string, edits: readonly TextEdit[]): string | undefined {
  // Edits of one place stay in their order.
  const ordered = edits
    .map((edit, order) => ({ ...edit, order }))
    .sort((a, b) => a.start - b.start || a.order - b.order);
  let result = '';
  let from = 0;
  for (const { start, end, text: replacement } of ordered) {
    if (start < from || end < start) return undefined;
    result += text.slice(from, start) + replacement;
    from = end;
  }
  return result + text.slice(from);
}

class Editor {
  readonly edits: TextEdit[] = [];
  private readonly style: TextStyle;
  private readonly hasAliases: boolean;
  /** What each anchor's value becomes. */
  private readonly anchors = new Map<string, Json>();

  constructor(text: string, document: Document) {
    this.style = styleOf(text);
    this.hasAliases = hasAliases(document);
  }

  /** Changes one value. With aliases in the text every value is visited, because a change of one may change others. */
  visit(node: unknown, before: Json, after: Json): void {
    if (!this.hasAliases && same(before, after)) return;
    if (isAlias(node)) {
      const now = this.anchors.get(node.source);
      if (now === undefined ? !same(before, after) : !same(now, after)) this.replace(node, after);
      return;
    }
    if (!isNode(node)) throw new NoPlace();
    const { anchor } = node as { anchor?: string };
    if (anchor !== undefined) this.anchors.set(anchor, after);
    if (isMap(node) && isObject(before) && isObject(after)) this.map(node, before, after);
    else if (isSeq(node) && Array.isArray(before) && Array.isArray(after)) this.list(node, before, after);
    else if (!same(before, after)) this.replace(node, after);
  }

  private replace(node: Node, after: Json): void {
    const [start, end] = node.range ?? [0, 0];
    if (isScalar(node) && (typeof after !== 'object' || after === null)) {
      if (node.type === 'BLOCK_LITERAL' || node.type === 'BLOCK_FOLDED') throw new NoPlace();
      this.edits.push({
        start,
        end,
        text: spaced(this.style.text, start, scalarText(node, after, this.style)),
      });
      return;
    }
    const isBlock = (isMap(node) || isSeq(node)) && node.flow !== true;
    // A block collection becomes flow style in its place.
    const last = isBlock ? contentEnd(node) : end;
    this.edits.push({ start, end: last, text: spaced(this.style.text, start, flowText(after, this.style)) });
  }

  private map(node: YAMLMap, before: JsonObject, after: JsonObject): void {
    const own = new Set<string>();
    let merged: JsonObject = {};
    const removed: number[] = [];
    for (const [index, pair] of node.items.entries()) {
      const key = keyOf(pair);
      if (isMerge(pair)) {
        const now = this.mergedBy(pair.value);
        // A merge that would bring in what this map shall not have gives way to keys of its own.
        if (Object.keys(now).every((name) => Object.hasOwn(after, name))) merged = { ...now, ...merged };
        else removed.push(index);
        continue;
      }
      own.add(key);
      if (Object.hasOwn(after, key)) this.visit(pair.value, at(before, key) ?? null, after[key]!);
      else removed.push(index);
    }
    // Neighbours that go away together would overlap.
    if (removed.length > 1 && removed.length < node.items.length) throw new NoPlace();
    const isLast = removed.at(-1) === node.items.length - 1;
    const added = Object.entries(after).filter(
      ([key, value]) => !own.has(key) && !(Object.hasOwn(merged, key) && same(merged[key]!, value)),
    );
    if (isLast && removed.length === 1 && added.length > 0) {
      this.swapLast(node, added);
      return;
    }
    for (const index of removed) this.push(withoutPair(node, index, this.style));
    if (added.length > 0) this.addKeys(node, added);
  }

  /** Puts new keys in the place of a map's last one. */
  private swapLast(node: YAMLMap, added: readonly (readonly [string, Json])[]): void {
    const pair = node.items.at(-1)!;
    const place = { start: startOf(pair), end: endOfPair(pair) };
    if (node.flow === true) {
      this.edits.push({
        ...place,
        text: added.map(([key, value]) => this.flowPair(node, key, value)).join(', '),
      });
      return;
    }
    const indent = indentOf(node);
    if (indent === undefined) throw new NoPlace();
    const lines = added.map(([key, value]) => blockText({ [key]: value }, indent, this.style)).join('');
    const { lineEnd } = this.style;
    this.edits.push({ ...place, text: lines.slice(indent, -lineEnd.length) });
  }

  private flowPair(node: YAMLMap, key: string, value: Json): string {
    const name = this.style.isJson ? JSON.stringify(key) : flowText(key, this.style);
    return `${name}: ${flowText(value, this.style, isPadded(node, this.style))}`;
  }

  private mergedBy(value: unknown): JsonObject {
    // Of several sources the first wins.
    if (isSeq(value))
      return Object.assign({}, ...value.items.toReversed().map((item) => this.mergedBy(item)));
    const now = isAlias(value) ? this.anchors.get(value.source) : undefined;
    if (isObject(now)) return now;
    throw new NoPlace();
  }

  private addKeys(node: YAMLMap, added: readonly (readonly [string, Json])[]): void {
    if (node.flow === true) {
      const entries = added.map(([key, value]) => this.flowPair(node, key, value));
      this.edits.push(flowEntry(node, entries.join(', '), this.style));
      return;
    }
    const indent = indentOf(node);
    const last = node.items.at(-1);
    if (indent === undefined || last === undefined) throw new NoPlace();
    const lines = added.map(([key, value]) => blockText({ [key]: value }, indent, this.style));
    this.edits.push(linesAfter(endOfPair(last), lines.join(''), this.style));
  }

  private list(node: YAMLSeq, before: readonly Json[], after: readonly Json[]): void {
    const more = after.length - before.length;
    if (more < 0 || node.items.length !== before.length) throw new NoPlace();
    const differs = more === 0 ? -1 : before.findIndex((item, index) => !isAlike(item, after[index]!));
    const place = differs < 0 ? before.length : differs;
    for (const [index, item] of before.entries())
      this.visit(node.items[index], item, after[index < place ? index : index + more]!);
    if (more > 0) this.addItems(node, place, after.slice(place, place + more));
  }

  private addItems(node: YAMLSeq, place: number, items: readonly Json[]): void {
    const next = node.items[place];
    if (node.flow === true) {
      const padding = isPadded(node, this.style);
      const entries = items.map((item) => flowText(item, this.style, padding)).join(', ');
      this.edits.push(flowEntry(node, entries, this.style, isNode(next) ? next : undefined));
      return;
    }
    const indent = indentOf(node);
    if (indent === undefined || node.items.length === 0) throw new NoPlace();
    const lines = blockText(items as Json[], indent, this.style);
    if (isNode(next)) this.push(linesBefore(next.range![0], lines, this.style));
    else this.edits.push(linesAfter(contentEnd(node), lines, this.style));
  }

  private push(edit: TextEdit | undefined): void {
    if (edit === undefined) throw new NoPlace();
    this.edits.push(edit);
  }
}

function hasAliases(document: Document): boolean {
  let found = false;
  visit(document, {
    Alias() {
      found = true;
      return visit.BREAK;
    },
  });
  return found;
}

/** With merges on, the parser reads `<<` as a symbol. */
function isMerge({ key }: Pair): boolean {
  return isScalar(key) && (key.value === '<<' || typeof key.value === 'symbol');
}

function keyOf(pair: Pair): string {
  return isScalar(pair.key) ? String(pair.key.value) : '';
}

/** Named items are compared by name, as other changes of theirs are made in place. */
function isAlike(one: Json, other: Json): boolean {
  const name = at(one, 'name');
  return typeof name === 'string' ? at(other, 'name') === name : same(one, other);
}

/** A value right behind the colon of its key needs a space. */
function spaced(text: string, start: number, value: string): string {
  return text[start - 1] === ':' ? ` ${value}` : value;
}
