// Takes tasks from a log by hand, as an agent's sidecar does, and answers them as a test says.
import type { Test } from 'tap';
import { readConfig } from '../../scripts/harness/data-plane.ts';
import type { TaskLease, TaskLog } from '../../sidecar/bus/log/task-log.ts';
import { decodeRequest, encodeResult, type RequestPayload } from '../../sidecar/bus/message/payload.ts';
import { openLog } from '../../sidecar/bus/open-log.ts';
import { grpcFrame } from './upstream.ts';

/** A task that was taken. */
export class TakenTask {
  readonly lease: TaskLease;
  readonly request: RequestPayload;

  constructor(lease: TaskLease, request: RequestPayload) {
    this.lease = lease;
    this.request = request;
  }

  async write(...messages: readonly string[]): Promise<void> {
    await this.lease.write(messages.length, Buffer.concat(messages.map((message) => grpcFrame(message))));
  }

  async answer({
    status = 0,
    message = '',
    head = [] as readonly string[],
    trailers = [] as readonly string[],
    answer = undefined as string | undefined,
  } = {}): Promise<void> {
    const payload = encodeResult({
      statusMessage: message,
      head,
      trailers,
      answer: answer === undefined ? undefined : Buffer.from(answer),
    });
    await this.lease.settle({ status, payload });
  }
}

export class HandConsumer {
  readonly log: TaskLog;
  private readonly ended = new AbortController();

  private constructor(log: TaskLog) {
    this.log = log;
  }

  static async open(t: Pick<Test, 'teardown'>, bus: { readonly url: string }): Promise<HandConsumer> {
    const config = await readConfig({ bus });
    const consumer = new HandConsumer(await openLog(config.bus, bus.url, ''));
    t.teardown(async () => {
      consumer.ended.abort();
      await consumer.log.close();
    });
    return consumer;
  }

  async take(agentType = 'research'): Promise<TakenTask> {
    const lease = await this.log.take([agentType], 'hand', this.ended.signal);
    if (lease === undefined) throw new Error('the test is over');
    await lease.begin();
    return new TakenTask(lease, decodeRequest(await lease.request()));
  }
}
