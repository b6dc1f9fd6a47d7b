import type { CallObserver, ObservedAttempt, ObservedCall } from '../proxy/observed-call.ts';

/** Several observers as one. A listener whose calls only one observes has that one itself, which is quicker. */
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
