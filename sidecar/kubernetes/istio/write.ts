/** Writes resources as YAML, each comment above its field. */
import {
  Document,
  isCollection,
  isMap,
  isPair,
  isScalar,
  type Node,
  type Pair,
  Scalar,
  visit,
  YAMLMap,
} from 'yaml';
import type { Note, Resource, ResourceSet } from './resource.ts';

const WIDTH = 112;

export function writeSet({ head, resources }: ResourceSet): string {
  const top = head.flatMap((text) => wrap(text, WIDTH)).map((line) => `#${line}\n`);
  return [top.join(''), ...resources.map(writeResource)].filter((text) => text !== '').join('---\n');
}

/** Joins several files to one stream. */
export function writeSets(sets: readonly ResourceSet[]): string {
  return sets.map(writeSet).join('---\n');
}

/** The kustomization that lists the files of the folder. */
export function writeKustomization(sets: readonly ResourceSet[]): string {
  const files = sets.filter(({ resources }) => resources.length > 0).map(({ name }) => `  - ${name}.yaml\n`);
  return `# Written by "outrigger istio --directory".\napiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:${files.length === 0 ? ' []\n' : `\n${files.join('')}`}`;
}

function writeResource({ object, notes }: Resource): string {
  // JSON removes undefined fields and shared objects, which YAML would write as aliases.
  const document = new Document(JSON.parse(JSON.stringify(object)));
  for (const each of notes) attach(document, each);
  visit(document, {
    // Quotes text that a YAML 1.1 parser would read as another type.
    Scalar: (_, node) => {
      if (typeof node.value === 'string' && /^(\d[\d:_]*|y|n|yes|no|on|off)$/i.test(node.value))
        node.type = Scalar.QUOTE_DOUBLE;
    },
  });
  return document.toString({ lineWidth: 0 });
}

function attach(document: Document, { at, text }: Note): void {
  let collection: Node | null = document.contents as Node | null;
  let depth = 0;
  let target: Pair | Node | undefined;
  for (const step of at) {
    if (!isCollection(collection)) break;
    const found: unknown = isMap(collection)
      ? collection.items.find((pair) => isScalar(pair.key) && pair.key.value === step)
      : collection.items[step as number];
    if (found === undefined) break;
    target = found as Pair | Node;
    collection = (isPair(found) ? found.value : found) as Node | null;
    depth++;
  }
  const holder = isPair(target)
    ? (target.key as Scalar)
    : target instanceof YAMLMap
      ? (target.items[0]?.key as Scalar)
      : target;
  if (holder === undefined) throw new Error(`no field at ${at.join('.')} that a comment could precede`);
  const lines = wrap(text, WIDTH - 2 * depth).join('\n');
  holder.commentBefore = holder.commentBefore ? `${holder.commentBefore}\n${lines}` : lines;
}

/** Wraps text to lines that begin with a space, as after a comment sign. */
function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  // Control characters in the configuration's names could end the comment.
  for (const word of text.replaceAll(/[\p{Cc}\u2028\u2029]/gu, '?').split(' ')) {
    if (line !== '' && line.length + word.length + 1 > width) {
      lines.push(line);
      line = ' ';
    }
    line += ` ${word}`;
  }
  lines.push(line);
  return lines;
}
