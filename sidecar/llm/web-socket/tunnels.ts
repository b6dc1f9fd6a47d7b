/** Keeps the open WebSockets, and bounds their number, in all and for each caller. */
import type { Socket } from 'node:net';
import { type RefusalExtras, type RefusalReason, refuse } from '../caller/refusals.ts';
import { SocketSink } from '../caller/socket-sink.ts';
import type { EgressContext } from '../provider/egress-context.ts';
import { Tunnel, type TunnelRequest } from './tunnel.ts';

/** The share of one caller, so that another caller finds a place. */
const CALLER_SHARE = 0.75;
/** When a refused caller may try again: some WebSockets may have ended by then. */
const AGAIN_MS = 1_000;

export class Tunnels {
  private readonly context: EgressContext;
  private readonly openTunnels = new Set<Tunnel>();
  private readonly callers = new Map<string, number>();

  constructor(context: EgressContext) {
    this.context = context;
  }

  /** The number of WebSockets that are open or in their handshake. */
  get size(): number {
    return this.openTunnels.size;
  }

  open(request: TunnelRequest): void {
    const { maxWebSockets } = this.context.settings.limits;
    const { caller, socket } = request;
    const ofCaller = this.callers.get(caller) ?? 0;
    if (this.openTunnels.size >= maxWebSockets || ofCaller >= Math.ceil(maxWebSockets * CALLER_SHARE)) {
      const message = `${this.openTunnels.size} WebSockets are open, ${ofCaller} of them of this caller (llm.limits.max_web_sockets); close one first`;
      this.turnAway(socket, 'overloaded', message, { retryAfterMs: AGAIN_MS, clientDecides: true });
      return;
    }
    this.callers.set(caller, ofCaller + 1);
    const tunnel = new Tunnel(this.context, request, () => this.forget(tunnel));
    this.openTunnels.add(tunnel);
    tunnel.start();
  }

  turnAway(socket: Socket, reason: RefusalReason, message: string, more: RefusalExtras = {}): void {
    this.context.stats.reject(0);
    refuse(new SocketSink(socket), reason, message, more);
  }

  endForDrain(): void {
    for (const tunnel of [...this.openTunnels]) tunnel.endForDrain();
  }

  close(): void {
    for (const tunnel of [...this.openTunnels]) tunnel.close();
  }

  private forget(tunnel: Tunnel): void {
    if (!this.openTunnels.delete(tunnel)) return;
    const left = (this.callers.get(tunnel.caller) ?? 1) - 1;
    if (left > 0) this.callers.set(tunnel.caller, left);
    else this.callers.delete(tunnel.caller);
  }
}
