// Measures the circuit breaker's time for a call: admission and verdict.
import { CircuitBreaker } from '../../sidecar/policy/circuit-breaker.ts';
import { VERDICTS, type Verdict } from '../../sidecar/policy/verdicts.ts';
import { measure } from './measure.ts';

const CALLS = 1_000;
/** At 50,000 calls a second. */
const MS_A_CALL = 0.02;
const settings = {
  ...{ consecutiveFailures: 5, failurePercent: 50, minCalls: 20 },
  ...{ windowMs: 10_000, recoveryTimeoutMs: 30_000, halfOpenMax: 3 },
};
const { ok, unavailable } = VERDICTS;

let nowMs = 1;

function calls(name: string, verdictOf: (call: number) => Verdict): void {
  const breaker = new CircuitBreaker(settings, Math.random);
  measure(name, () => {
    for (let call = 0; call < CALLS; call++) {
      const admission = breaker.admit(nowMs);
      if (typeof admission !== 'number') throw new Error('the circuit opened');
      breaker.settle(admission, verdictOf(call), nowMs);
      nowMs += MS_A_CALL;
    }
    return CALLS;
  });
}

calls('breaker: admit and settle, all succeed', () => ok);
calls('breaker: admit and settle, one in ten fails', (call) => (call % 10 === 0 ? unavailable : ok));

const open = new CircuitBreaker(settings, Math.random);
while (open.state === 'closed') open.settle(open.admit(nowMs) as number, unavailable, nowMs);
measure('breaker: refuse a call', () => {
  for (let call = 0; call < CALLS; call++)
    if (typeof open.admit(nowMs) === 'number') throw new Error('the circuit is not open');
  return CALLS;
});
