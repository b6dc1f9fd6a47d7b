/** Bounds the log beside the file (`-wal`) about once a second, and gives free pages back to the disk. */
import { statSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';

/** A write-ahead log above this is moved into the file and cut. It grows so far only where others read all the time. */
const WAL_BYTES = 16 << 20;
/** Free pages that stay for what comes next: 4 MiB. */
const FREE_PAGES = 1_000;
/** Others wait while pages are moved. */
const PAGES_AT_ONCE = 1_000;

export function upkeep(db: DatabaseSync, path: string): void {
  if (walBytes(path) > WAL_BYTES) db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  const { freelist_count } = db.prepare('PRAGMA freelist_count').get() as { freelist_count: number };
  if (freelist_count > FREE_PAGES) db.exec(`PRAGMA incremental_vacuum(${PAGES_AT_ONCE})`);
}

function walBytes(path: string): number {
  return statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0;
}
