/**
 * A finding as other pods may read it: its kind, its subject and its numbers, in words of our own. The text of a finding
 * may quote what a provider or a server wrote, and so what a user wrote; it stays on the admin listener.
 */
import type { Finding, FindingKind } from '../policy/now/finding.ts';

type Words = (subject: string, notReadyBecause: string) => string;

const WORDS: Readonly<Record<FindingKind, Words>> = {
  certificate_expired: (subject) => `A certificate of ${subject} has expired: renew it.`,
  certificate_unusable: (subject) => `The certificate files of ${subject} can not be used.`,
  key_file_unusable: (subject) => `The file of keys of ${subject} can not be used.`,
  draining: () => 'The sidecar drains.',
  not_ready: (_subject, because) => (because === '' ? 'Not ready.' : `Not ready: ${because}.`),
  bus_unavailable: () => 'The bus can not be used.',
  cluster_silent: (subject) => `No answers from ${subject}: none of its endpoints gives a sign of life.`,
  endpoint_silent: (subject) => `${subject} gives no sign of life.`,
  endpoint_unreachable: (subject) => `${subject} is unreachable.`,
  provider_unpaid: (subject) => `${subject} refuses requests until it is paid.`,
  provider_refuses: (subject) => `${subject} refuses requests.`,
  provider_throttles: (subject) => `${subject} throttles requests.`,
  provider_fails: (subject) => `${subject} fails.`,
  provider_slow: (subject) => `${subject} takes far longer than usual to answer.`,
  provider_circuit: (subject) => `The circuit of ${subject} is not closed.`,
  tool_server_circuit: (subject) => `The circuit of ${subject} is not closed.`,
  tool_server_fails: (subject) => `${subject} fails.`,
  no_answers: (subject) => `No answers from ${subject}: calls wait for far longer than usual.`,
  slow_answers: (subject) => `Answers of ${subject} take far longer than usual.`,
  endpoint_ejected: (subject) => `${subject} is ejected.`,
  endpoint_unusable: (subject) => `${subject} can not be used.`,
  no_endpoint: (subject) => `No endpoint of ${subject} can be used.`,
  circuit_open: (subject) => `A circuit of ${subject} is open.`,
  calls_fail: (subject) => `Calls to ${subject} fail.`,
  turned_away: (subject) => `${subject} turns calls away.`,
  own_limits: () => 'Requests to models wait for limits of this sidecar (llm.limits).',
  dead_letters: () => 'Tasks are in the dead letters of the bus.',
  circuit_half_open: (subject) => `A circuit of ${subject} is half-open.`,
  endpoint_cooling: (subject) => `${subject} asked for a pause.`,
  endpoint_probation: (subject) => `${subject} is on probation after an ejection.`,
  endpoint_removed: (subject) => `${subject} has been taken out, and calls still run there.`,
  certificate_expires: (subject) => `A certificate of ${subject} expires soon and has not been renewed.`,
  configuration: (subject) => `The setting ${subject} works and is surely a mistake: see outrigger check.`,
};

/** @param notReadyBecause what the probes say to everybody; '' when the sidecar is ready */
export function publicFinding({ kind, severity, about, numbers }: Finding, notReadyBecause: string) {
  // Callers choose models and methods: only names of the configuration go out.
  const { cluster, endpoint, provider, tool_server, listener, setting } = about;
  const named = Object.entries({ cluster, endpoint, provider, tool_server, listener, setting });
  const text = WORDS[kind](subjectOf(about), notReadyBecause);
  return {
    kind,
    severity,
    about: Object.fromEntries(named.filter(([, name]) => name !== undefined)),
    text: `${text.charAt(0).toUpperCase()}${text.slice(1)}`,
    numbers,
  };
}

function subjectOf({
  cluster,
  endpoint,
  provider,
  tool_server: server,
  listener,
  setting,
}: Finding['about']): string {
  if (endpoint !== undefined) return `${endpoint} of ${cluster}`;
  if (provider !== undefined) return `the model provider ${provider}`;
  if (server !== undefined) return `the tool server ${server}`;
  if (listener !== undefined) return `the ${listener} listener`;
  return cluster ?? setting ?? 'this sidecar';
}
