// The lines by which two texts differ, for tests that hold what a program changes in a file.

/** `- line` for each line that is only in `before`, `+ line` for each that is only in `after`, in order. */
export function changedLines(before: string, after: string): string[] {
  const [old, next] = [linesOf(before), linesOf(after)];
  // The longest common subsequence, by its table of lengths.
  const width = next.length + 1;
  const lengths = new Uint32Array((old.length + 1) * width);
  for (let i = old.length - 1; i >= 0; i--)
    for (let j = next.length - 1; j >= 0; j--)
      lengths[i * width + j] =
        old[i] === next[j]
          ? lengths[(i + 1) * width + j + 1]! + 1
          : Math.max(lengths[(i + 1) * width + j]!, lengths[i * width + j + 1]!);
  const changes: string[] = [];
  let i = 0;
  let j = 0;
  while (i < old.length || j < next.length) {
    if (i < old.length && j < next.length && old[i] === next[j]) {
      i++;
      j++;
    } else if (
      j >= next.length ||
      (i < old.length && lengths[(i + 1) * width + j]! >= lengths[i * width + j + 1]!)
    )
      changes.push(`- ${old[i++]}`);
    else changes.push(`+ ${next[j++]}`);
  }
  return changes;
}

function linesOf(text: string): string[] {
  return text.replaceAll('\r', '\\r').split('\n');
}
