/** What the proxy reads from the head of a request. */
import { FIRST_STREAM_HEADER, RESUME_HEADER } from '../grpc/hop-fields.ts';
import { acceptedEncodings } from '../grpc/message-encoding.ts';
import { followsRequestRules } from '../grpc/request-rules.ts';
import { isLongTimeout, parseTimeout, SHORTEST_TIMEOUT_MS } from '../grpc/timeout.ts';
import type { MessageHead } from '../http2/head.ts';
import { copyWithout, HeaderList, trimmed } from '../http2/hpack/header-list.ts';
import { BAGGAGE_HEADER } from '../policy/call-baggage.ts';
import { CALL_PATH_HEADER } from '../policy/call-path.ts';
import type { MethodKind } from '../policy/deadline.ts';
import { parseUsd, USD_BUDGET_HEADER } from '../policy/money.ts';
import { parsePreviousAttempts } from '../policy/pushback.ts';
import { parseTokenBudget, TOKEN_BUDGET_HEADER } from '../policy/token-budget.ts';
import { isUnaryPath, STREAM_PROCESS_PATH } from '../task/task-message.ts';
import type { CallStats, MethodStats } from '../telemetry/call-stats.ts';
import { callerScope } from './caller-scope.ts';
import { PassedIds } from './passed-ids.ts';
import type { Route, Router } from './router.ts';
import { isStreamField } from './stream-names.ts';

export const PREVIOUS_ATTEMPTS = 'grpc-previous-rpc-attempts';

/** Derived once for each header list: callers that repeat their heads, as gRPC clients do, pay for it once a connection. */
export class RequestInfo {
  /** Other HTTP/2 requests are relayed too, but HTTP's rules decide how they are answered and judged. */
  grpc = false;
  /** The path without its query, which is content and may hold a secret. Metrics, verdicts and names use it. */
  method = '';
  /** `:scheme`. */
  scheme = '';
  /** The kind of the method. */
  kind: MethodKind = 'unknown';
  /** `grpc-encoding`, the compression of messages; '' without one. */
  encoding = '';
  /** `grpc-accept-encoding`; '' without one. */
  acceptEncoding = '';
  /** From `grpc-timeout`; 0 without one. */
  timeoutMs = 0;
  timeoutMalformed = false;
  /** The timeout has more digits than gRPC allows, which some servers reject: write it anew. */
  timeoutLong = false;
  /** Attempts that hops before this one have made, by their `grpc-previous-rpc-attempts`. */
  previousAttempts = 0;
  /** W3C trace context; '' without one. A repeated field counts as none. */
  traceparent = '';
  /** Several fields in order, joined by commas. */
  tracestate = '';
  /** The trace context of earlier gRPC libraries: `grpc-trace-bin`. */
  traceBinary = '';
  /** Other ids that applications pass on; undefined when there are none. */
  passed: PassedIds | undefined = undefined;
  /** The agents that the call has come through (`policy/call-path.ts`); '' without any. */
  callPath = '';
  /** The stream of the call's first attempt, when it is sent again: `outrigger-first-stream`; '' without one. */
  firstStream = '';
  /** The stream to resume, and the first byte that is missing: `outrigger-resume`; '' without one. */
  resume = '';
  /** The tokens that the call's task may use, by `outrigger-token-budget`; -1 without one. */
  tokenBudget = -1;
  /** The money, in nano-dollars, by `outrigger-usd-budget`; -1 without one. */
  moneyBudget = -1;
  /** The head describes the certificate of its caller's client; only a proxy that the operator trusts may do so. */
  namesCertificate = false;
  /** `taskScope` of the method and the caller, computed once. */
  taskScope: string | undefined = undefined;
  private scope = '';
  /** The names of the fields that `scope` was computed from. */
  private scopedBy: readonly string[] | undefined = undefined;
  /** Cached for calls with the same head, together with the router that gave it. */
  route: Route | undefined = undefined;
  routedBy: Router | undefined = undefined;
  methodStats: MethodStats | undefined = undefined;
  statsFrom: CallStats | undefined = undefined;
  /** The list for the latest call of this head that changed between plain text and TLS. */
  private rescheming: { readonly from: HeaderList; readonly to: HeaderList } | undefined = undefined;
  private irregularity: boolean | undefined = undefined;
  private readonly list: HeaderList;
  private stripped: HeaderList | undefined = undefined;
  private strippedFrom: HeaderList | undefined = undefined;
  private untraced: HeaderList | undefined = undefined;
  private untracedFrom: HeaderList | undefined = undefined;
  /** The list for the latest call of this head that had another path than the received one. */
  private repathed: HeaderList | undefined = undefined;
  private repathedAs = '';

  constructor(list: HeaderList) {
    this.list = list;
    const fields = list.fields;
    for (let i = 0; i < fields.length; i += 2) this.read(fields[i]!, trimmed(fields[i + 1]!));
    // A plain HTTP request to a method's path may do anything.
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
      case USD_BUDGET_HEADER:
        this.moneyBudget = smallerBudget(this.moneyBudget, parseUsd(value));
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
      case FIRST_STREAM_HEADER:
        this.firstStream = value;
        break;
      case RESUME_HEADER:
        this.resume = value;
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
    // 0 means "none" everywhere else, but a caller that sends 0 has no time left.
    else this.timeoutMs = Math.max(timeoutMs, SHORTEST_TIMEOUT_MS);
  }

  /**
   * The scope of the request (`caller-scope.ts`). Heads are kept for each connection, so the identity is always the
   * same.
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

  /** Whether the request is not gRPC or breaks gRPC's rules. Used only for failed requests. */
  get irregular(): boolean {
    this.irregularity ??= !this.grpc || !followsRequestRules(this.list);
    return this.irregularity;
  }

  /** The encodings that the caller can read, besides uncompressed messages. */
  get acceptedEncodings(): readonly string[] {
    return acceptedEncodings(this.acceptEncoding, this.encoding);
  }

  /** Whether the caller can read an answer that was made for another call. */
  canRead(head: readonly string[] | undefined, runner: { readonly info: RequestInfo } | undefined): boolean {
    const accepted = this.acceptedEncodings;
    // An app chooses an encoding that its caller accepts.
    if (runner?.info.acceptedEncodings.every((encoding) => accepted.includes(encoding)) === true) return true;
    if (head === undefined) return runner === undefined;
    for (let i = 0; i < head.length; i += 2)
      if (head[i] === 'grpc-encoding') return head[i + 1] === 'identity' || accepted.includes(head[i + 1]!);
    return true;
  }

  /** The list with this call path in place of its own; cached while callers repeat their heads. */
  withPath(path: string): HeaderList {
    if (this.callPath === path) return this.list;
    if (this.repathed === undefined || this.repathedAs !== path) {
      this.repathed = copyWithout(this.list, (name) => name === CALL_PATH_HEADER, [CALL_PATH_HEADER, path]);
      this.repathedAs = path;
    }
    return this.repathed;
  }

  /** Removes the fields that each attempt writes anew from `list`, which is this one or from `withPath`. */
  withoutVarying(list: HeaderList): HeaderList {
    if (this.timeoutMs === 0 && this.previousAttempts === 0) return list;
    if (this.stripped === undefined || this.strippedFrom !== list) {
      this.stripped = copyWithout(list, (name) => name === 'grpc-timeout' || name === PREVIOUS_ATTEMPTS);
      this.strippedFrom = list;
    }
    return this.stripped;
  }

  /** Removes budgets from `list`, which is this one or derived from it; others replace them. */
  withoutBudgets(list: HeaderList, tokens: boolean, money: boolean): HeaderList {
    const dropsTokens = tokens && this.tokenBudget >= 0;
    const dropsMoney = money && this.moneyBudget >= 0;
    if (!dropsTokens && !dropsMoney) return list;
    return copyWithout(
      list,
      (name) => (dropsTokens && name === TOKEN_BUDGET_HEADER) || (dropsMoney && name === USD_BUDGET_HEADER),
    );
  }

  /** Removes from `list`, which is this one or derived from it, what sidecars say to each other about streams. */
  withoutStreams(list: HeaderList): HeaderList {
    return this.firstStream === '' && this.resume === '' ? list : copyWithout(list, isStreamField);
  }

  /** Removes from `list`, which is this one or derived from it, the fields that describe a client's certificate. */
  withoutCertificate(list: HeaderList): HeaderList {
    return this.namesCertificate ? copyWithout(list, isCertificateField) : list;
  }

  /** Removes the baggage from `list`, which is this one or derived from it; another one replaces it. */
  withoutBaggage(list: HeaderList): HeaderList {
    return this.passed?.baggage === undefined ? list : copyWithout(list, (name) => name === BAGGAGE_HEADER);
  }

  /**
   * Removes the trace context from `list`, which is this one or derived from it; another one replaces it.
   *
   * @param replaces says which fields hold trace context, where these are not W3C's; always the same function
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
   * Sets the scheme of `list`, which is this one or derived from it, to that of the outgoing connection. Servers that
   * compare it with their own transport reject another one (Kestrel does).
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

/** Envoy's field and those of RFC 9440, section 4, which a proxy that terminates TLS must sanitize. */
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

declare module '../http2/head.ts' {
  interface DerivedFacts {
    request: RequestInfo;
  }
}

export function requestInfo(list: HeaderList, head: MessageHead): RequestInfo {
  if (head.derived instanceof RequestInfo) return head.derived;
  const info = new RequestInfo(list);
  head.derived = info;
  return info;
}

/** The smaller of two budgets; -1 means none. */
function smallerBudget(one: number, other: number): number {
  if (one < 0 || other < 0) return Math.max(one, other);
  return Math.min(one, other);
}
