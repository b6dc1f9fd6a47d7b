import { parseStatus, type StatusCode } from '../grpc/status.ts';
import type { MessageHead } from '../http2/head.ts';
import type { HeaderList } from '../http2/hpack/header-list.ts';

/** What a proxy reads from a response head or from trailers. Derived once for each header list. */
export class ResponseInfo {
  /** -1 when there is no `grpc-status`. */
  readonly status: StatusCode | -1;

  constructor(list: HeaderList) {
    const value = list.get('grpc-status');
    this.status = value === undefined ? -1 : parseStatus(value);
  }
}

export function responseInfo(list: HeaderList, head: MessageHead): ResponseInfo {
  if (head.derived instanceof ResponseInfo) return head.derived;
  const info = new ResponseInfo(list);
  head.derived = info;
  return info;
}
