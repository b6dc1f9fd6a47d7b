/** Writes the head of a call's request for one endpoint, and its trailers. */
import { FIRST_STREAM_HEADER, RESUME_HEADER } from '../grpc/hop-fields.ts';
import { streamsResumeMs } from '../grpc/sidecar-settings.ts';
import { formatTimeout } from '../grpc/timeout.ts';
import { heldRequests } from '../http2/held-requests.ts';
import { copyWithout, FIELD_OVERHEAD_BYTES, type HeaderList, sizeOf } from '../http2/hpack/header-list.ts';
import type { Stream, StreamConnection } from '../http2/streams.ts';
import { BAGGAGE_HEADER } from '../policy/call-baggage.ts';
import { CALL_PATH_HEADER } from '../policy/call-path.ts';
import { USD_BUDGET_HEADER } from '../policy/money.ts';
import { previousAttemptsHeader } from '../policy/pushback.ts';
import { TOKEN_BUDGET_HEADER } from '../policy/token-budget.ts';
import type { Attempt } from './attempt.ts';
import { baggageFor, callNameField, isNamed } from './baggage-field.ts';
import type { CallWith } from './call-facts.ts';
import type { ObservedCall } from './observed-call.ts';
import { refuseTrailers } from './oversize.ts';
import { PREVIOUS_ATTEMPTS } from './request-info.ts';
import { nameOfStream } from './stream-names.ts';
import { type GivingCall, giveBudgets } from './task-budget.ts';

/** The parts of a call that its head upstream depends on. */
export type SendingCall = GivingCall &
  ObservedCall &
  CallWith<
    | 'context'
    | 'settings'
    | 'stream'
    | 'list'
    | 'info'
    | 'startedAtMs'
    | 'requestHeadBytes'
    | 'tokenBudget'
    | 'moneyBudget'
    | 'callersAttempts'
    | 'attempts'
    | 'transparentRetries'
    | 'clock'
    | 'lineage'
  >;

/** The header fields for a whole configured timeout, made once for each timeout in use. */
const timeoutExtras = new Map<number, readonly string[]>();
const TIMEOUT_EXTRAS_MAX = 100;
/** More than a hop adds to any head. */
const ADDED_MAX_BYTES = 2_048;
/** The most fields that are written in encoded form: those of a trace context. */
const LITERALS_MAX = 8;

function timeoutExtra(timeoutMs: number): readonly string[] {
  let extra = timeoutExtras.get(timeoutMs);
  if (extra === undefined) {
    if (timeoutExtras.size >= TIMEOUT_EXTRAS_MAX) timeoutExtras.clear();
    extra = ['grpc-timeout', formatTimeout(timeoutMs)];
    timeoutExtras.set(timeoutMs, extra);
  }
  return extra;
}

/** Sends a call's head upstream, with the time left as `grpc-timeout` (PROTOCOL-HTTP2, "Timeout"). */
export function sendRequestHead(call: SendingCall, stream: Stream, endStream: boolean): void {
  heldRequests.pass(call.stream);
  const { clock, info } = call;
  const { deadlineMs, deadlineOwner } = clock;
  const { path } = call.lineage;
  const list = path === '' || writesPathApart(call) ? call.list : info.withPath(path);
  const ownAttempts = call.attempts - 1 - call.transparentRetries;
  const previous = previousAttemptsHeader(call.callersAttempts, ownAttempts);
  if (previous !== undefined) {
    send(call, stream, info.withoutVarying(list), retryExtra(call, stream, previous), endStream);
    return;
  }
  if (!saysTimeout(call)) {
    send(call, stream, list, undefined, endStream);
    return;
  }
  const nowMs = call.context.clock();
  const early = nowMs - call.startedAtMs < 1;
  if (early && deadlineOwner === 'caller' && !info.timeoutLong) {
    // No millisecond has passed: the caller's own header still states the time left.
    send(call, stream, list, undefined, endStream);
  } else if (early && deadlineOwner === 'configured') {
    const extra = timeoutExtra(clock.allowedMs);
    send(call, stream, info.withoutVarying(list), extra, endStream);
  } else {
    const left = formatTimeout(deadlineMs - nowMs);
    send(call, stream, info.withoutVarying(list), ['grpc-timeout', left], endStream);
  }
}

/** Whether to send `grpc-timeout`. A plain HTTP server gets it only if the caller sent one. */
function saysTimeout({ clock, info }: CallWith<'clock' | 'info'>): boolean {
  return clock.deadlineMs > 0 && (info.grpc || info.timeoutMs > 0);
}

/** Whether to append the call path behind the head: a head that does not repeat is not worth a copy. */
function writesPathApart({ lineage, info, list }: CallWith<'lineage' | 'info' | 'list'>): boolean {
  return lineage.path !== '' && info.callPath === '' && !list.shared;
}

/** The last call path, which is nearly always this agent's own. */
let pathExtra: readonly string[] = [CALL_PATH_HEADER, ''];

function withPathApart(
  call: SendingCall,
  extra: readonly string[] | undefined,
): readonly string[] | undefined {
  if (!writesPathApart(call)) return extra;
  const { path } = call.lineage;
  if (pathExtra[1] !== path) pathExtra = [CALL_PATH_HEADER, path];
  return extra === undefined ? pathExtra : extra.concat(pathExtra);
}

/** Asks for the rest of a stream. The caller's own fields say who asks; the run has the rest of the request. */
export function sendResumeHead(call: SendingCall, stream: Stream, resume: string): void {
  const { info, list } = call;
  const { connection } = stream;
  const fields = copyWithout(info.withoutStreams(info.withoutVarying(list)), isContentLength);
  connection.sendHeaders(stream, info.withScheme(fields, connection.scheme), [RESUME_HEADER, resume], true);
}

function isContentLength(name: string): boolean {
  return name === 'content-length';
}

/** The name of the stream on which the endpoint got the task first, where its sidecar knows the task by it. */
function firstStreamOf({ info }: SendingCall, { connection, handler }: Stream): string | undefined {
  const { first } = handler as Attempt;
  if (first === undefined || info.kind !== 'task_stream') return undefined;
  if (first.connection.name === '' || streamsResumeMs(connection.peer) === 0) return undefined;
  return nameOfStream(first.connection, first.id);
}

/** The time left, and the number of earlier attempts (gRPC proposal A6). */
function retryExtra(call: SendingCall, stream: Stream, previous: string): string[] {
  const extra = [PREVIOUS_ATTEMPTS, previous];
  const first = firstStreamOf(call, stream);
  if (first !== undefined) extra.push(FIRST_STREAM_HEADER, first);
  if (saysTimeout(call))
    extra.push('grpc-timeout', formatTimeout(call.clock.deadlineMs - call.context.clock()));
  return extra;
}

/** Ends a request with the caller's trailers, if they have arrived and the attempt has a stream. */
export function sendRequestTrailers(call: CallWith<'request', 'answer'>, attempt: Attempt): void {
  const { trailers } = call.request;
  const { ended, stream } = attempt;
  if (trailers === undefined || stream === undefined || ended) return;
  const refusal = refuseTrailers(attempt, stream.connection, trailers);
  if (refusal === undefined) stream.connection.sendHeaders(stream, trailers, undefined, true);
  else call.answer(refusal);
}

/** Sends the list with the trace context for upstream, where tracing is on, and with the name of an inbound call. */
function send(
  call: SendingCall,
  stream: Stream,
  list: HeaderList,
  extra: readonly string[] | undefined,
  endStream: boolean,
): void {
  const { connection } = stream;
  const { tracer } = call.context;
  const trace = tracer?.fieldsFor(call, (stream.handler as Attempt).number);
  const { info, lineage } = call;
  const budgets = lineage.owner === undefined ? undefined : giveBudgets(call);
  const given = budgets === undefined ? extra : extra === undefined ? budgets : extra.concat(budgets);
  let more = withPathApart(call, given);
  let fields = withOwnBudget(call, list, budgets);
  fields = info.withoutStreams(fields);
  if (info.namesCertificate && call.settings.dropsCertificates) fields = info.withoutCertificate(fields);
  let literals = trace;
  const baggage = info.passed?.baggage;
  const named = isNamed(call, connection.peer.maxHeaderListBytes);
  if (baggage === undefined && trace === undefined) {
    if (named) literals = callNameField(call);
  } else if (baggage !== undefined || named) {
    const next = baggageFor(call, baggage ?? '', named);
    if (next !== baggage) {
      fields = info.withoutBaggage(fields);
      if (next !== '') more = [...(more ?? []), BAGGAGE_HEADER, next];
    }
  }
  if (trace !== undefined) fields = info.withoutTrace(fields, tracer!.replaces);
  const head = info.withScheme(fields, connection.scheme);
  if (
    call.requestHeadBytes + ADDED_MAX_BYTES > connection.peer.maxHeaderListBytes &&
    exceeds(connection, head, more, literals)
  )
    sendBare(call, stream, budgets, endStream);
  else connection.sendHeaders(stream, head, more, endStream, literals);
}

/** Removes the received budgets where others replace them, or their caller may not set any. */
function withOwnBudget(
  call: SendingCall,
  list: HeaderList,
  given: readonly string[] | undefined,
): HeaderList {
  const { info, tokenBudget, moneyBudget } = call;
  return info.withoutBudgets(
    list,
    tokenBudget !== info.tokenBudget || given?.includes(TOKEN_BUDGET_HEADER) === true,
    moneyBudget !== info.moneyBudget || given?.includes(USD_BUDGET_HEADER) === true,
  );
}

/**
 * Sends the head without our additions: the caller's own fields fit, and ours must not make it too large. A budget
 * stays.
 */
function sendBare(
  call: SendingCall,
  stream: Stream,
  budgets: readonly string[] | undefined,
  endStream: boolean,
): void {
  const { info, list } = call;
  const { connection } = stream;
  let fields = info.withoutStreams(withOwnBudget(call, list, budgets));
  let extra = budgets;
  const came = info.passed?.baggage;
  const baggage = came === undefined ? undefined : baggageFor(call, came, false);
  if (baggage !== came) {
    fields = info.withoutBaggage(fields);
    if (baggage) extra = [...(budgets ?? []), BAGGAGE_HEADER, baggage];
  }
  connection.sendHeaders(stream, info.withScheme(fields, connection.scheme), extra, endStream);
}

/** Whether a head, with all that follows the list, is larger than its peer accepts (RFC 9113 §6.5.2). */
function exceeds(
  { peer: { maxHeaderListBytes } }: StreamConnection,
  { listBytes }: HeaderList,
  extra: readonly string[] | undefined,
  literals: Buffer | undefined,
): boolean {
  const encodedBytes = literals === undefined ? 0 : literals.length + LITERALS_MAX * FIELD_OVERHEAD_BYTES;
  return listBytes + sizeOf(extra ?? []) + encodedBytes > maxHeaderListBytes;
}
