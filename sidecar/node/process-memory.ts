/** Says how much memory the process may have. */
import { totalmem } from 'node:os';

/** The bound of its container, or the machine's memory, in bytes. */
export function processBytes(): number {
  const constrained = process.constrainedMemory();
  // Where nothing bounds the process, Node returns 0, or more than the machine has.
  return constrained > 0 ? Math.min(constrained, totalmem()) : totalmem();
}
