/**
 * Breaks the circuit to one upstream: with opossum, and with what it lacks for calls that stream.
 *
 * opossum judges a promise for each call. Here the breaker admits an attempt first and judges it later, by firing opossum
 * with the outcome alone. So an attempt that proves nothing (429, the caller left) is never fired and changes nothing, and
 * neither is an attempt that was admitted before the last change of state. opossum makes the steps between the states.
 *
 *     closed ──share of failures──▶ open ──recovery_timeout──▶ half-open ──success──▶ closed
 *                                    ▲                            │ one probe at a time
 *                                    └──────────failure───────────┘
 */
import CircuitBreaker from 'opossum';
import type { Outcome } from '../../policy/verdicts.ts';
import type { LlmBreakerSettings } from '../shared/llm-settings.ts';

export type BreakerState = 'closed' | 'half_open' | 'open';

/** An admitted attempt. */
export interface UpstreamAdmission {
  readonly epoch: number;
  readonly probe: boolean;
}

/** opossum opens above its percentage; ours opens at it. */
const JUST_BELOW = 1e-9;

const FAILED = new Error('the attempt failed');

export class UpstreamBreaker {
  readonly settings: LlmBreakerSettings;
  state: BreakerState = 'closed';
  /** When the circuit opened, by the given clock. */
  openedAtMs = 0;
  rejections = 0;
  private readonly clock: () => number;
  private readonly onChange: (from: BreakerState, to: BreakerState) => void;
  private circuit: CircuitBreaker<[ok: boolean], void>;
  private epoch = 0;
  private probing = false;

  constructor(
    settings: LlmBreakerSettings,
    clock: () => number,
    onChange: (from: BreakerState, to: BreakerState) => void,
  ) {
    this.settings = settings;
    this.clock = clock;
    this.onChange = onChange;
    this.circuit = this.create();
  }

  /** When an open circuit admits a probe. */
  get probeAtMs(): number {
    return this.state === 'open' ? this.openedAtMs + this.settings.recoveryTimeoutMs : this.clock();
  }

  /** Whether {@link admit} would admit an attempt. */
  get admits(): boolean {
    return this.state === 'closed' || (this.state === 'half_open' && !this.probing);
  }

  /** Admits an attempt, which must be settled once; returns undefined without admission. */
  admit(): UpstreamAdmission | undefined {
    if (!this.admits) {
      this.rejections++;
      return undefined;
    }
    const probe = this.state === 'half_open';
    if (probe) this.probing = true;
    return { epoch: this.epoch, probe };
  }

  settle({ epoch, probe }: UpstreamAdmission, verdict: Outcome): void {
    if (epoch !== this.epoch) return;
    if (verdict === 'neutral') {
      if (probe) this.probing = false;
      return;
    }
    // A probe keeps its place until opossum has changed its state, some microtasks from now.
    this.circuit.fire(verdict === 'success').catch(() => {});
  }

  /** Ends its timers. */
  close(): void {
    this.circuit.removeAllListeners();
    this.circuit.shutdown();
  }

  private create(): CircuitBreaker<[ok: boolean], void> {
    const { failurePercent, minCalls, windowMs, recoveryTimeoutMs } = this.settings;
    const circuit = new CircuitBreaker(
      async (ok: boolean) => {
        if (!ok) throw FAILED;
      },
      {
        timeout: false,
        enabled: failurePercent > 0,
        errorThresholdPercentage: failurePercent - JUST_BELOW,
        volumeThreshold: minCalls,
        rollingCountTimeout: windowMs,
        rollingCountBuckets: Math.min(10, windowMs),
        rollingPercentilesEnabled: false,
        enableSnapshots: false,
        resetTimeout: recoveryTimeoutMs,
      },
    );
    circuit.on('open', () => this.change('open'));
    circuit.on('halfOpen', () => this.change('half_open'));
    circuit.on('close', () => {
      this.change('closed');
      // The old window still holds the failures that opened the circuit: one more would open it again.
      this.close();
      this.circuit = this.create();
    });
    return circuit;
  }

  private change(to: BreakerState): void {
    const from = this.state;
    if (to === 'open') this.openedAtMs = this.clock();
    this.state = to;
    this.epoch++;
    this.probing = false;
    if (from !== to) this.onChange(from, to);
  }
}
