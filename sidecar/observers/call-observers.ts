import type { Attempt } from '../proxy/attempt.ts';
import type { Call } from '../proxy/call.ts';
import type { CallObserver } from '../proxy/context.ts';

/** Several observers as one. A listener whose calls only one observes has that one itself, which is quicker. */
export class CallObservers implements CallObserver {
  private readonly observers: readonly CallObserver[];

  constructor(...observers: readonly CallObserver[]) {
    this.observers = observers;
  }

  onAttemptEnd(call: Call, attempt: Attempt): void {
    for (const observer of this.observers) observer.onAttemptEnd?.(call, attempt);
  }

  onCallEnd(call: Call): void {
    for (const observer of this.observers) observer.onCallEnd(call);
  }
}
