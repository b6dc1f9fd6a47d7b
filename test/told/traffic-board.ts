// What is true of each query of the dashboard "Traffic and resilience".
import { outriggerVersion } from '../../sidecar/telemetry/version.ts';
import { isError, labelOf, type MadeCall, type ServedCall, type Timed, type Truth } from './ledger.ts';
import { quantileOf } from './quantile.ts';
import { type Facts, groups, keyOf, shareOf, size, sum, type Truths, type Values } from './query-truth.ts';
import { OPEN, rejectedOf, unconnectedOf } from './series.ts';
import { LIMIT } from './system.ts';

const NO_LABELS = () => ({});
const NOTHING = { per: 'end', of: {} } as const;
const PROCESS = { why: 'it is of the process itself: /metrics is held to what the kernel says' };

export function trafficBoard(facts: Facts): Truths {
  const { service, ledger, kind, held, spans } = facts;
  const { made, served } = ledger;
  const ofService = () => ({ service });
  const ofCluster = ({ cluster }: MadeCall) => ({ service, cluster });
  const ofMethod = (call: ServedCall) => ({ service, rpc_method: labelOf(call) });
  const quantile = (q: number) => (group: readonly Timed[]) =>
    quantileOf(q, group, kind === 'native' ? 'native' : 'calls');
  const outcomes = (kind: 'retries' | 'hedges'): Values =>
    groups(
      ledger.decisions.filter((one) => one.kind === kind),
      ({ cluster, outcome }) => ({ service, cluster, outcome }),
      size,
    );
  const ofReason = ({ cluster, reason }: { cluster: string; reason: string }) => ({
    service,
    cluster,
    reason,
  });
  const ofCircuit = ({ cluster, method }: { cluster: string; method: string }) => ({
    service,
    cluster,
    method: method.slice(1),
  });
  const busy = service === 'research' ? 'inbound' : 'outbound';
  return {
    'variable service': { per: 'end', of: { [keyOf({ service })]: 1 } },
    'Ready sidecars A': { per: 'end', of: { '': 1 } },
    'Not ready or down A': NOTHING,
    'Calls a second A': { per: 'second', of: groups(served, NO_LABELS, size) },
    'Errors A': { per: 'end', of: groups(served, NO_LABELS, shareOf(isError)) },
    'Circuits not closed A': { per: 'end', of: { '': ledger.opened.length } },
    'Endpoints ejected A': { per: 'end', of: { '': ledger.ejected.length } },
    'Calls by status A': {
      per: 'second',
      of: groups(served, ({ code }) => ({ service, rpc_status_code: code }), size),
    },
    'Duration A': { per: 'end', of: groups(served, ofService, quantile(0.5)) },
    'Duration B': { per: 'end', of: groups(served, ofService, quantile(0.95)) },
    'Duration C': { per: 'end', of: groups(served, ofService, quantile(0.99)) },
    'Error share A': { per: 'end', of: groups(served, ofMethod, shareOf(isError)) },
    'Active calls A': {
      per: 'held',
      of: {
        [keyOf({ service, listener: busy })]: held,
        // One request to a model waits for the provider's quota.
        [keyOf({ service, listener: 'llm' })]: service === 'research' ? 1 : 0,
      },
    },
    'Active calls B': { per: 'held', of: {} },
    'Active calls C': {
      per: 'end',
      of: {
        [keyOf({ service, listener: 'inbound' })]:
          service === 'research' ? LIMIT : { unknown: 'the default' },
        [keyOf({ service, listener: 'outbound' })]: { unknown: 'the default' },
      },
    },
    'Active connections A': { why: 'how many connections a client or a pool opens is its own business' },
    'Answered by the sidecar itself A': { per: 'second', of: rejections(facts) },
    'Calls by cluster and status A': {
      per: 'second',
      of: groups(made, (call) => ({ ...ofCluster(call), rpc_status_code: call.code }), size),
    },
    'Duration by cluster A': { per: 'end', of: groups(made, ofCluster, quantile(0.5)) },
    'Duration by cluster B': { per: 'end', of: groups(made, ofCluster, quantile(0.95)) },
    'Error share by cluster A': { per: 'end', of: groups(made, ofCluster, shareOf(isError)) },
    'Attempts by endpoint and status A': { per: 'second', of: attemptsByEndpoint(facts) },
    'Attempts a call A': {
      per: 'end',
      of: groups(made, ofCluster, (group) => sum(group, ({ attempts }) => attempts.length) / group.length),
    },
    'Retries and hedges by outcome A': { per: 'second', of: outcomes('retries') },
    'Retries and hedges by outcome B': { per: 'second', of: outcomes('hedges') },
    'Circuits A': { per: 'end', of: groups(ledger.opened, ofCircuit, () => OPEN) },
    'Calls that circuits refused A': {
      per: 'second',
      of: groups(ledger.opened, ofCircuit, (group) => sum(group, ({ turnedAway }) => turnedAway)),
    },
    'Ejected endpoints A': { per: 'end', of: groups(ledger.ejected, ofReason, size) },
    'Ejections A': { per: 'round', of: groups(ledger.ejected, ofReason, size) },
    'Failed connection attempts A': {
      per: 'second',
      of: groups(ledger.unconnected, ofReason, unconnectedOf),
    },
    'Event loop A': PROCESS,
    'CPU A': PROCESS,
    'Memory A': PROCESS,
    'Memory B': PROCESS,
    'Spans A': { per: 'second', of: { [keyOf({ service, outcome: 'exported' })]: spans } },
    'Spans B': NOTHING,
    'Versions A': { per: 'end', of: { [keyOf({ service, version: outriggerVersion() })]: 1 } },
  };
}

function rejections({ service, ledger }: Facts): Values {
  return Object.fromEntries(
    ['no_route', 'overloaded', 'deadline', 'circuit_open', 'no_endpoint', 'connect_failed'].flatMap(
      (reason) =>
        ['inbound', 'outbound'].map((listener) => [
          keyOf({ service, listener, reason }),
          rejectedOf(service, listener, reason, ledger),
        ]),
    ),
  );
}

/** Of the caller's clusters; where there are two endpoints either may have been asked. */
function attemptsByEndpoint({ ledger, endpoints }: Facts): Values {
  const attempts = ledger.made.flatMap(({ cluster, attempts }) =>
    attempts.flatMap((code) => (endpoints[cluster] ?? []).map((endpoint) => ({ cluster, endpoint, code }))),
  );
  return groups(
    attempts,
    (one) => one,
    (group): Truth => (endpoints[group[0]!.cluster]!.length > 1 ? [0, group.length] : group.length),
  );
}
