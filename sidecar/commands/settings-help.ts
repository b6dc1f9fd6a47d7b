/** The list of settings for `--help`, from the committed JSON Schema. */
import schema from '../config/schema.json' with { type: 'json' };

interface Node {
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly default?: unknown;
  readonly properties?: Readonly<Record<string, Node>>;
  readonly additionalProperties?: Node | boolean;
}

/** One line a setting: the flag, its default and its description. */
export function settingsHelp(): string {
  const lines = [...settings(schema as Node, '')].map(({ path, node }) => {
    const fallback =
      node.default === undefined ? '' : ` [${JSON.stringify(node.default).replace(/^"|"$/g, '')}]`;
    return `  --${path}${fallback}\n      ${node.description ?? ''}`;
  });
  return `  --config FILE\n      The YAML file; OUTRIGGER_CONFIG names it too
  --last-good DIR\n      Of run: keeps the last file that was in use there, for a start whose own file is broken\n${lines.join('\n')}

Lists and maps are written as YAML in one line: --outbound.clusters '{writing: {dns: "writing:50051"}}'
`;
}

function* settings(node: Node, path: string): Generator<{ path: string; node: Node }> {
  for (const [key, inner] of Object.entries(node.properties ?? {})) {
    const innerPath = path === '' ? key : `${path}.${key}`;
    if (inner.properties !== undefined) {
      yield* settings(inner, innerPath);
      continue;
    }
    yield { path: innerPath, node: inner };
    if (typeof inner.additionalProperties === 'object' && innerPath === 'outbound.clusters') {
      yield* settings(inner.additionalProperties, `${innerPath}.NAME`);
    }
  }
}
