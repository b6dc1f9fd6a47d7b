/** Decides at the head of a request who asks, and whether the request is turned away before it is read. */
import type { DownstreamRequest } from './caller/downstream.ts';
import type { RefusalExtras } from './caller/refusals.ts';
import type { EgressContext } from './provider/egress-context.ts';
import { wrongPath } from './provider/notify-owner.ts';
import { type Objection, objectionTo, plainHeaders } from './request/incoming-head.ts';
import { KnownCallers, type Peer } from './service/known-callers.ts';
import type { ServiceCaller } from './service/service-caller.ts';

/** For a request above a limit: some of the running requests have ended by then. */
export const AGAIN = { retryAfterMs: 1_000, clientDecides: true } as const;

/** Who asks, or why nobody is served. */
export type AtDoor = { readonly client: ServiceCaller | undefined } | { readonly objection: Objection };

export class Door {
  readonly known: KnownCallers;
  private readonly context: EgressContext;
  isClosing = false;

  constructor(context: EgressContext) {
    this.context = context;
    this.known = new KnownCallers(context.settings, context);
  }

  /** @param active the number of requests that run */
  check(request: DownstreamRequest, peer: Peer, active: number): AtDoor {
    const client = this.known.of(request.headers, request.url ?? '', peer);
    if (client !== undefined && 'message' in client)
      return { objection: { reason: 'unauthorized', message: client.message, more: challenge(request) } };
    const objection = this.objection(request, peer, active) ?? client?.objectionToConnection(request.socket);
    return objection === undefined ? { client } : { objection };
  }

  private objection(request: DownstreamRequest, peer: Peer, active: number): Objection | undefined {
    const { limits } = this.context.settings;
    const objection = objectionTo(request, peer.isLoopback);
    if (objection?.reason === 'no_route')
      this.context.ownerCalls
        ?.find(plainHeaders(request.headers))
        ?.modelEnded?.(wrongPath(request.url ?? '', objection.message));
    if (objection !== undefined) return objection;
    if (this.isClosing) return { reason: 'draining', message: 'the sidecar is shutting down; retry' };
    if (active >= limits.maxConcurrentRequests)
      return {
        reason: 'overloaded',
        message: `${active} requests are running (llm.limits.max_concurrent_requests); try again later`,
        more: AGAIN,
      };
    return undefined;
  }
}

/** Who has no key keeps no connection. */
function challenge({ httpVersionMajor }: DownstreamRequest): RefusalExtras {
  const headers = { 'www-authenticate': 'Bearer' };
  return { headers: httpVersionMajor === 1 ? { ...headers, connection: 'close' } : headers };
}
