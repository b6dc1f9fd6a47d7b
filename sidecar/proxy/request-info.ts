import { acceptedEncodings } from '../grpc/message-encoding.ts';
import { followsRequestRules } from '../grpc/request-rules.ts';
import { isLongTimeout, parseTimeout, SHORTEST_TIMEOUT_MS } from '../grpc/timeout.ts';
import type { MessageHead } from '../http2/head.ts';
import { copyWithout, HeaderList, trimmed } from '../http2/hpack/header-list.ts';
import { BAGGAGE_HEADER } from '../policy/call-baggage.ts';
import { CALL_PATH_HEADER } from '../policy/call-path.ts';
import type { MethodKind } from '../policy/deadline.ts';
import { parsePreviousAttempts } from '../policy/pushback.ts';
import { parseTokenBudget, TOKEN_BUDGET_HEADER } from '../policy/token-budget.ts';
import { isUnaryPath, STREAM_PROCESS_PATH } from '../task/task-message.ts';
import type { CallStats, MethodStats } from '../telemetry/call-stats.ts';
import { callerScope } from './caller-scope.ts';
import { PassedIds } from './passed-ids.ts';
import type { Route, Router } from './router.ts';

export const PREVIOUS_ATTEMPTS = 'grpc-previous-rpc-attempts';

/**
 * What a proxy reads from a request's head. Derived once for each header list: callers that repeat themselves,
 * as gRPC clients do, pay for it once a connection.
 */
export class RequestInfo {
  /** Other HTTP/2 requests are relayed too, but are answered and judged by HTTP's rules. */
  grpc = false;
  /** Its path, without a query: that is content, and may hold a secret. By this it is counted, judged and named. */
  method = '';
  /** `:scheme`. */
  scheme = '';
  /** Of its method. */
  kind: MethodKind = 'unknown';
  /** `grpc-encoding`, by which messages may be compressed; '' without one. */
  encoding = '';
  /** `grpc-accept-encoding`; '' without one. */
  acceptEncoding = '';
  /** From `grpc-timeout`; 0 without one. */
  timeoutMs = 0;
  timeoutMalformed = false;
  /** It has more digits than gRPC allows, which not every server takes: it is written anew. */
  timeoutLong = false;
  /** Attempts that hops before this one have made, by their `grpc-previous-rpc-attempts`. */
  previousAttempts = 0;
  /** W3C trace context; '' without one. What stands there twice is none. */
  traceparent = '';
  /** Several in their order, joined by commas. */
  tracestate = '';
  /** Trace context as gRPC libraries sent it before: `grpc-trace-bin`. */
  traceBinary = '';
  /** Other ids that applications pass on; undefined when there is none of them. */
  passed: PassedIds | undefined = undefined;
  /** The agents that the call has come through (`policy/call-path.ts`); '' without any. */
  callPath = '';
  /** Tokens that its task may use, by `outrigger-token-budget`; -1 without one. */
  tokenBudget = -1;
  /** It says who its caller's client was, which only a proxy that the operator trusts may say. */
  namesCertificate = false;
  /** `taskScope` of its method and its caller, made once. */
  taskScope: string | undefined = undefined;
  private scope = '';
  /** The fields that `scope` is made of. */
  private scopedBy: readonly string[] | undefined = undefined;
  /** Kept here between calls of the same head, with the router they came from. */
  route: Route | undefined = undefined;
  routedBy: Router | undefined = undefined;
  methodStats: MethodStats | undefined = undefined;
  statsFrom: CallStats | undefined = undefined;
  /** As the last call of this head that changed between plain text and TLS needed it. */
  private rescheming: { readonly from: HeaderList; readonly to: HeaderList } | undefined = undefined;
  private irregularity: boolean | undefined = undefined;
  private readonly list: HeaderList;
  private stripped: HeaderList | undefined = undefined;
  private strippedFrom: HeaderList | undefined = undefined;
  private untraced: HeaderList | undefined = undefined;
  private untracedFrom: HeaderList | undefined = undefined;
  /** The list with another path than the one that came, as the last call of this head needed it. */
  private repathed: HeaderList | undefined = undefined;
  private repathedAs = '';

  constructor(list: HeaderList) {
    this.list = list;
    const fields = list.fields;
    for (let i = 0; i < fields.length; i += 2) this.read(fields[i]!, trimmed(fields[i + 1]!));
    // By this name HTTP requests may do anything.
    if (!this.grpc) this.kind = 'unknown';
  }

  private read(name: string, value: string): void {
    switch (name) {
      case 'content-type':
        this.grpc = isGrpcContentType(value);
        break;
      case ':path':
        this.method = withoutQuery(value);
        this.kind = methodKind(this.method);
        break;
      case ':scheme':
        this.scheme = value;
        break;
      case TOKEN_BUDGET_HEADER:
        this.tokenBudget = smallerBudget(this.tokenBudget, parseTokenBudget(value));
        break;
      case 'grpc-encoding':
        this.encoding = value;
        break;
      case 'grpc-accept-encoding':
        this.acceptEncoding = this.acceptEncoding === '' ? value : `${this.acceptEncoding},${value}`;
        break;
      case 'grpc-timeout':
        this.readTimeout(value);
        break;
      case PREVIOUS_ATTEMPTS:
        this.previousAttempts = parsePreviousAttempts(value);
        break;
      case 'traceparent':
        this.traceparent = this.traceparent === '' ? value : 'repeated';
        break;
      case 'tracestate':
        this.tracestate = this.tracestate === '' ? value : `${this.tracestate},${value}`;
        break;
      case 'grpc-trace-bin':
        this.traceBinary = value;
        break;
      case CALL_PATH_HEADER:
        this.callPath = this.callPath === '' ? value : `${this.callPath},${value}`;
        break;
      case 'x-forwarded-client-cert':
      case 'client-cert':
      case 'client-cert-chain':
        this.namesCertificate = true;
        break;
      case 'baggage':
      case 'x-request-id':
      case 'x-task-id':
      case 'x-correlation-id':
      case 'b3':
      case 'x-b3-traceid':
      case 'x-cloud-trace-context':
      case 'uber-trace-id':
      case 'x-amzn-trace-id':
        this.passed ??= new PassedIds();
        this.passed.read(name, value);
        break;
    }
  }

  private readTimeout(value: string): void {
    const timeoutMs = parseTimeout(value);
    this.timeoutLong = isLongTimeout(value);
    if (Number.isNaN(timeoutMs)) this.timeoutMalformed = true;
    // 0 stands for "none" everywhere else; a caller that sends 0 has no time left.
    else this.timeoutMs = Math.max(timeoutMs, SHORTEST_TIMEOUT_MS);
  }

  /**
   * Whose request it is (`caller-scope.ts`). Heads are kept for each connection: its identity is always the same one.
   *
   * @param names of the fields that count; the same object until a reload
   */
  scopeBy(names: readonly string[], identity: string): string {
    if (this.scopedBy !== names) {
      this.scope = callerScope(identity, this.list, names);
      this.scopedBy = names;
      this.taskScope = undefined;
    }
    return this.scope;
  }

  /** Whether it is no gRPC request or breaks gRPC's rules. Asked only of requests that have failed. */
  get irregular(): boolean {
    this.irregularity ??= !this.grpc || !followsRequestRules(this.list);
    return this.irregularity;
  }

  /** Encodings that the caller can read besides plain messages. */
  get acceptedEncodings(): readonly string[] {
    return acceptedEncodings(this.acceptEncoding, this.encoding);
  }

  /** Whether its caller can read an answer that was made for another call. */
  canRead(head: readonly string[] | undefined, runner: { readonly info: RequestInfo } | undefined): boolean {
    const accepted = this.acceptedEncodings;
    // An app answers by what its caller accepts.
    if (runner?.info.acceptedEncodings.every((encoding) => accepted.includes(encoding)) === true) return true;
    if (head === undefined) return runner === undefined;
    for (let i = 0; i < head.length; i += 2)
      if (head[i] === 'grpc-encoding') return head[i + 1] === 'identity' || accepted.includes(head[i + 1]!);
    return true;
  }

  /** The list with this call path in place of its own; the same list while callers repeat themselves. */
  withPath(path: string): HeaderList {
    if (this.callPath === path) return this.list;
    if (this.repathed === undefined || this.repathedAs !== path) {
      this.repathed = copyWithout(this.list, (name) => name === CALL_PATH_HEADER, [CALL_PATH_HEADER, path]);
      this.repathedAs = path;
    }
    return this.repathed;
  }

  /** `list`, which is this one or from `withPath`, without the fields that attempts write anew. */
  withoutVarying(list: HeaderList): HeaderList {
    if (this.timeoutMs === 0 && this.previousAttempts === 0) return list;
    if (this.stripped === undefined || this.strippedFrom !== list) {
      this.stripped = copyWithout(list, (name) => name === 'grpc-timeout' || name === PREVIOUS_ATTEMPTS);
      this.strippedFrom = list;
    }
    return this.stripped;
  }

  /** `list`, which is this one or derived from it, without a token budget: another is written in its place. */
  withoutTokenBudget(list: HeaderList): HeaderList {
    return this.tokenBudget < 0 ? list : copyWithout(list, (name) => name === TOKEN_BUDGET_HEADER);
  }

  /** `list`, which is this one or derived from it, without what callers say of a client's certificate. */
  withoutCertificate(list: HeaderList): HeaderList {
    return this.namesCertificate ? copyWithout(list, isCertificateField) : list;
  }

  /** `list`, which is this one or derived from it, without baggage: another is written in its place. */
  withoutBaggage(list: HeaderList): HeaderList {
    return this.passed?.baggage === undefined ? list : copyWithout(list, (name) => name === BAGGAGE_HEADER);
  }

  /**
   * `list`, which is this one or derived from it, without trace context: another is written in its place.
   *
   * @param replaces says which fields it stands in where these are not W3C's; always the same function
   */
  withoutTrace(list: HeaderList, replaces: ((name: string) => boolean) | undefined): HeaderList {
    const { traceparent, tracestate, traceBinary } = this;
    if (replaces === undefined && traceparent === '' && tracestate === '' && traceBinary === '') return list;
    if (this.untraced === undefined || this.untracedFrom !== list) {
      this.untraced = copyWithout(list, replaces ?? isTraceField);
      this.untracedFrom = list;
    }
    return this.untraced;
  }

  /**
   * `list`, which is this one or derived from it, with the scheme of the connection that it goes out on. Servers that
   * compare it with their own transport refuse another (Kestrel does).
   */
  withScheme(list: HeaderList, scheme: 'http' | 'https'): HeaderList {
    if (this.scheme === scheme) return list;
    if (this.rescheming?.from !== list) {
      const fields = [...list.fields];
      for (let i = 0; i < fields.length; i += 2) if (fields[i] === ':scheme') fields[i + 1] = scheme;
      const to = new HeaderList(fields, list.neverIndexed);
      to.shared = list.shared;
      this.rescheming = { from: list, to };
    }
    return this.rescheming.to;
  }
}

/** Envoy's field, and those of RFC 9440, section 4: whoever ends TLS must sanitize them. */
function isCertificateField(name: string): boolean {
  return name === 'x-forwarded-client-cert' || name === 'client-cert' || name === 'client-cert-chain';
}

function methodKind(path: string): MethodKind {
  if (isUnaryPath(path)) return 'unary';
  return path === STREAM_PROCESS_PATH ? 'task_stream' : 'unknown';
}

function withoutQuery(path: string): string {
  const query = path.indexOf('?');
  return query < 0 ? path : path.slice(0, query);
}

function isTraceField(name: string): boolean {
  return name === 'traceparent' || name === 'tracestate' || name === 'grpc-trace-bin';
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

/** Of two budgets the smaller one holds; -1 is none. */
function smallerBudget(one: number, other: number): number {
  if (one < 0 || other < 0) return Math.max(one, other);
  return Math.min(one, other);
}
