// The requests to models of the known mix, through the egress of the agent's sidecar.
import type { Test } from 'tap';
import { USAGE } from '../../scripts/harness/llm/provider.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { chat, type Sent, send } from '../llm/send.ts';
import type { Ledger, ModelRequest } from './ledger.ts';
import { ANSWER_MS } from './provider.ts';
import { type ToldSystem, untilNoted } from './system.ts';

const OK = 200;

interface Expected {
  readonly outcome: string;
  readonly status: number;
  readonly attempts: readonly string[];
}

const success: Expected = { outcome: 'success', status: OK, attempts: ['success'] };

export class Models {
  private readonly t: Test;
  private readonly system: ToldSystem;
  private readonly ledger: Ledger;
  /** When the provider asked to be left alone for {@link LEFT_ALONE_S}: between these, in seconds since 1970. */
  leftAloneAtS: readonly [from: number, to: number] = [0, 0];
  private round = 0;
  private count = 0;

  constructor(t: Test, system: ToldSystem, ledger: Ledger) {
    this.t = t;
    this.system = system;
    this.ledger = ledger;
  }

  async play(round: number): Promise<void> {
    this.round = round;
    for (let i = 0; i < 3; i++) await this.whole('small', 'hello', success);
    for (let i = 0; i < 2; i++) await this.whole('small', 'hello', success, true);
    await this.whole('small', 'again', { ...success, attempts: ['503', 'success'] });
    await this.whole('small', 'pause', { ...success, attempts: ['429', 'success'] });
    for (let i = 0; i < 2; i++)
      await this.whole('small', 'refuse', { outcome: 'refused', status: 400, attempts: ['400'] });
    await this.whole('small', 'fail', { outcome: 'failed', status: 500, attempts: ['500', '500'] });
    // It asks to be left alone for longer than may be waited: then nobody asks it.
    const throttled = { outcome: 'throttled', status: 429 };
    if (round === 1) {
      const fromS = Date.now() / 1000;
      await this.whole('spent', 'throttle', { ...throttled, attempts: ['429'] });
      this.leftAloneAtS = [fromS, Date.now() / 1000];
    }
    await this.whole('spent', 'throttle', { ...throttled, attempts: [] });
    await this.broken('part cut', { outcome: 'cut', status: OK, attempts: ['stream_cut'] });
    await this.broken('part leave', { outcome: 'cancelled', status: OK, attempts: ['cancelled'] });
    await this.broken('silent', { outcome: 'cancelled', status: 0, attempts: ['cancelled'] });
    if (round === 1) await this.whole('quota', 'hello', success);
    await this.late();
  }

  /** A request that waits for the provider's quota until its caller leaves. */
  async waiting(round: number): Promise<() => Promise<void>> {
    this.round = round;
    const before = this.system.provider.count('quota');
    const startedAtMs = performance.now();
    const sent = this.send('quota', 'quota', false);
    await waitUntil('the provider has refused it', () => this.system.provider.count('quota') > before);
    return async () => {
      sent.abort();
      await sent.answer.catch(() => {});
      const expected = { outcome: 'cancelled', status: 0, attempts: ['429'] };
      await this.note('quota', false, expected, startedAtMs, { leaves: true });
    };
  }

  private send(model: string, content: string, stream: boolean, headers = {}): Sent {
    const messages = [{ role: 'user', content: `${content} ${this.round} ${++this.count}` }];
    const more = stream ? { stream, stream_options: { include_usage: true } } : {};
    return send(
      `http://127.0.0.1:${this.system.research.llmPort}/v1`,
      '/chat/completions',
      chat({ model, messages, ...more }),
      { authorization: 'Bearer sk-of-the-test', ...headers },
    );
  }

  /** A request that is answered whole, for a task that runs. */
  async forTask(taskId: string): Promise<void> {
    const startedAtMs = performance.now();
    const { status } = await this.send('small', 'hello', false).answer;
    this.t.equal(status, OK);
    await this.note('small', false, success, startedAtMs, { taskId });
  }

  private async whole(model: string, content: string, expected: Expected, stream = false): Promise<void> {
    const startedAtMs = performance.now();
    const { status } = await this.send(model, content, stream).answer;
    this.t.equal(status, expected.status, content);
    await this.note(model, stream, expected, startedAtMs, {});
  }

  /** Its client says how long it waits, and the provider says nothing. */
  private async late(): Promise<void> {
    const startedAtMs = performance.now();
    const { status } = await this.send('small', 'silent', false, { 'x-stainless-timeout': '1' }).answer;
    const expected = { outcome: 'timeout', status: 504, attempts: ['deadline'] };
    this.t.equal(status, expected.status);
    await this.note('small', false, expected, startedAtMs, { wastes: true });
  }

  /** A stream that the provider breaks off, or that its caller leaves. */
  private async broken(content: string, expected: Expected): Promise<void> {
    const { provider } = this.system;
    const before = provider.count('small');
    const startedAtMs = performance.now();
    const sent = this.send('small', content, true);
    const leaves = expected.outcome === 'cancelled';
    if (expected.status === OK) await sent.until('one ');
    else await waitUntil('the provider has it', () => provider.count('small') > before);
    if (leaves) sent.abort();
    await sent.answer.catch(() => {});
    await this.note('small', true, expected, startedAtMs, { leaves, wastes: true });
  }

  private async note(
    model: string,
    stream: boolean,
    { outcome, status, attempts }: Expected,
    startedAtMs: number,
    { leaves = false, wastes = false, taskId = '' },
  ): Promise<void> {
    await untilNoted(this.system);
    const isWhole = outcome === 'success';
    this.ledger.models.push({
      round: this.round,
      upstream: attempts.length === 0 ? '' : 'openai',
      model,
      operation: 'chat',
      stream,
      outcome,
      status,
      attempts,
      begun: status === OK ? 1 : 0,
      input: isWhole ? USAGE.prompt_tokens : 0,
      output: isWhole ? USAGE.completion_tokens : 0,
      wastes,
      taskId,
      leastMs: isWhole ? ANSWER_MS - 1 : 0,
      mostMs: leaves ? Number.POSITIVE_INFINITY : performance.now() - startedAtMs,
    } satisfies ModelRequest);
  }
}
