// Formats numbers, states and reasons.

export function count(value) {
  if (value >= 100_000) return `${Math.round(value / 1000)} k`;
  return new Intl.NumberFormat('en').format(value);
}

export function rate(value) {
  return value >= 100 ? count(Math.round(value)) : String(Math.round(value * 10) / 10);
}

/** Durations are from a histogram that begins at 5 ms and ends at an hour. */
export function latency(ms) {
  if (ms === null || ms === undefined) return '–';
  if (ms <= 5) return '≤ 5 ms';
  if (ms >= 3_600_000) return '≥ 1 h';
  return duration(ms);
}

export function duration(ms) {
  if (ms < 10) return `${Math.round(ms * 10) / 10} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  return span(ms / 1000);
}

/** Formats a duration: `42 s`, `3 min 5 s`, `2 h 4 min`. */
export function span(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86_400)} d ${Math.floor((whole % 86_400) / 3600)} h`;
}

export function timeOf(date) {
  return date.toLocaleTimeString([], {
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    hour12: false,
  });
}

/** `package.Service/Method` without the package, which is nearly always the same. */
export function shortMethod(method) {
  return method.replace(/^\/?(?:[^/]*\.)?([^/.]+\/[^/]+)$/, '$1') || '(no method)';
}

const REASONS = {
  no_route: 'No route of this sidecar fits the call, so it was sent nowhere.',
  no_endpoint: 'The cluster had no endpoint that could be tried.',
  connect_failed: 'No connection to the endpoint could be made.',
  circuit_open: 'The circuit was open: the call was turned away at once, and no endpoint saw it.',
  draining: 'This sidecar was draining.',
  overloaded: 'A limit on calls was reached; the caller was asked to wait.',
  rate_limited: 'The caller made more calls than it may; it was asked to wait.',
  not_read: 'The endpoint did not read the request, and too many bytes waited for such readers.',
  message_too_large: 'A message was longer than is allowed.',
  headers_too_large: 'The header fields were longer than is allowed.',
  unreadable_message: 'The route hangs on the message, and that was compressed by what cannot be read here.',
  bad_request: 'The request was malformed.',
  deadline: 'The time for the call was over.',
  first_chunk: 'The first message of the answer took too long.',
  idle: 'The stream said nothing for too long.',
  stream_cut: 'The connection was lost, or the sidecar ended, so the answer may not be whole.',
  upstream_reset: 'The endpoint reset the stream.',
  upstream_protocol: 'The endpoint broke HTTP/2, or its answer was not gRPC or had no gRPC status.',
  caller_gone: 'The call that this one was made for was given up by its caller.',
  call_cycle: 'The task had come through this agent before.',
  call_depth: 'The task had come through too many agents.',
  task_not_repeatable: 'The task had run before, and its answer could not be given again.',
};

/** Why the sidecar answered instead of an endpoint. */
export function explainReason(reason) {
  return REASONS[reason] ?? '';
}

const VERDICTS = {
  ok: 'answered',
  answered: 'answered with an error of its own, which is no failure of the endpoint',
  first_message: 'answered',
  unavailable: 'answered UNAVAILABLE',
  internal: 'answered INTERNAL',
  unknown: 'answered UNKNOWN',
  data_loss: 'answered DATA_LOSS',
  deadline_exceeded: 'did not answer in time',
  task_failed: 'answered OK with a task that FAILED',
  task_timeout: 'answered OK with a task that ran into TIMEOUT',
  no_status: 'ended without a status',
  not_grpc: 'gave an answer that is not gRPC',
  reset: 'reset the stream',
  goaway_error: 'closed the connection with an error',
  connection_lost: 'the connection was lost',
  protocol: 'broke the protocol',
  connect_failed: 'no connection could be made',
  app_unreachable: 'its sidecar could not reach the app',
  app_cut: 'its app cut the call',
  timeout: 'the time for the call was over',
  per_try_timeout: 'the time for one attempt was over',
  first_chunk_timeout: 'the first message took too long',
  idle_timeout: 'the stream fell silent',
  cancelled: 'the caller left',
  caller_error: 'found fault with the request, which is no failure of the endpoint',
  deadline_too_short: 'the caller gave less time than answers take',
  stream_deadline: 'the time for the stream was over while it flowed',
  cancelled_by_app: 'the app cancelled it',
  not_sent: 'the endpoint never saw it',
  own_limit: 'a limit of this sidecar',
  superseded: 'another attempt was quicker',
  shutdown: 'this sidecar was draining',
  undecided: 'nothing is proved',
  going_away: 'the endpoint was going away in order',
  awaited_caller: 'it was for the caller to go on',
  endpoint_ejected: 'the endpoint had been ejected already',
  refused_by_sidecar: 'its sidecar refused it',
  back_pressure: 'the endpoint asked for less',
  refused: 'the endpoint refused the stream',
  draining: 'the endpoint was draining',
  circuit_open: 'a circuit behind the endpoint was open',
};

/** What an attempt's end means. */
export function explainVerdict(verdict) {
  return VERDICTS[verdict] ?? verdict.replaceAll('_', ' ');
}
