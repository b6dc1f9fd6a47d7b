/** Joins several call observers into one. */
import type { CallObserver, ObservedAttempt, ObservedCall } from '../proxy/observed-call.ts';

/** A listener with a single observer uses that observer itself, which is faster. */
export class CallObservers implements CallObserver {
  private readonly observers: readonly CallObserver[];

  constructor(...observers: readonly CallObserver[]) {
    this.observers = observers;
  }

  onAttemptEnd(call: ObservedCall, attempt: ObservedAttempt): void {
    for (const observer of this.observers) observer.onAttemptEnd?.(call, attempt);
  }

  onCallEnd(call: ObservedCall): void {
    for (const observer of this.observers) observer.onCallEnd(call);
  }
}
