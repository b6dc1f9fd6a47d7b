/** The circuits of one cluster, one for each called method. */

import { CircuitBreaker } from './circuit-breaker.ts';
import type { CircuitBreakerSettings } from './circuit-breaker-settings.ts';
import type { CircuitTransition } from './circuit-state.ts';

/** The number of methods with a circuit of their own. Callers can invent paths, so the other methods share one. */
const MAX_METHODS = 256;
const OTHER_METHODS = '';

type OnTransition = (method: string, transition: CircuitTransition) => void;

export class CircuitBreakers {
  private settings: CircuitBreakerSettings;
  private readonly random: () => number;
  private readonly byMethod = new Map<string, CircuitBreaker>();
  private endpointCount = 1;

  constructor(settings: CircuitBreakerSettings, random: () => number) {
    this.settings = settings;
    this.random = random;
  }

  /** @param method the path, `/package.Service/Method` */
  of(method: string): CircuitBreaker {
    return this.byMethod.get(method) ?? this.make(method);
  }

  private make(method: string): CircuitBreaker {
    const name = this.byMethod.size < MAX_METHODS ? method : OTHER_METHODS;
    let breaker = this.byMethod.get(name);
    if (breaker === undefined) {
      breaker = new CircuitBreaker(this.settings, this.random);
      breaker.endpoints = this.endpointCount;
      this.byMethod.set(name, breaker);
    }
    return breaker;
  }

  /** Each method with its circuit; `''` stands for the methods that share one. */
  entries(): IterableIterator<[string, CircuitBreaker]> {
    return this.byMethod.entries();
  }

  /** The number of usable endpoints of the cluster. */
  set endpoints(endpoints: number) {
    this.endpointCount = endpoints;
    for (const breaker of this.byMethod.values()) breaker.endpoints = endpoints;
  }

  /** @param onTransition receives the circuits that the new settings close */
  update(settings: CircuitBreakerSettings, nowMs: number, onTransition: OnTransition): void {
    this.settings = settings;
    this.each((breaker) => breaker.update(settings, nowMs), onTransition);
  }

  /** Whether a circuit is open because no endpoint was reachable; see {@link CircuitBreaker.awaitsEndpoint}. */
  awaitsEndpoint(nowMs: number): boolean {
    for (const breaker of this.byMethod.values()) if (breaker.awaitsEndpoint(nowMs)) return true;
    return false;
  }

  /** An endpoint became healthy; see {@link CircuitBreaker.endpointBack}. */
  endpointBack(nowMs: number, onTransition: OnTransition): void {
    this.each((breaker) => breaker.endpointBack(nowMs), onTransition);
  }

  /** An endpoint gives no sign of life; see {@link CircuitBreaker.endpointAbsent}. */
  endpointAbsent(): void {
    for (const breaker of this.byMethod.values()) breaker.endpointAbsent();
  }

  /** The oldest current endpoint was added at `sinceMs`; see {@link CircuitBreaker.endpointsSince}. */
  endpointsSince(sinceMs: number, nowMs: number, onTransition: OnTransition): void {
    this.each((breaker) => breaker.endpointsSince(sinceMs, nowMs), onTransition);
  }

  private each(
    change: (breaker: CircuitBreaker) => CircuitTransition | undefined,
    onTransition: OnTransition,
  ): void {
    for (const [method, breaker] of this.byMethod) {
      const transition = change(breaker);
      if (transition !== undefined) onTransition(method, transition);
    }
  }
}
