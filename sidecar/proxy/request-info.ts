import { parseTimeout, SHORTEST_TIMEOUT_MS } from '../grpc/timeout.ts';
import type { MessageHead } from '../http2/head.ts';
import { HeaderList } from '../http2/hpack/header-list.ts';
import { parsePreviousAttempts } from '../policy/pushback.ts';
import type { MethodStats } from '../telemetry/call-stats.ts';
import type { Route } from './router.ts';

export const PREVIOUS_ATTEMPTS = 'grpc-previous-rpc-attempts';

/**
 * What a proxy reads from a request's head. Derived once for each header list: callers that repeat themselves,
 * as gRPC clients do, pay for it once a connection.
 */
export class RequestInfo {
  /** Other HTTP/2 requests are relayed too, but are answered and judged by HTTP's rules. */
  grpc = false;
  /** From `grpc-timeout`; 0 without one. */
  timeoutMs = 0;
  timeoutMalformed = false;
  /** Attempts that hops before this one have made, by their `grpc-previous-rpc-attempts`. */
  previousAttempts = 0;
  /** Kept here between calls of the same head, with the router they came from. */
  route: Route | undefined = undefined;
  routedBy: unknown = undefined;
  methodStats: MethodStats | undefined = undefined;
  statsFrom: unknown = undefined;
  private readonly list: HeaderList;
  private stripped: HeaderList | undefined = undefined;

  constructor(list: HeaderList) {
    this.list = list;
    const fields = list.fields;
    for (let i = 0; i < fields.length; i += 2) {
      const name = fields[i]!;
      if (name === 'content-type') this.grpc = isGrpcContentType(fields[i + 1]!);
      else if (name === 'grpc-timeout') this.readTimeout(fields[i + 1]!);
      else if (name === PREVIOUS_ATTEMPTS) this.previousAttempts = parsePreviousAttempts(fields[i + 1]!);
    }
  }

  private readTimeout(value: string): void {
    const timeoutMs = parseTimeout(value);
    if (Number.isNaN(timeoutMs)) this.timeoutMalformed = true;
    // 0 stands for "none" everywhere else; a caller that sends 0 has no time left.
    else this.timeoutMs = Math.max(timeoutMs, SHORTEST_TIMEOUT_MS);
  }

  /** The list without the fields that attempts write anew. */
  withoutVarying(): HeaderList {
    if (this.stripped !== undefined) return this.stripped;
    const { list } = this;
    this.stripped = list;
    if (this.timeoutMs > 0 || this.previousAttempts > 0) {
      const fields: string[] = [];
      const neverIndexed: number[] = [];
      for (let i = 0; i < list.fields.length; i += 2) {
        if (list.fields[i] === 'grpc-timeout' || list.fields[i] === PREVIOUS_ATTEMPTS) continue;
        if (list.neverIndexed?.includes(i >> 1)) neverIndexed.push(fields.length >> 1);
        fields.push(list.fields[i]!, list.fields[i + 1]!);
      }
      this.stripped = new HeaderList(fields, neverIndexed.length > 0 ? neverIndexed : undefined);
      this.stripped.shared = list.shared;
    }
    return this.stripped;
  }
}

/** gRPC over HTTP/2, "Content-Type": `application/grpc`, `application/grpc+proto`, `application/grpc;…`. */
export function isGrpcContentType(value: string): boolean {
  if (!value.startsWith('application/grpc')) return false;
  if (value.length === 16) return true;
  const next = value.charCodeAt(16);
  return next === 0x2b /* + */ || next === 0x3b /* ; */;
}

export function requestInfo(list: HeaderList, head: MessageHead): RequestInfo {
  if (head.derived instanceof RequestInfo) return head.derived;
  const info = new RequestInfo(list);
  head.derived = info;
  return info;
}
