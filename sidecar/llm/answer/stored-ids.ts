/** Reads, in passing, the ids of what an upstream stores: files, batches, cached prompts, and what else a plain answer names. */
import { type Headers, textOf } from '../shared/headers.ts';
import type { Operation } from '../shared/operation.ts';

/** Longer answers are lists, of which the beginning is read. */
const MAX_BYTES = 65_536;
const MAX_IDS = 200;
/** `id` of most APIs, `output_file_id` of batches, and `name` of Gemini's, which has the collection in it. */
const NAMED = /"(?:(?:id|[a-z_]*file_id)"\s*:\s*"([\w.:-]{4,128})"|name"\s*:\s*"([a-z]+\/[\w.-]{1,128})")/gi;
const STORING: ReadonlySet<Operation> = new Set(['files', 'batches', 'other']);
const JSON_TYPE = /^application\/(?:[\w.-]+\+)?json\b/i;

/** Whether an answer may name what its upstream stores. */
export function mayNameStored(operation: Operation, headers: Headers): boolean {
  if (!STORING.has(operation)) return false;
  const encoding = textOf(headers['content-encoding']) ?? 'identity';
  return encoding === 'identity' && JSON_TYPE.test(textOf(headers['content-type']) ?? '');
}

export class StoredIds {
  private text = '';

  push(chunk: Buffer): void {
    const room = MAX_BYTES - this.text.length;
    if (room > 0) this.text += chunk.toString('latin1', 0, room);
  }

  take(): readonly string[] {
    const ids: string[] = [];
    for (const [, id, name] of this.text.matchAll(NAMED)) {
      ids.push(id ?? name ?? '');
      if (ids.length === MAX_IDS) break;
    }
    this.text = '';
    return ids;
  }
}
