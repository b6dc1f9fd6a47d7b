// Watches the number of attempts at an endpoint over time, as its caller's proxy counts them.
import { waitUntil } from '../wait-until.ts';
import type { RunningProxy } from './proxy.ts';

const EVERY_MS = 50;
/** An endpoint without attempts for this long is out of service; a steady load reaches every other one sooner. */
const QUIET_MS = 400;

export interface Sample {
  readonly atMs: number;
  /** The attempts so far. */
  readonly count: number;
}

export class Watch {
  private readonly samples: Sample[] = [];
  private readonly proxy: RunningProxy;
  private readonly endpoint: string;
  private stopped = false;
  private readonly polling: Promise<void>;

  private constructor(proxy: RunningProxy, endpoint: string) {
    this.proxy = proxy;
    this.endpoint = endpoint;
    this.polling = this.poll();
  }

  /** Resolves after its first look. */
  static async begin(proxy: RunningProxy, endpoint: string): Promise<Watch> {
    const watch = new Watch(proxy, endpoint);
    await waitUntil('the proxy reports its attempts', () => watch.samples.length > 0);
    return watch;
  }

  private async poll(): Promise<void> {
    while (!this.stopped) {
      const atMs = Date.now();
      try {
        this.samples.push({ atMs, count: await this.proxy.sentTo(this.endpoint) });
      } catch {
        // A temporary failure of the admin port means nothing.
      }
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  }

  async stop(): Promise<void> {
    this.stopped = true;
    await this.polling;
  }

  /** The attempts that began in this time, to the accuracy of the polling. */
  sentBetween(fromMs: number, toMs: number): number {
    return countAt(this.samples, toMs) - countAt(this.samples, fromMs);
  }

  /** `quietAfterMs` of the samples so far. */
  quietAfterMs(fromMs: number, toMs: number): number | 'never' {
    return quietAfterMs(this.samples, fromMs, toMs);
  }
}

function countAt(samples: readonly Sample[], atMs: number): number {
  return samples.findLast((sample) => sample.atMs <= atMs)?.count ?? 0;
}

/** Milliseconds from `fromMs` until the attempts stopped for a while; never: not before `toMs`. */
export function quietAfterMs(samples: readonly Sample[], fromMs: number, toMs: number): number | 'never' {
  let lastGrowthMs = fromMs;
  let count = countAt(samples, fromMs);
  for (const sample of samples) {
    if (sample.atMs <= fromMs) continue;
    if (sample.atMs > toMs) return 'never';
    if (sample.count > count) {
      count = sample.count;
      lastGrowthMs = sample.atMs;
    } else if (sample.atMs - lastGrowthMs >= QUIET_MS) return lastGrowthMs - fromMs;
  }
  return 'never';
}
