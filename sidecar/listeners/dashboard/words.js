// Explains methods, states and reasons in words.

/** `package.Service/Method` without the package, which is nearly always the same. */
export function shortMethod(method) {
  return method.replace(/^\/?(?:[^/]*\.)?([^/.]+\/[^/]+)$/, '$1') || '(no method)';
}

const REASONS = {
  no_route: 'No route matches the call, so the sidecar sent it to no cluster.',
  no_endpoint: 'The cluster had no endpoint that the sidecar could try.',
  connect_failed: 'The sidecar could not connect to the endpoint.',
  circuit_open: 'The circuit was open: the sidecar rejected the call at once and sent it to no endpoint.',
  draining: 'This sidecar was draining.',
  overloaded: 'The calls reached a limit; the sidecar asked the caller to wait.',
  rate_limited: 'The caller exceeded its rate limit; the sidecar asked it to wait.',
  not_read: 'The endpoint did not read the request, and too many bytes waited for such endpoints.',
  message_too_large: 'A message exceeded the size limit.',
  headers_too_large: 'The header fields exceeded the size limit.',
  unreadable_message: 'The route depends on the message, and the sidecar could not decompress it.',
  bad_request: 'The request was malformed.',
  deadline: 'The deadline of the call passed.',
  first_chunk: 'The first message of the answer took too long.',
  idle: 'The stream was silent for too long.',
  stream_cut: 'The connection was lost, or the sidecar ended, so the answer may be incomplete.',
  upstream_reset: 'The endpoint reset the stream.',
  upstream_protocol: 'The endpoint violated HTTP/2, or its answer was not gRPC or had no gRPC status.',
  caller_gone: 'The caller cancelled the inbound call for which the app made this call.',
  call_cycle: 'The task had passed through this agent before.',
  call_depth: 'The task had passed through too many agents.',
  task_not_repeatable: 'The task had run before, and the sidecar could not replay its answer.',
  bus_unavailable: 'The bus could not be reached; a task that it had stored is still there.',
  outcome_unknown: 'The bus did not confirm in time that it had stored the task; it may have.',
  task_cancelled: 'Somebody cancelled the task on the bus.',
  task_dead: 'The task is in the dead letters: its runs were lost too often, or it waited for too long.',
  task_unknown: 'The bus has no such task of this caller.',
  task_differs: 'The idempotency key names a task with another request.',
};

/** Explains why the sidecar answered instead of an endpoint. */
export function explainReason(reason) {
  return REASONS[reason] ?? '';
}

const VERDICTS = {
  ok: 'answered',
  answered: 'answered with an error that is not a failure of the endpoint',
  first_message: 'answered',
  unavailable: 'answered UNAVAILABLE',
  internal: 'answered INTERNAL',
  unknown: 'answered UNKNOWN',
  data_loss: 'answered DATA_LOSS',
  deadline_exceeded: 'did not answer in time',
  task_failed: 'answered OK with a task whose status is FAILED',
  task_timeout: 'answered OK with a task whose status is TIMEOUT',
  no_status: 'ended without a status',
  not_grpc: 'gave an answer that is not gRPC',
  reset: 'reset the stream',
  goaway_error: 'closed the connection with an error',
  connection_lost: 'the connection was lost',
  protocol: 'violated the protocol',
  connect_failed: 'the sidecar could not connect',
  app_unreachable: 'its sidecar could not reach the app',
  app_cut: 'its app cut the call',
  timeout: 'the deadline of the call passed',
  per_try_timeout: 'the time limit of the attempt passed',
  first_chunk_timeout: 'the first message took too long',
  idle_timeout: 'the stream was silent for too long',
  cancelled: 'the caller cancelled',
  caller_error: 'answered that the request is wrong, which is not a failure of the endpoint',
  deadline_too_short: 'the deadline was shorter than answers take',
  stream_deadline: 'the deadline passed while the stream was active',
  cancelled_by_app: 'the app cancelled it',
  not_sent: 'the endpoint never received it',
  own_limit: 'a limit of this sidecar ended it',
  superseded: 'another attempt answered first',
  shutdown: 'this sidecar was draining',
  undecided: 'the end proves nothing about the endpoint',
  going_away: 'the endpoint was shutting down gracefully',
  awaited_caller: 'the endpoint waited for the caller',
  endpoint_ejected: 'the endpoint had been ejected already',
  refused_by_sidecar: 'its sidecar refused it',
  back_pressure: 'the endpoint asked for fewer calls',
  refused: 'the endpoint refused the stream',
  draining: 'the endpoint was draining',
  circuit_open: 'a circuit behind the endpoint was open',
};

/** Explains what the end of an attempt means. */
export function explainVerdict(verdict) {
  return VERDICTS[verdict] ?? verdict.replaceAll('_', ' ');
}
