/** Writes changes of the sidecar's state to the log and to `/events`. */
import type { TaskRecord } from '../bus/log/task-record.ts';
import type { Cluster } from '../cluster/cluster.ts';
import type { Endpoint } from '../cluster/endpoint.ts';
import type { EndpointCheck } from '../cluster/health/active-health.ts';
import type { OutlierEvent } from '../cluster/outlier/detector.ts';
import type { DrainState, SidecarObserver } from '../data-plane/sidecar.ts';
import type { ConnectionError } from '../http2/errors.ts';
import { type CircuitTransition, describeCause } from '../policy/circuit-state.ts';
import type { EventLog } from '../telemetry/events.ts';
import type { Logger } from '../telemetry/log.ts';
import type { TlsFileError, TlsMaterial } from '../tls/material.ts';

/** Connection errors that we log each second; a flood of errors must not become a flood of lines. */
const CONNECTION_LINES_PER_SECOND = 10;

/** Some reasons contain a peer's text, so their number is bounded. */
const MAX_REASONS = 20;
/** The number of endpoints that one line names. */
const MAX_NAMED_ENDPOINTS = 20;

/** Each method logs one kind of event. Connection errors are limited to some lines a second. */
export class LoggingObserver implements SidecarObserver {
  private readonly log: Logger;
  private readonly events: EventLog;
  private linesThisSecond = 0;
  /** Further errors of this second, by reason. */
  private readonly unlogged = new Map<string, number>();
  /** Runs from the first error of a second to the end of that second. */
  private second: NodeJS.Timeout | undefined = undefined;

  constructor(log: Logger, events: EventLog) {
    this.log = log;
    this.events = events;
  }

  onEndpoints(cluster: Cluster, added: readonly string[], removed: readonly string[]): void {
    const details = { cluster: cluster.name, endpoints: cluster.endpoints.length };
    const changes = [...added.map((address) => `+${address}`), ...removed.map((address) => `-${address}`)];
    const left = changes.length - MAX_NAMED_ENDPOINTS;
    const more = left > 0 ? ` and ${left} more` : '';
    const message = `cluster ${cluster.name} has ${cluster.endpoints.length} endpoints: ${changes.slice(0, MAX_NAMED_ENDPOINTS).join(' ')}${more}`;
    this.log.info(details, message);
    this.events.record('endpoints', message, details);
  }

  onDiscoveryError(cluster: Cluster, error: Error): void {
    this.log.warn({ cluster: cluster.name, err: error }, 'discovery failed; the last good endpoints stay');
    this.events.record('discovery', `cluster ${cluster.name}: ${error.message}`, { cluster: cluster.name });
  }

  onConnectFailed(cluster: Cluster, endpoint: Endpoint, message: string): void {
    this.log.debug({ cluster: cluster.name, endpoint: endpoint.address }, message);
  }

  onEndpointUsable(cluster: Cluster, endpoint: Endpoint, usable: boolean): void {
    const details = { cluster: cluster.name, endpoint: endpoint.address, usable };
    const because = endpoint.unusableBecause ?? 'connected';
    const message = `endpoint ${endpoint.address} of ${cluster.name} is ${usable ? 'usable again' : 'not usable'}: ${because}`;
    if (usable) this.log.info(details, message);
    else this.log.warn(details, message);
    this.events.record('endpoint', message, details);
  }

  onTooManyPings(cluster: Cluster, endpoint: Endpoint, keepaliveTimeMs: number): void {
    const details = {
      cluster: cluster.name,
      endpoint: endpoint.address,
      keepalive_ms: Math.round(keepaliveTimeMs),
    };
    const message = `${endpoint.address} of ${cluster.name} answered too_many_pings; we now send it a keepalive PING each ${keepaliveTimeMs / 1000} s; set keepalive.time to that`;
    this.log.warn(details, message);
    this.events.record('keepalive', message, details);
  }

  onHealthChange(cluster: Cluster, endpoint: Endpoint, { state, detail }: EndpointCheck): void {
    const details = { cluster: cluster.name, endpoint: endpoint.address, state };
    const message = `endpoint ${endpoint.address} of ${cluster.name} is ${state}: ${detail}`;
    if (state === 'unhealthy') this.log.warn(details, message);
    else this.log.info(details, message);
    this.events.record('health_check', message, details);
  }

  onOutlier(cluster: Cluster, event: OutlierEvent): void {
    const { endpoint, kind, reason, forMs, message } = event;
    const details = {
      cluster: cluster.name,
      endpoint: endpoint.address,
      kind,
      reason,
      for_ms: Math.round(Math.min(forMs, 1e9)),
    };
    if (kind === 'ejected') this.log.warn(details, message);
    else this.log.info(details, message);
    this.events.record('ejection', `${cluster.name}: ${message}`, details);
  }

  onCircuit(cluster: Cluster, method: string, transition: CircuitTransition): void {
    const { from, to, cause, openForMs, unreachable } = transition;
    const details = { cluster: cluster.name, method, from, to, open_for_ms: Math.round(openForMs) };
    const back = to === 'half_open' && unreachable ? ': an absent endpoint has returned' : '';
    const why = cause === undefined ? back : `: ${describeCause(cause)}`;
    const message = `the circuit of ${cluster.name}${method} is ${to.replace('_', '-')}${why}`;
    if (to === 'open') this.log.warn(details, message);
    else this.log.info(details, message);
    this.events.record('circuit', message, details);
  }

  onBreaker(upstream: string, from: string, to: string): void {
    this.noteBreaker(`the LLM upstream ${upstream}`, { upstream, from, to });
  }

  onMcpBreaker(server: string, from: string, to: string): void {
    this.noteBreaker(`the tool server ${server}`, { server, from, to });
  }

  private noteBreaker(
    of: string,
    details: {
      readonly from: string;
      readonly to: string;
      readonly upstream?: string;
      readonly server?: string;
    },
  ): void {
    const message = `the circuit of ${of} is ${details.to.replace('_', '-')}`;
    if (details.to === 'open') this.log.warn(details, message);
    else this.log.info(details, message);
    this.events.record('circuit', message, details);
  }

  onCooldown(upstream: string, model: string, forMs: number, because: string): void {
    const details = { upstream, model, for_ms: Math.round(forMs) };
    const message = `the LLM upstream ${upstream} rests for ${Math.round(forMs)} ms for ${modelName(model)}: it answered ${because}`;
    this.log.info(details, message);
    this.events.record('cooldown', message, details);
  }

  onOutOfCredit(upstream: string, model: string, code: string): void {
    const details = { upstream, model, code };
    const message = `the LLM upstream ${upstream} demands payment for ${modelName(model)} (${code}): see the provider's billing page`;
    this.log.warn(details, message);
    this.events.record('out_of_credit', message, details);
  }

  onCallerKeys(caller: string, problem: string): void {
    const message = `the key of the LLM caller ${caller} can't be used: ${problem}`;
    this.log.warn({ caller, problem }, message);
    this.events.record('caller_keys', message, { caller });
  }

  onKeyFile(setting: string, problem: string, inUse: boolean): void {
    const kept = inUse ? 'its last keys stay in use' : 'there is no key';
    const message =
      problem === ''
        ? `the file of ${setting} is in use again`
        : `the file of ${setting} can't be used, and ${kept}: ${problem}`;
    if (problem === '') this.log.info({ setting }, message);
    else this.log.warn({ setting }, message);
    this.events.record('key_file', message, { setting });
  }

  onConnectionError(listener: string, error: ConnectionError): void {
    this.second ??= setTimeout(() => this.endSecond(), 1_000).unref();
    if (++this.linesThisSecond > CONNECTION_LINES_PER_SECOND) {
      const known = this.unlogged.size < MAX_REASONS || this.unlogged.has(`${listener} ${error.reason}`);
      const what = known ? `${listener} ${error.reason}` : 'others';
      this.unlogged.set(what, (this.unlogged.get(what) ?? 0) + 1);
      return;
    }
    const details = { listener, reason: error.reason };
    // A defect of ours is logged with its cause and stack; an error of the peer needs one line.
    if (error.source === 'local') this.log.error({ ...details, err: error }, error.message);
    else if (error.reason === 'passed_on') this.log.warn(details, error.message);
    else if (error.reason.startsWith('tls_'))
      this.log.warn(details, `refused a caller (${error.reason}): ${error.message}`);
    else this.log.info(details, `closed a downstream connection: ${error.message}`);
  }

  private endSecond(): void {
    this.second = undefined;
    this.linesThisSecond = 0;
    if (this.unlogged.size === 0) return;
    const unlogged = Object.fromEntries(this.unlogged);
    this.unlogged.clear();
    this.log.info({ unlogged }, 'closed more downstream connections in one second than the log shows');
  }

  onCertificate(where: string, material: TlsMaterial, change: 'loaded' | 'replaced'): void {
    const { expiresAtMs, identities } = material;
    const leftMs = expiresAtMs - Date.now();
    const expires = material.cert === undefined ? 'none' : new Date(expiresAtMs).toISOString();
    const details = { setting: where, expires, identities: identities.join(' ') };
    const what = `${where}: the certificates were ${change}`;
    if (leftMs <= 0) this.log.warn(details, `${what}, but ours has expired, and peers refuse it; renew it`);
    else this.log.info(details, what);
    if (change === 'replaced') this.events.record('certificate', what, details);
  }

  onCertificateInvalid(where: string, { file, message, remedy }: TlsFileError): void {
    const what = `${where}: the new ${file} file ${message}; the previous certificate stays in use: ${remedy}`;
    this.log.error({ setting: where, file }, what);
    this.events.record('certificate', what, { setting: where, file });
  }

  onBusConnected(connected: boolean, because: string): void {
    const message = connected ? 'the bus is connected' : `the bus can't be used: ${because}`;
    if (connected) this.log.info(message);
    else this.log.warn(message);
    this.events.record('bus', message, { connected });
  }

  onBusNotice(notice: string): void {
    this.log.warn(`the bus is set up otherwise: ${notice}; to change it, run outrigger bus setup`);
    this.events.record('bus', notice, {});
  }

  onJournalConnected(connected: boolean, because: string): void {
    const message = connected
      ? 'the journal keeps answers'
      : `the journal can't be used, and answers are not kept: ${because}`;
    if (connected) this.log.info(message);
    else this.log.warn(message);
    this.events.record('journal', message, { connected });
  }

  onTaskLost({ key, agentType, run }: TaskRecord, cause: string, isDead: boolean): void {
    const details = { task: key, agent_type: agentType, run };
    const next = isDead ? 'it is in the dead letters' : 'another run follows';
    const message = `run ${run} of a task for ${agentType} ended without a result (${cause}); ${next}`;
    this.log.warn(details, message);
    this.events.record('task', message, { ...details, dead: isDead });
  }

  onTaskGivenBack({ key, agentType, run }: TaskRecord, because: string): void {
    this.log.info({ task: key, agent_type: agentType, run }, `gave a task back to the bus: ${because}`);
  }

  onTaskFenced({ key, agentType, run }: TaskRecord, because: string): void {
    const details = { task: key, agent_type: agentType, run };
    const why = because === 'cancelled' ? 'it was cancelled' : 'its lease had ended';
    const message = `what run ${run} of a task for ${agentType} had to say no longer counts: ${why}`;
    this.log.info(details, message);
    if (because !== 'cancelled') this.events.record('task', message, details);
  }

  onBusDefect(error: unknown): void {
    this.log.error({ err: error }, 'a task of the bus failed; this is a defect');
  }

  onDrainState(state: DrainState): void {
    this.log.info({ state }, `sidecar ${state}`);
    this.events.record('state', `the sidecar is ${state}`, { state });
  }
}

/** Requests that we relay unread name no model. */
function modelName(model: string): string {
  return model === '' ? 'requests without a model' : `the model ${model}`;
}
