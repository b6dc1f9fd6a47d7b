// A scanner for the imports of a TypeScript file, and a search for circles among files.

/** The module names that a source text imports or re-exports, types included. */
export function importsOf(source: string): string[] {
  return [...valueImportsOf(source), ...typeImportsOf(source)];
}

function typeImportsOf(source: string): string[] {
  const statement = /^(?:import|export)\s+type\s[^'"`;]*?\bfrom\s*['"]([^'"]+)['"]/gm;
  return [...source.matchAll(statement)].map((match) => match[1]!);
}

/** The same without `import type`, which is gone when the program runs. */
export function valueImportsOf(source: string): string[] {
  const names: string[] = [];
  // A statement starts its line (biome formats it so), which keeps strings and comments out.
  const statement =
    /^(?:import|export)\s(?!\s*type\s)[^'"`;]*?\bfrom\s*['"]([^'"]+)['"]|^import\s*['"]([^'"]+)['"]/gm;
  for (const match of source.matchAll(statement)) names.push((match[1] ?? match[2])!);
  for (const match of source.matchAll(/\bimport\(\s*['"]([^'"]+)['"]\s*\)/g)) names.push(match[1]!);
  return names;
}

/** One circle in a graph, as the list of its nodes with the first one repeated at the end; undefined without one. */
export function findCycle(graph: ReadonlyMap<string, readonly string[]>): string[] | undefined {
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (node: string): string[] | undefined => {
    if (done.has(node)) return undefined;
    const at = path.indexOf(node);
    if (at >= 0) return [...path.slice(at), node];
    path.push(node);
    for (const next of graph.get(node) ?? []) {
      const cycle = visit(next);
      if (cycle !== undefined) return cycle;
    }
    path.pop();
    done.add(node);
    return undefined;
  };
  for (const node of graph.keys()) {
    const cycle = visit(node);
    if (cycle !== undefined) return cycle;
  }
  return undefined;
}
