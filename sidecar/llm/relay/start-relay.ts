/** Starts a request to a provider: at once over HTTP/1.1, and over TLS on the connection that the provider's ALPN allows. */
import type { Connection } from '../../http2/connection.ts';
import { Http2Relay } from './http2-relay.ts';
import type { ConnectionWaiter, ProviderConnections } from './provider-connections.ts';
import type { ProviderRelay, RelayHandlers } from './provider-relay.ts';
import { Relay } from './relay.ts';
import type { RelayRequest } from './relay-request.ts';

export function startRelay(
  connections: ProviderConnections,
  request: RelayRequest,
  handlers: RelayHandlers,
): ProviderRelay {
  if (!connections.offersHttp2) return new Relay(request, handlers);
  return new WaitingRelay(connections, request, handlers);
}

/** A request that waits for a connection, and is then passed on to the relay of its version of HTTP. */
class WaitingRelay implements ProviderRelay, ConnectionWaiter {
  private readonly connections: ProviderConnections;
  private readonly request: RelayRequest;
  private readonly handlers: RelayHandlers;
  private relay: ProviderRelay | undefined = undefined;
  private ended = false;

  constructor(connections: ProviderConnections, request: RelayRequest, handlers: RelayHandlers) {
    this.connections = connections;
    this.request = request;
    this.handlers = handlers;
    // The owner must be whole before it hears of anything.
    process.nextTick(take, this);
  }

  get sent(): boolean {
    return this.relay?.sent === true;
  }

  take(): void {
    if (!this.ended) this.connections.take(this);
  }

  pause(): void {
    this.relay?.pause();
  }

  resume(): void {
    this.relay?.resume();
  }

  abort(): void {
    if (this.ended) return;
    this.ended = true;
    if (this.relay === undefined) this.connections.leave(this);
    else this.relay.abort();
  }

  onHttp1(): void {
    if (!this.ended) this.relay = new Relay(this.request, this.handlers);
  }

  onHttp2(connection: Connection): void {
    if (this.ended) return;
    this.handlers.onConnected();
    if (this.ended) return;
    this.relay = Http2Relay.begin(connection, this.request, this.handlers, this.connections);
    if (this.relay === undefined) this.onNoConnection('ERR_INVALID_CHAR');
  }

  onNoConnection(code: string): void {
    if (this.ended) return;
    this.ended = true;
    this.handlers.onError({ code, connected: false, reused: false });
  }
}

function take(relay: WaitingRelay): void {
  relay.take();
}
