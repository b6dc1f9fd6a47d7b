/** Builds and caches the shapes of spans: the attributes that spans of similar calls share. */
import { Status, type StatusCode, statusName } from '../../grpc/status.ts';
import type { ObservedAttempt, ObservedCall } from '../../proxy/observed-call.ts';
import { isTaskPath, TASK_STATUS_NAMES } from '../../task/task-message.ts';
import { OTHER_METHOD } from '../../telemetry/call-stats.ts';
import { type AttributeValue, SpanKind, SpanShape } from '../../telemetry/tracing/span.ts';
import { serverAttributes } from './server-attributes.ts';

/**
 * Callers choose paths and authorities: beyond this number of shapes the cache drops all of them, and longer texts are
 * cut.
 */
const MAX_SHAPES = 2000;
const MAX_TEXT_CHARS = 256;

/** The usual ends of calls and attempts have cached shapes; a larger number gets a shape for one use. */
const MAX_NUMBER = 15;

/** HTTP's registered methods and QUERY (semantic conventions for HTTP, `http.request.method`). */
const HTTP_METHODS: ReadonlySet<string> = new Set([
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'DELETE',
  'CONNECT',
  'OPTIONS',
  'TRACE',
  'PATCH',
  'QUERY',
]);

/** The shapes of one method of one cluster, at one authority or endpoint. */
class Family {
  /** `rpc.method`, or `http.request.method`. */
  readonly method: string;
  /** The other keys of the family. */
  readonly cluster: string;
  readonly server: string;
  readonly agent: string;
  readonly grpc: boolean;
  readonly outcomes = new Map<number, SpanShape>();
  /** Whether later calls find it in the cache. */
  kept = false;

  constructor(method: string, cluster: string, server: string, agent: string, grpc: boolean) {
    this.method = method;
    this.cluster = cluster;
    this.server = server;
    this.agent = agent;
    this.grpc = grpc;
  }
}

/**
 * The common attributes of spans of one method, cluster, endpoint and usual outcome, by OpenTelemetry's conventions for
 * RPCs (semantic-conventions 1.45, stable) and for agents (in development). A shape is created and encoded once: nearly
 * all calls repeat earlier ones, so their spans write only ids and times.
 */
export class SpanShapes {
  /** The version of the agent beside this sidecar. */
  private readonly version: string;
  private readonly inbound = new Map<string, Family[]>();
  private readonly outbound = new Map<string, Family[]>();
  private readonly attempts = new Map<string, Family[]>();
  /** By verdict; verdicts are constants (policy/verdict.ts). */
  private readonly verdicts = new Map<ObservedAttempt['verdict'], number>();
  private count = 0;

  constructor(version: string) {
    this.version = version;
  }

  get size(): number {
    return this.count;
  }

  /**
   * The SERVER span of an inbound call, or the CLIENT span of an outbound one.
   *
   * @param method the result of {@link spanMethod}
   * @param taskStatus -1 without one
   */
  ofCall(call: ObservedCall, method: string, failed: boolean, taskStatus: number): SpanShape {
    const { context, head, cluster, info, status, attempts } = call;
    const isInbound = context.listener === 'inbound';
    const families = isInbound ? this.inbound : this.outbound;
    const family = this.family(
      families,
      method,
      cluster?.name ?? '',
      head.authority,
      context.name,
      info.grpc,
    );
    const known = taskStatus >= 0 && taskStatus < TASK_STATUS_NAMES.length ? taskStatus : -1;
    const outcome = ((status + 1) * 16 + Math.min(attempts, MAX_NUMBER)) * 8 + known + 1;
    const shape = family.outcomes.get(outcome);
    if (shape !== undefined) return shape;
    const kind = isInbound ? SpanKind.SERVER : SpanKind.CLIENT;
    const attributes = [...methodAttributes(info.grpc, method), ...serverAttributes(cut(head.authority))];
    if (info.grpc && isTaskPath(`/${method}`)) {
      attributes.push('gen_ai.operation.name', 'invoke_agent');
      if (isInbound) attributes.push('gen_ai.agent.name', context.name, 'gen_ai.agent.version', this.version);
      else if (cluster !== undefined) attributes.push('gen_ai.agent.name', cluster.name);
    }
    if (cluster !== undefined && !isInbound) attributes.push('outrigger.cluster', cluster.name);
    if (status !== -1 && info.grpc) addStatus(attributes, status, failed);
    if (!isInbound) attributes.push('outrigger.attempts', attempts);
    if (known >= 0) attributes.push('outrigger.task.status', TASK_STATUS_NAMES[known]!);
    return this.keep(family, outcome, attempts, new SpanShape(spanName(info.grpc, method), kind, attributes));
  }

  /**
   * The span of one attempt. It has the name that gRPC's own libraries use, and their attributes for previous attempts
   * (gRPC proposal A72).
   *
   * @param method the result of {@link spanMethod}
   * @param previous the number of earlier attempts that may have been processed
   */
  ofAttempt(
    call: ObservedCall,
    attempt: ObservedAttempt,
    method: string,
    previous: number,
    transparent: boolean,
  ): SpanShape {
    const { cluster, info } = call;
    const { number, status, verdict } = attempt;
    const { address } = attempt.endpoint;
    const family = this.family(this.attempts, method, cluster?.name ?? '', address, '', info.grpc);
    const ways = (Math.min(number, MAX_NUMBER) * 16 + Math.min(previous, MAX_NUMBER)) * 2;
    const outcome = (this.verdictNumber(verdict) * 32 + status) * 512 + ways + (transparent ? 1 : 0);
    const shape = family.outcomes.get(outcome);
    if (shape !== undefined) return shape;
    const attributes = [...methodAttributes(info.grpc, method), ...serverAttributes(address)];
    if (cluster !== undefined) attributes.push('outrigger.cluster', cluster.name);
    attributes.push('outrigger.attempt.number', number);
    attributes.push('previous-rpc-attempts', previous, 'transparent-retry', transparent);
    attributes.push('outrigger.verdict', verdict.outcome, 'outrigger.verdict.reason', verdict.reason);
    const failed = status !== Status.OK && attempt.kind !== 'superseded';
    if (info.grpc) addStatus(attributes, status, failed);
    const name = `Attempt.${spanName(info.grpc, method)}`;
    return this.keep(family, outcome, number, new SpanShape(name, SpanKind.CLIENT, attributes));
  }

  private family(
    families: Map<string, Family[]>,
    method: string,
    cluster: string,
    server: string,
    agent: string,
    grpc: boolean,
  ): Family {
    const list = families.get(method);
    if (list !== undefined) {
      for (const one of list) {
        if (one.server === server && one.cluster === cluster && one.agent === agent && one.grpc === grpc)
          return one;
      }
    }
    const family = new Family(method, cluster, server, agent, grpc);
    if (server.length > MAX_TEXT_CHARS) return family;
    if (this.count >= MAX_SHAPES) this.forget();
    this.count++;
    family.kept = true;
    const here = families.get(method);
    if (here === undefined) families.set(method, [family]);
    else here.push(family);
    return family;
  }

  private keep(family: Family, outcome: number, number: number, shape: SpanShape): SpanShape {
    if (!family.kept || number >= MAX_NUMBER || this.count >= MAX_SHAPES) return shape;
    this.count++;
    family.outcomes.set(outcome, shape);
    return shape;
  }

  /** A full cache means that a caller invents paths; the shapes in use soon return. */
  private forget(): void {
    this.count = 0;
    this.inbound.clear();
    this.outbound.clear();
    this.attempts.clear();
  }

  private verdictNumber(verdict: ObservedAttempt['verdict']): number {
    let number = this.verdicts.get(verdict);
    if (number === undefined) {
      number = this.verdicts.size;
      this.verdicts.set(verdict, number);
    }
    return number;
  }
}

/** The convention's code; for an error, the code is also the type of the error. */
function addStatus(attributes: AttributeValue[], status: StatusCode, failed: boolean): void {
  attributes.push('rpc.response.status_code', statusName(status));
  if (failed) attributes.push('error.type', statusName(status));
}

/**
 * `package.Service/Method`, or HTTP's method; `_OTHER` for a name that a caller may have invented, so that spans have
 * as few names as metrics. Such spans also carry the {@link originalMethod}.
 */
export function spanMethod(
  call: ObservedCall,
  status: StatusCode | -1,
  attempt: ObservedAttempt | undefined,
): string {
  const { head, info } = call;
  if (!info.grpc) return HTTP_METHODS.has(head.method) ? head.method : OTHER_METHOD;
  return call.knowsMethod(status, attempt) ? cut(info.method.slice(1)) : OTHER_METHOD;
}

/** The original name of a method that has no name of its own. */
export function originalMethod({ head, info }: ObservedCall): [name: string, method: string] {
  return info.grpc
    ? ['rpc.method_original', cut(info.method.slice(1))]
    : ['http.request.method_original', cut(head.method)];
}

/** Semantic conventions for RPC spans and for HTTP spans, "Name". */
function spanName(grpc: boolean, method: string): string {
  if (grpc) return method;
  return method === OTHER_METHOD ? 'HTTP' : `HTTP ${method}`;
}

function methodAttributes(grpc: boolean, method: string): AttributeValue[] {
  return grpc ? ['rpc.system.name', 'grpc', 'rpc.method', method] : ['http.request.method', method];
}

function cut(text: string): string {
  return text.slice(0, MAX_TEXT_CHARS);
}
