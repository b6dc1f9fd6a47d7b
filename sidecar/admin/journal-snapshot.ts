/** The state of the journal, for `/stats` and `/live`. It has no text of requests or answers. */
import type { Sidecar } from '../data-plane/sidecar.ts';

/** Null while no answers are kept. */
export function journalSnapshot({ journal, config }: Sidecar) {
  if (!journal.isOn) return null;
  const { stored, replayed, missed, unstored, late, differences } = journal.stats;
  return {
    store: config.journal.store ?? '',
    connected: journal.connected,
    problem: journal.problem,
    stored,
    replayed,
    missed,
    unstored,
    late,
    /** Of the requests of later runs, the share that had an answer; null before the first. */
    hit_rate: replayed + missed === 0 ? null : replayed / (replayed + missed),
    differences: differences.map(({ atMs, taskId, path, fromByte, toByte, at }) => ({
      at: new Date(atMs).toISOString(),
      task_id: taskId,
      path,
      from_byte: fromByte,
      to_byte: toByte,
      in: at,
    })),
  };
}
