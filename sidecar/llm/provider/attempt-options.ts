/** Puts together what a provider attempt needs: of the egress, of its request, and of its upstream. */
import type { Sink } from '../caller/sink.ts';
import type { RelayRequest } from '../relay/relay-request.ts';
import type { ModelRequest } from '../request/model-request.ts';
import type { EgressContext } from './egress-context.ts';
import type { ClockLimits } from './provider-attempt-clocks.ts';
import type { ProviderAttemptOptions } from './provider-attempt-owner.ts';
import type { Upstream } from './upstream.ts';

/** What differs between two attempts of one request. */
interface AttemptParts {
  readonly request: RelayRequest;
  readonly sink: Sink;
  readonly upstream: Upstream;
  /** Takes out the usage event that we have asked for. */
  readonly stripUsage: boolean;
  readonly maxOutputEvents: number;
}

export function attemptOptions(
  { wheel, clock, settings }: EgressContext,
  { facts, receivedMs }: ModelRequest,
  clocks: ClockLimits,
  { upstream, ...parts }: AttemptParts,
): ProviderAttemptOptions {
  return {
    ...parts,
    ...clocks,
    facts,
    wheel,
    clock,
    receivedMs,
    life: upstream,
    connections: upstream.connections,
    upstream: upstream.name,
    kind: upstream.kind,
    maxAnswerBytes: settings.limits.maxAnswerBytes,
    resend: settings.retry.resend,
  };
}
