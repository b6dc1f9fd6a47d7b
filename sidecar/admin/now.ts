/** Judges the state of the sidecar once a second, and keeps the findings for the dashboard and `/live`. */

import type { Sidecar } from '../data-plane/sidecar.ts';
import { Now, type NowReport } from '../policy/now/now.ts';
import { type Configured, configMistakes } from './config-facts.ts';
import { nowFacts } from './now-facts.ts';
import type { SignRequests } from './waits.ts';

export class NowWatch {
  private readonly sidecar: Sidecar;
  private readonly configured: Configured;
  private readonly now = new Now();
  private readonly signRequests: SignRequests = new WeakMap();
  private looks = 0;
  private lookedAtMs = 0;
  /** The difference between the monotonic clock of the looks and the time of day. */
  private offsetMs = Number.NEGATIVE_INFINITY;
  private report: NowReport = {
    well: true,
    summary: 'Nothing is known yet.',
    detail: '',
    findings: [],
    leftOut: 0,
    all: [],
  };

  constructor(sidecar: Sidecar, configured: Configured) {
    this.sidecar = sidecar;
    this.configured = configured;
  }

  /** All findings, including those that the page leaves out: an alert must not depend on how much else is wrong. */
  get findings(): NowReport['all'] {
    return this.report.all;
  }

  update(): void {
    this.looks++;
    this.lookedAtMs = this.sidecar.clock();
    const facts = nowFacts(this.sidecar, this.signRequests, Date.now());
    this.report = this.now.assess({ ...facts, mistakes: configMistakes(this.configured) }, this.lookedAtMs);
  }

  /** The findings of the latest look, as plain values. */
  snapshot() {
    const { well, summary, detail, findings, leftOut } = this.report;
    // We compute the difference again only when the time of day was set: otherwise the reported times would vary by a
    // millisecond.
    const offsetMs = Date.now() - this.sidecar.clock();
    if (Math.abs(offsetMs - this.offsetMs) > 1_000) this.offsetMs = offsetMs;
    const timeOf = (atMs: number): string => new Date(Math.round(atMs + this.offsetMs)).toISOString();
    return {
      well,
      summary,
      detail,
      looks: this.looks,
      at: timeOf(this.lookedAtMs),
      findings: findings.map(({ sinceMs, ...finding }) => ({
        ...finding,
        since: timeOf(sinceMs),
        lasts_ms: Math.round(this.lookedAtMs - sinceMs),
      })),
      left_out: leftOut,
    };
  }
}
