/**
 * Finds the current problems from facts, once a second. Pure: facts and time come in.
 *
 *     facts ──▶ findings of each kind ──▶ those that have lasted long enough ──▶ causes first ──▶ report
 */
import { type CertificateFacts, certificateFindings } from './certificates.ts';
import {
  type CircuitFacts,
  circuitFinding,
  type EndpointFacts,
  endpointFinding,
  silentCluster,
} from './endpoints.ts';
import { type EndedCalls, FailureWatch } from './failures.ts';
import { compareFindings, type Finding, type FindingKind, type LastingFinding } from './finding.ts';
import { type KeyFileFacts, keyFileFindings } from './key-files.ts';
import { type ProviderFacts, ProviderWatch } from './providers.ts';
import { Recent } from './recent.ts';
import { type ToolServerFacts, toolServerFindings } from './tool-servers.ts';
import { unknownWaits } from './unknown-waits.ts';
import { CALL_LIMITS, type MethodFacts, WaitWatch } from './waits.ts';
import { counted, joined, shortMethod, spanOf } from './words.ts';

export interface ClusterFacts extends EndedCalls {
  readonly endpoints: readonly EndpointFacts[];
  readonly circuits: readonly CircuitFacts[];
  /** The methods whose answers are known, and those that wait for their first answer. */
  readonly methods: readonly MethodFacts[];
  /** Why discovery does not know the endpoints; '' when it does. */
  readonly unknownBecause?: string;
}

export interface NowFacts {
  /** The sidecar accepts no new calls, and stops. */
  readonly draining: boolean;
  /** '' when the sidecar is ready, or is starting. */
  readonly notReadyBecause: string;
  /** The app's cluster first. */
  readonly clusters: readonly ClusterFacts[];
  /** The name of the app's cluster. */
  readonly app: string;
  readonly providers: readonly ProviderFacts[];
  readonly toolServers?: readonly ToolServerFacts[];
  readonly certificates: readonly CertificateFacts[];
  readonly keyFiles?: readonly KeyFileFacts[];
  /** The number of calls that each listener has answered itself so far, by reason. */
  readonly rejected: readonly (readonly [listener: string, reasons: ReadonlyMap<string, number>])[];
  /** The number of model requests that wait for our own limits. */
  readonly waitForOwnLimits: number;
  /** Milliseconds since 1970. */
  readonly wallMs: number;
  /** Undefined without a bus. */
  readonly bus?: BusFacts | undefined;
  /** Settings that work, and are surely a mistake. */
  readonly mistakes?: readonly { readonly setting: string; readonly text: string }[];
}

interface BusFacts {
  /** Why the bus can't be used; '' when it can. */
  readonly problem: string;
  /** The dead letters there are, by agent type. */
  readonly dead: readonly (readonly [agentType: string, count: number])[];
}

export interface NowReport {
  /** There are no findings, and no waits whose usual length is unknown. */
  readonly well: boolean;
  readonly summary: string;
  /** The numbers of the summary in words, when there are no findings; '' where there are none. */
  readonly detail: string;
  /** Causes before their consequences; at most `MAX_FINDINGS`. */
  readonly findings: readonly LastingFinding[];
  /** The number of findings that are not in `findings`. */
  readonly leftOut: number;
  /** All findings, for metrics. */
  readonly all: readonly LastingFinding[];
}

const MAX_FINDINGS = 20;
/**
 * How long a finding must last. The effects of a pause of this process or its machine end by the next pass or the one
 * after it.
 */
const LASTS_MS: Partial<Record<FindingKind, number>> = {
  // In the first pass, an app that has just started has not answered yet.
  not_ready: 900,
  // It is being opened, or the server restarts.
  bus_unavailable: 2_000,
  endpoint_silent: 2_000,
  cluster_silent: 2_000,
  provider_slow: 900,
  no_answers: 900,
  slow_answers: 900,
  own_limits: 5_000,
};
const MIN_TURNED_AWAY = 3;

/**
 * Why calls are rejected, for reasons that an operator can remedy; other reasons have findings of their own, or are
 * answers.
 */
const TURNED_AWAY: Readonly<Record<string, string>> = {
  overloaded: 'a limit on calls is reached',
  no_route: 'no route fits them',
  too_many_connections: 'there are too many connections',
};

export class Now {
  private readonly since = new Map<string, number>();
  private readonly waits = new Map<string, WaitWatch>();
  private readonly providers = new ProviderWatch();
  private readonly recent = new Recent();
  private readonly failures = new FailureWatch(this.recent);

  /** Returns the problems that exist now. Call it about once a second. */
  assess(facts: NowFacts, nowMs: number): NowReport {
    const found = this.find(facts, nowMs);
    const lasting: LastingFinding[] = [];
    const ids = new Set<string>();
    for (const finding of found) {
      ids.add(finding.id);
      const sinceMs = this.since.get(finding.id) ?? nowMs;
      this.since.set(finding.id, sinceMs);
      if (nowMs - sinceMs >= (LASTS_MS[finding.kind] ?? 0)) lasting.push({ ...finding, sinceMs });
    }
    for (const id of this.since.keys()) if (!ids.has(id)) this.since.delete(id);
    lasting.sort(compareFindings);
    const unknown = lasting.length === 0 ? unknownWaits(facts) : undefined;
    return {
      well: lasting.length === 0 && unknown === undefined,
      summary: lasting[0]?.text ?? unknown?.text ?? allIsWell(facts),
      detail: unknown?.detail ?? '',
      findings: lasting.slice(0, MAX_FINDINGS),
      leftOut: Math.max(lasting.length - MAX_FINDINGS, 0),
      all: lasting,
    };
  }

  private find(facts: NowFacts, nowMs: number): Finding[] {
    const found: Finding[] = [];
    for (const certificate of facts.certificates)
      found.push(...certificateFindings(certificate, facts.wallMs));
    for (const file of facts.keyFiles ?? []) found.push(...keyFileFindings(file));
    if (facts.draining) found.push(simple('draining', 'warn', 'This sidecar is draining.'));
    else if (facts.notReadyBecause !== '')
      found.push(simple('not_ready', 'bad', `Not ready: ${facts.notReadyBecause}.`));
    for (const cluster of facts.clusters) found.push(...this.findIn(cluster, facts, nowMs));
    for (const provider of facts.providers) found.push(...this.providers.findingsOf(provider, nowMs));
    for (const server of facts.toolServers ?? []) found.push(...toolServerFindings(server));
    for (const [listener, reasons] of facts.rejected)
      found.push(...this.turnedAway(listener, reasons, nowMs));
    if (facts.bus !== undefined) found.push(...busFindings(facts.bus));
    if (facts.waitForOwnLimits > 0) found.push(ownLimits(facts.waitForOwnLimits));
    for (const { setting, text } of facts.mistakes ?? []) found.push(mistake(setting, text));
    this.forget(facts, nowMs);
    return found;
  }

  private findIn(cluster: ClusterFacts, { app, notReadyBecause }: NowFacts, nowMs: number): Finding[] {
    const { name, endpoints, circuits, methods } = cluster;
    const found: Finding[] = [];
    const add = (finding: Finding | undefined): void => {
      if (finding !== undefined) found.push(finding);
    };
    for (const circuit of circuits) add(circuitFinding(name, circuit));
    // Skip the app's endpoints if an earlier finding says that the app is not reachable.
    if (name !== app || notReadyBecause === '') {
      add(silentCluster(name, endpoints));
      for (const endpoint of endpoints) add(endpointFinding(name, endpoint));
      if (endpoints.length > 1 && endpoints.every(({ usable }) => !usable)) add(noEndpoint(name));
      if (endpoints.length === 0 && cluster.unknownBecause) add(noEndpoint(name, cluster.unknownBecause));
    }
    const isSilent = found.some(({ kind }) => kind === 'endpoint_silent' || kind === 'endpoint_unreachable');
    for (const method of methods) {
      const finding = this.slow(name, method, nowMs);
      // Skip a lack of answers that a silent or unreachable endpoint explains.
      if (!isSilent || finding?.kind !== 'no_answers') add(finding);
    }
    const failing = this.failures.findingOf(cluster, nowMs);
    if (!found.some(({ severity }) => severity === 'bad')) add(failing);
    return found;
  }

  private slow(cluster: string, { method, waits }: MethodFacts, nowMs: number): Finding | undefined {
    const id = `waits ${cluster} ${method}`;
    let watch = this.waits.get(id);
    if (watch === undefined) {
      watch = new WaitWatch(CALL_LIMITS);
      this.waits.set(id, watch);
    }
    const slow = watch.update(waits, nowMs);
    if (slow === undefined) return undefined;
    const { unanswered, waiting, longestMs, answersTakeMs, usualAnswers, usualSlowestMs } = slow;
    const what = `${cluster} ${shortMethod(method)}`;
    return {
      kind: unanswered ? 'no_answers' : 'slow_answers',
      id,
      severity: unanswered ? 'bad' : 'warn',
      text: unanswered
        ? `No answers from ${what}: calls wait for far longer than usual, and none is answered.`
        : `Answers of ${what} take far longer than usual.`,
      detail: joined(
        '; ',
        waiting === 0 ? '' : `${counted(waiting, 'call', 'waits')}, the longest for ${spanOf(longestMs)}`,
        answersTakeMs === 0 ? '' : `answers take ${spanOf(answersTakeMs)}`,
        `none of ${usualAnswers} before took longer than ${spanOf(usualSlowestMs)}`,
      ),
      about: { cluster, method },
      numbers: {
        waiting_calls: waiting,
        longest_wait_ms: Math.round(longestMs),
        usual_slowest_ms: Math.round(usualSlowestMs),
        ...(answersTakeMs === 0 ? {} : { answers_take_ms: Math.round(answersTakeMs) }),
      },
    };
  }

  private *turnedAway(
    listener: string,
    reasons: ReadonlyMap<string, number>,
    nowMs: number,
  ): Generator<Finding> {
    for (const [reason, count] of reasons) {
      const isTls = reason.startsWith('tls_');
      const why = isTls ? `TLS fails (${reason})` : TURNED_AWAY[reason];
      if (why === undefined) continue;
      const grown = this.recent.grown(`rejected ${listener} ${reason}`, count, nowMs);
      if (grown < MIN_TURNED_AWAY) continue;
      yield {
        kind: 'turned_away',
        id: `turned away ${listener} ${reason}`,
        severity: 'warn',
        text: `The ${listener} listener turns ${isTls ? 'callers' : 'calls'} away: ${why}.`,
        detail: `${grown} in ${this.recent.seconds} s`,
        about: { listener, reason },
        numbers: { turned_away: grown },
      };
    }
  }

  /** Forgets the clusters, methods and models that no longer exist. */
  private forget({ clusters, providers }: NowFacts, nowMs: number): void {
    this.recent.forgetBefore(nowMs);
    const models = new Set(
      providers.flatMap(({ name, models }) => models.map(({ model }) => ProviderWatch.idOf(name, model))),
    );
    this.providers.keep(models);
    this.failures.keep(new Set(clusters.map(({ name }) => name)));
    const methods = new Set(
      clusters.flatMap(({ name, methods }) => methods.map(({ method }) => `waits ${name} ${method}`)),
    );
    for (const id of this.waits.keys()) if (!methods.has(id)) this.waits.delete(id);
  }
}

function simple(kind: FindingKind, severity: Finding['severity'], text: string): Finding {
  return { kind, id: kind, severity, text, detail: '', about: {}, numbers: {} };
}

function* busFindings({ problem, dead }: BusFacts): Generator<Finding> {
  if (problem !== '')
    yield simple('bus_unavailable', 'bad', `The bus can't be used: ${problem.replace(/\.$/, '')}.`);
  for (const [agentType, count] of dead)
    if (count > 0)
      yield {
        kind: 'dead_letters',
        id: `dead letters ${agentType}`,
        severity: 'warn',
        text: `Tasks for ${agentType} are in the dead letters.`,
        detail: `${counted(count, 'task', 'is')} there`,
        about: { agent_type: agentType },
        numbers: { dead_letters: count },
      };
}

function mistake(setting: string, text: string): Finding {
  return {
    kind: 'configuration',
    id: `setting ${setting}`,
    severity: 'warn',
    text,
    detail: '',
    about: { setting },
    numbers: {},
  };
}

function noEndpoint(cluster: string, because = ''): Finding {
  return {
    kind: 'no_endpoint',
    id: `none of ${cluster}`,
    severity: 'bad',
    text:
      because === ''
        ? `No endpoint of ${cluster} can be used.`
        : `No endpoint of ${cluster} is known: ${because}.`,
    detail: '',
    about: { cluster },
    numbers: {},
  };
}

function ownLimits(waiting: number): Finding {
  return {
    kind: 'own_limits',
    id: 'own limits',
    severity: 'warn',
    text: 'Requests to models wait for limits of this sidecar (llm.limits).',
    detail: counted(waiting, 'request', 'waits'),
    about: {},
    numbers: { waiting_requests: waiting },
  };
}

function allIsWell({ clusters }: NowFacts): string {
  const total = clusters.reduce((sum, { endpoints }) => sum + endpoints.length, 0);
  return `All is well: ${counted(total, 'endpoint', 'is')} in service, no circuit is open.`;
}
