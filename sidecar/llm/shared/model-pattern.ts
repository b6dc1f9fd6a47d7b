/** Matches names of models against the patterns of `llm.models`: a name, or a glob with `*` for any characters. Pure. */

export function isGlob(pattern: string): boolean {
  return pattern.includes('*');
}

export function matcherOf(pattern: string): (model: string) => boolean {
  if (!isGlob(pattern)) return (model) => model === pattern;
  const parts = pattern.split('*');
  const first = parts[0]!;
  const last = parts.at(-1)!;
  const middle = parts.slice(1, -1);
  // Each part is looked for once from left to right, so that no name takes long.
  return (model) => {
    if (!model.startsWith(first) || model.length < first.length + last.length) return false;
    let at = first.length;
    for (const part of middle) {
      const found = model.indexOf(part, at);
      if (found < 0) return false;
      at = found + part.length;
    }
    return model.length - last.length >= at && model.endsWith(last);
  };
}

/** Whether each name that `later` takes is one that `earlier` takes; false where that is not certain. */
export function covers(earlier: string, later: string): boolean {
  if (!isGlob(earlier)) return earlier === later;
  // A star of the later pattern stands for any text: one that no name has is as good as all of them.
  return matcherOf(earlier)(later.replaceAll('*', '\u0001'));
}
