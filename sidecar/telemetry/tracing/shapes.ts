import { isTaskPath } from '../../task/task-message.ts';
import { type Attributes, type AttributeValue, SpanKind, SpanShape } from './span.ts';
import type { TracedAttempt, TracedCall } from './traced-call.ts';

/** Callers choose paths and authorities: shapes beyond this number are made anew, and longer texts are cut. */
const MAX_SHAPES = 1000;
const MAX_TEXT_CHARS = 256;

/**
 * What the spans of a method, a cluster and an endpoint have in common, by OpenTelemetry's conventions for RPCs
 * (semantic-conventions 1.45, stable) and for agents (in development). Made once, for nearly all calls repeat it.
 */
export class SpanShapes {
  /** Of the agent beside this sidecar. */
  version: string;
  private readonly calls = new Map<string, SpanShape>();
  private readonly attempts = new Map<string, SpanShape>();

  constructor(version: string) {
    this.version = version;
  }

  /** The SERVER span of an inbound call, or the CLIENT span of an outbound one. */
  ofCall(call: TracedCall): SpanShape {
    const { context, head, cluster, info } = call;
    const { listener, name } = context;
    const key = `${listener} ${info.grpc} ${cluster?.name ?? ''} ${name} ${head.authority} ${head.path}`;
    const known = this.calls.get(key);
    if (known !== undefined) return known;
    const kind = listener === 'inbound' ? SpanKind.SERVER : SpanKind.CLIENT;
    const attributes = [...methodAttributes(call), ...serverAttributes(cut(head.authority))];
    if (info.grpc && isTaskPath(head.path)) {
      attributes.push('gen_ai.operation.name', 'invoke_agent');
      if (listener === 'inbound')
        attributes.push('gen_ai.agent.name', name, 'gen_ai.agent.version', this.version);
      else if (cluster !== undefined) attributes.push('gen_ai.agent.name', cluster.name);
    }
    if (cluster !== undefined && listener === 'outbound') attributes.push('outrigger.cluster', cluster.name);
    return keep(this.calls, key, new SpanShape(nameOf(call), kind, attributes));
  }

  /** The span of one attempt; named as gRPC's own libraries name theirs (gRPC proposal A72). */
  ofAttempt(call: TracedCall, attempt: TracedAttempt): SpanShape {
    const { address } = attempt.endpoint;
    const { head, cluster, info } = call;
    const key = `${info.grpc} ${cluster?.name ?? ''} ${address} ${head.path}`;
    const known = this.attempts.get(key);
    if (known !== undefined) return known;
    const attributes = [...methodAttributes(call), ...serverAttributes(address)];
    if (cluster !== undefined) attributes.push('outrigger.cluster', cluster.name);
    return keep(this.attempts, key, new SpanShape(`Attempt.${nameOf(call)}`, SpanKind.CLIENT, attributes));
  }
}

function keep(shapes: Map<string, SpanShape>, key: string, shape: SpanShape): SpanShape {
  // Full means that somebody invents paths; those in use are soon back.
  if (shapes.size >= MAX_SHAPES) shapes.clear();
  if (key.length <= 4 * MAX_TEXT_CHARS) shapes.set(key, shape);
  return shape;
}

/** `package.Service/Method`. A query, which plain HTTP requests may carry, is content. */
function nameOf({ head, info }: TracedCall): string {
  return info.grpc ? cut(head.path.slice(1)) : `HTTP ${cut(head.method)}`;
}

function methodAttributes(call: TracedCall): AttributeValue[] {
  if (!call.info.grpc) return ['http.request.method', cut(call.head.method)];
  return ['rpc.system.name', 'grpc', 'rpc.method', nameOf(call)];
}

/** `host:port`, `[v6]:port`, a name alone, or `unix:/path`. */
export function serverAttributes(address: string): AttributeValue[] {
  if (address === '') return [];
  if (address.startsWith('unix:')) return ['server.address', address.slice(5)];
  const colon = address.lastIndexOf(':');
  const port = colon < 0 ? Number.NaN : Number(address.slice(colon + 1));
  if (!Number.isInteger(port) || port < 1 || port > 65_535 || address.endsWith(':'))
    return ['server.address', address];
  return ['server.address', address.slice(0, colon).replace(/^\[|\]$/g, ''), 'server.port', port];
}

function cut(text: string): string {
  return text.slice(0, MAX_TEXT_CHARS);
}

export const NO_ATTRIBUTES: Attributes = [];
