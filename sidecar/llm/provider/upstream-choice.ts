/** Chooses the upstream of each attempt of one request, and its latest time. Pure but for the upstreams that it reads. */

import type { EarlierTries } from '../caller/client-retries.ts';
import type { ModelRequest } from '../request/model-request.ts';
import type { LlmSettings } from '../shared/llm-settings.ts';
import { ModelState } from './model-state.ts';
import type { ClockLimits } from './provider-attempt-clocks.ts';
import type { ProviderRecord } from './provider-record.ts';
import { type Candidate, chooseUpstream, type NextStep } from './provider-retry.ts';
import type { Target } from './target.ts';
import type { Upstream } from './upstream.ts';

const UNUSABLE = { closed: false, probeAtMs: Number.POSITIVE_INFINITY } as const;

export class UpstreamChoice {
  private readonly targets: readonly Target[];
  private readonly request: ModelRequest;
  private readonly isFull: (target: Target) => boolean;
  private readonly settings: LlmSettings;
  /** The most tokens that the request takes of a provider's limits. */
  private readonly tokens: number;
  /** The indexes of the places that this request, or an earlier try of its client, was sent to. */
  private readonly tried = new Set<number>();
  /** The indexes of places that can't serve this request, however often it is sent. */
  private readonly left = new Set<number>();
  /** What the attempts have shown, for a request that names no model: it says nothing about other requests. */
  private readonly own: Map<Target, ModelState> | undefined;
  /** When `timeout` is over; Infinity when that is off. */
  readonly timeoutAtMs: number;
  /** The deadline of the inbound call; Infinity without one. */
  readonly callAtMs: number;
  /** The clocks of each attempt. */
  readonly clocks: ClockLimits;
  /** The latest time at which an attempt may begin. */
  readonly deadlineMs: number;
  /** What is left of `max_attempts` after the client's earlier tries; at least one. */
  readonly maxAttempts: number;
  /** Another attempt would have begun, if the client's own clock had left time for it. */
  clientDecides = false;
  /** The record of the model that the request waits for. */
  private awaited: ProviderRecord | undefined = undefined;

  /** @param isFull whether our own limits would let a request to this place wait */
  constructor(
    targets: readonly Target[],
    request: ModelRequest,
    settings: LlmSettings,
    tokens: number,
    isFull: (target: Target) => boolean,
  ) {
    this.isFull = isFull;
    const { earlier, ownerCall, receivedMs, clientAtMs } = request;
    this.targets = targets;
    this.request = request;
    this.settings = settings;
    this.tokens = tokens;
    this.timeoutAtMs = settings.timeoutMs === 0 ? Number.POSITIVE_INFINITY : receivedMs + settings.timeoutMs;
    this.callAtMs = ownerCall?.deadlineMs ?? Number.POSITIVE_INFINITY;
    const { connectTimeoutMs, firstByteTimeoutMs, idleTimeoutMs } = settings;
    const { timeoutAtMs, callAtMs } = this;
    this.clocks = {
      connectTimeoutMs,
      firstByteTimeoutMs,
      idleTimeoutMs,
      timeoutAtMs,
      clientAtMs,
      callAtMs,
    };
    this.deadlineMs = Math.min(this.timeoutAtMs, this.callAtMs, clientAtMs);
    this.own = request.facts.understood ? undefined : new Map();
    this.maxAttempts = Math.max(1, settings.retry.maxAttempts - earlier.attempts);
    if (earlier.upstreams.size === 0) return;
    targets.forEach(({ id }, index) => {
      if (earlier.upstreams.has(id)) this.tried.add(index);
    });
  }

  /** The latest failure of each upstream of the chain; '' without one. */
  get lastErrors(): readonly string[] {
    return this.targets.map(({ upstream }) => upstream.lastError);
  }

  /** The time for another attempt is over. */
  isOver(nowMs: number): boolean {
    this.clientDecides ||= nowMs >= this.request.clientAtMs;
    return nowMs >= this.deadlineMs;
  }

  /**
   * Returns the step after so many attempts.
   *
   * @param random in [0, 1)
   */
  next(attempts: number, nowMs: number, random: number): NextStep {
    const step = this.choose(attempts, nowMs, random, this.deadlineMs);
    if (!step.go && this.deadlineMs === this.request.clientAtMs) {
      const withoutIt = Math.min(this.timeoutAtMs, this.callAtMs);
      this.clientDecides = this.choose(attempts, nowMs, random, withoutIt).go;
    }
    return step;
  }

  private choose(attempts: number, nowMs: number, random: number, deadlineMs: number): NextStep {
    const candidates = this.targets.map((target, index) => this.candidate(target, index, nowMs));
    return chooseUpstream(candidates, this.settings.retry, { attempts, nowMs, deadlineMs, random });
  }

  private candidate(target: Target, index: number, nowMs: number): Candidate {
    const { upstream } = target;
    const state =
      this.own === undefined
        ? upstream.models.get(target.modelFor(this.request.facts))
        : this.own.get(target);
    const candidate = upstream.candidate(state, this.tokens, this.tried.has(index), nowMs);
    if (this.left.has(index)) return { ...candidate, ...UNUSABLE };
    return this.isFull(target) ? { ...candidate, isFull: true } : candidate;
  }

  /** Counts the request among those that wait for this upstream; returns the index. */
  awaitTurn(index: number): number {
    this.endWait();
    const target = this.targets[index]!;
    this.awaited = target.upstream.records.of(target.modelFor(this.request.facts));
    this.awaited.awaiting++;
    return index;
  }

  endWait(): void {
    if (this.awaited !== undefined) this.awaited.awaiting--;
    this.awaited = undefined;
  }

  /** Ends the wait; returns whether an attempt may begin at the upstream now. */
  mayBegin(index: number, nowMs: number): boolean {
    this.endWait();
    const { closed, freeAtMs } = this.candidate(this.targets[index]!, index, nowMs);
    return closed && freeAtMs <= nowMs;
  }

  upstreamAt(index: number): Upstream {
    return this.targets[index]!.upstream;
  }

  /** The place with this index can't serve the request in time. */
  leaveAt(index: number): void {
    this.left.add(index);
  }

  try(index: number): Target {
    this.tried.add(index);
    return this.targets[index]!;
  }

  /** Returns the state of the request's model there. */
  stateOf(target: Target, nowMs: number): ModelState {
    const model = target.modelFor(this.request.facts);
    if (this.own === undefined) return target.upstream.models.of(model, nowMs);
    const state = this.own.get(target) ?? new ModelState(model);
    this.own.set(target, state);
    return state;
  }

  /** The place can't serve this request: only another one may. */
  leave(target: Target): void {
    this.left.add(this.targets.indexOf(target));
  }

  /** The attempt there does not count: the provider has not worked on it. */
  untry(target: Target): void {
    this.tried.delete(this.targets.indexOf(target));
  }

  /** Returns what the client's next try must know. */
  triesWith(attempts: number): EarlierTries {
    const { earlier } = this.request;
    const upstreams = new Set(earlier.upstreams);
    for (const index of this.tried) upstreams.add(this.targets[index]!.id);
    return { attempts: earlier.attempts + attempts, upstreams };
  }
}
