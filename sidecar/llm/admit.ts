/** Lets a request of a caller of the service begin as soon as that caller's limits admit it. */
import { refuse } from './caller/refusals.ts';
import type { Reply } from './caller/reply.ts';
import { traitsOf } from './kinds/operations.ts';
import type { EgressContext } from './provider/egress-context.ts';
import { outputReserve } from './provider/output-tokens.ts';
import type { ModelRequest } from './request/model-request.ts';
import { shortLived } from './shared/short-lived.ts';

/** @param serve is called at once for a request beside an agent, which has no such limits */
export function admit(
  { settings, stats, clock }: EgressContext,
  request: ModelRequest,
  reply: Reply,
  serve: (request: ModelRequest) => void,
): void {
  const { client, facts } = request;
  if (client === undefined) {
    serve(request);
    return;
  }
  const { isCounted } = traitsOf(facts.operation);
  const tokens = isCounted ? facts.estimatedInputTokens + outputReserve(facts, settings.limits) : 0;
  client.enter(tokens, (decision) => {
    if ('reason' in decision) {
      const { reason, message, retryAfterMs } = decision;
      stats.reject((clock() - request.receivedMs) / 1000);
      refuse(reply, reason, message, { retryAfterMs, clientDecides: true });
      request.dropBody();
      return;
    }
    const { onOver } = reply;
    reply.onOver = shortLived(() => {
      decision.leave();
      onOver();
    });
    if (reply.gone) {
      decision.settle(0);
      decision.leave();
      request.dropBody();
      return;
    }
    serve({ ...request, visit: decision });
  });
}
