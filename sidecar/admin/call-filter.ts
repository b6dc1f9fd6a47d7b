/** What a request for `/calls` asks for: `?task=ID&method=PART&cluster=NAME&older_than=10s&limit=100`. */
import { parseDurationMs } from '../settings/duration.ts';

export interface CallFilter {
  /** The task's id or its correlation id; '' for every call. */
  readonly task: string;
  /** A part of the path, such as `ProcessTask`; '' for every method. */
  readonly method: string;
  readonly cluster: string;
  readonly olderThanMs: number;
  /** The number of calls to describe, oldest first. */
  readonly limit: number;
}

const DEFAULT_LIMIT = 100;
/** More lines help no reader, and each costs a look at its attempts. */
const MAX_LIMIT = 1_000;
const NAMES: ReadonlySet<string> = new Set(['task', 'method', 'cluster', 'older_than', 'limit', 'format']);

/** Returns the filter, or what is wrong with the query; the text has no part of the request. */
export function readCallFilter(query: URLSearchParams): CallFilter | string {
  for (const name of query.keys())
    if (!NAMES.has(name)) return 'an unknown parameter; use task, method, cluster, older_than or limit';
  const olderThanMs = parseDurationMs(query.get('older_than') ?? '0s');
  if (olderThanMs === undefined) return 'older_than takes a duration with its unit, such as 10s';
  const limit = Number(query.get('limit') ?? DEFAULT_LIMIT);
  if (!Number.isInteger(limit) || limit < 1 || limit > MAX_LIMIT)
    return `limit takes a whole number from 1 to ${MAX_LIMIT}`;
  return {
    task: query.get('task') ?? '',
    method: query.get('method') ?? '',
    cluster: query.get('cluster') ?? '',
    olderThanMs,
    limit,
  };
}
