/** What the proxy reads from a response head or from trailers. */
import { GOING_AWAY_HEADER } from '../grpc/hop-fields.ts';
import { parseStatus, type StatusCode } from '../grpc/status.ts';
import type { MessageHead } from '../http2/head.ts';
import { copyWithout, type HeaderList } from '../http2/hpack/header-list.ts';
import { parsePushback } from '../policy/pushback.ts';
import { isGrpcContentType } from './request-info.ts';
import { HTTP_STATUS_HEADER, isSidecarField, REASON_HEADER, RETRIES_ENDED_HEADER } from './sidecar-fields.ts';

/** Derived once for each header list. */
export class ResponseInfo {
  /** -1 when there is no `grpc-status`. */
  readonly status: StatusCode | -1;
  readonly contentType: string | undefined;
  /** Whether the response can be gRPC. A response without content-type may be. */
  readonly grpc: boolean;
  /** `outrigger-reason`: the peer's sidecar answered in place of its app. '' when the app did. */
  readonly peerReason: string = '';
  /** `outrigger-http-status`: the HTTP status that its app answered in place of gRPC; 0 without one. */
  readonly upstreamHttpStatus: number = 0;
  /** `outrigger-going-away`. */
  readonly goingAway: boolean = false;
  /** `outrigger-retries-ended`. */
  readonly retriesEnded: boolean = false;
  /** `grpc-retry-pushback-ms`; undefined without one. */
  readonly pushbackMs: number | undefined = undefined;

  private readonly list: HeaderList;
  private ofApp: HeaderList | undefined = undefined;

  constructor(list: HeaderList, head: MessageHead) {
    this.list = list;
    const value = list.getTrimmed('grpc-status');
    this.status = value === undefined ? -1 : parseStatus(value);
    this.contentType = head.kind === 'response' ? list.getTrimmed('content-type') : undefined;
    const typed = this.contentType === undefined || isGrpcContentType(this.contentType);
    if (this.status > 0) {
      this.peerReason = list.getTrimmed(REASON_HEADER) ?? '';
      if (this.peerReason !== '') this.upstreamHttpStatus = Number(list.get(HTTP_STATUS_HEADER) ?? 0) || 0;
      this.goingAway = list.get(GOING_AWAY_HEADER) !== undefined;
      this.retriesEnded = list.get(RETRIES_ENDED_HEADER) !== undefined;
      const pushback = list.getTrimmed('grpc-retry-pushback-ms');
      if (pushback !== undefined) this.pushbackMs = parsePushback(pushback);
    }
    this.grpc = typed && (head.kind !== 'response' || head.status === 200);
  }

  /**
   * The list without the fields that only a sidecar may send. An app may have copied them from an answer that it
   * received; in its own answer they would say that the app has seen nothing of the call, or that its connection is
   * going away.
   */
  get asApp(): HeaderList {
    this.ofApp ??= hasSidecarField(this.list) ? copyWithout(this.list, isSidecarField) : this.list;
    return this.ofApp;
  }
}

/** `grpc-encoding` of a response's head, the compression of its messages; '' without one. */
export function encodingOf(list: HeaderList): string {
  return list.getTrimmed('grpc-encoding') ?? '';
}

function hasSidecarField({ fields }: HeaderList): boolean {
  for (let i = 0; i < fields.length; i += 2) if (isSidecarField(fields[i]!)) return true;
  return false;
}

declare module '../http2/head.ts' {
  interface DerivedFacts {
    response: ResponseInfo;
  }
}

export function responseInfo(list: HeaderList, head: MessageHead): ResponseInfo {
  if (head.derived instanceof ResponseInfo) return head.derived;
  const info = new ResponseInfo(list, head);
  head.derived = info;
  return info;
}
