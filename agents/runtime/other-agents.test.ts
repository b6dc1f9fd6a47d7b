// Calls from an agent to other agents.
import { Metadata, status } from '@grpc/grpc-js';
import t from 'tap';
import { startDataPlane } from '../../scripts/harness/data-plane.ts';
import type { TaskRequest } from '../protocol/messages.ts';
import { failureOf, processTask, streamProcess, testAgent, until } from '../test-support.ts';
import { AgentError } from './errors.ts';

t.test(
  'a call to another agent carries the trace, the correlation, the deadline and the cancellation',
  async (t) => {
    const seen: { task: TaskRequest; metadata: Metadata; leftMs: number; signal: AbortSignal }[] = [];
    const callee = await testAgent(t, {
      async processTask(task, { metadata, timeLeftMs, signal }) {
        seen.push({ task, metadata, leftMs: timeLeftMs(), signal });
        if (task.input === 'wait') await new Promise((_, reject) => (signal.onabort = reject));
        return { output: `written: ${task.input}` };
      },
      async *streamProcess(task, { signal }) {
        seen.push({ task, metadata: new Metadata(), leftMs: 0, signal });
        yield 'one';
        yield 'two';
        if (task.input === 'wait') await new Promise((_, reject) => (signal.onabort = reject));
      },
    });
    const caller = await testAgent(
      t,
      {
        async processTask({ input }, { agents }) {
          const { output } = await agents.process('writing-agent', { input, metadata: { tone: 'plain' } });
          return { output };
        },
        async *streamProcess({ input }, { agents }) {
          for await (const { chunk } of agents.stream('writing-agent', { input })) yield chunk;
        },
      },
      { outbound: callee.server.address },
    );

    const metadata = new Metadata();
    const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
    metadata.set('traceparent', traceparent);
    const baggage = `tenant=blue,outrigger-call=${'0'.repeat(24)}`;
    metadata.set('baggage', baggage);
    metadata.set('authorization', 'Bearer not-to-be-forwarded');
    const task = { task_id: 'parent', correlation_id: 'request-9', input: 'hello' };
    const answer = await processTask(caller.client, task, { deadline: Date.now() + 5000 }, metadata);
    t.equal(answer.output, 'written: hello');
    const [first] = seen;
    t.match(first!.task, {
      correlation_id: 'request-9',
      metadata: { tone: 'plain', parent_task_id: 'parent' },
    });
    t.match(first!.task.task_id, /^[0-9a-f]{8}-[0-9a-f]{4}-7/, 'a subtask has its own id');
    t.same(first!.metadata.get('traceparent'), [traceparent]);
    t.same(
      first!.metadata.get('baggage'),
      [baggage],
      'the sidecar relates the subtask to its task by this id',
    );
    t.same(first!.metadata.get('authorization'), []);
    t.ok(first!.leftMs > 0 && first!.leftMs <= 5000);

    const chunks = await streamProcess(caller.client, task);
    t.equal(chunks.map(({ chunk }) => chunk).join(''), 'onetwo');

    const waiting = caller.client.ProcessTask({ input: 'wait' }, new Metadata(), {}, () => {});
    await until(() => seen.length === 3);
    waiting.cancel();
    await until(() => seen[2]?.signal.aborted === true);

    const stream = caller.client.StreamProcess({ input: 'wait' }, new Metadata(), {});
    stream.on('error', () => {});
    stream.on('data', ({ chunk }) => chunk === 'two' && stream.cancel());
    await until(() => seen[3]?.signal.aborted === true);
  },
);

t.test("a caller receives another agent's failure and its reason if it concerns the caller", async (t) => {
  const callee = await testAgent(t, {
    async processTask({ input }) {
      const chain = 'a call to another agent ended with UNAVAILABLE: ';
      const why = input === 'UNAVAILABLE' ? `${chain}\n${'x'.repeat(1000)}` : 'all places are taken';
      throw new AgentError(input as 'UNAVAILABLE', why, { retryAfterMs: 3000 });
    },
  });
  const caller = await testAgent(
    t,
    { processTask: async ({ input }, { agents }) => agents.process('other', { input }) },
    { outbound: callee.server.address },
  );
  const throttled = await failureOf(processTask(caller.client, { input: 'RESOURCE_EXHAUSTED' }));
  t.equal(throttled.code, status.RESOURCE_EXHAUSTED);
  t.equal(throttled.details, 'a call to another agent ended with RESOURCE_EXHAUSTED: all places are taken');
  t.same(throttled.metadata.get('grpc-retry-pushback-ms'), ['3000']);
  const away = await failureOf(processTask(caller.client, { input: 'UNAVAILABLE' }));
  t.equal(away.code, status.UNAVAILABLE);
  t.equal(away.details, `a call to another agent ended with UNAVAILABLE: ${'x'.repeat(299)}…`, 'bounded');
  const ours = await failureOf(processTask(caller.client, { input: 'INVALID_ARGUMENT' }));
  t.equal(ours.code, status.INTERNAL, 'this agent made the subtask, so the mistake is its own');
  t.notMatch(ours.details, /places/);

  const alone = await testAgent(
    t,
    { processTask: async ({ input }, { agents }) => agents.process('other', { input }) },
    { outbound: '127.0.0.1:1' },
  );
  const nobody = await failureOf(processTask(alone.client, { input: 'x' }));
  t.equal(nobody.code, status.UNAVAILABLE);
  t.notMatch(nobody.details, /127\.0\.0\.1/, "the address of this agent's sidecar stays here");
});

t.test('the error for a misspelt agent name lists the known names', async (t) => {
  const clusters = { writing: { endpoints: ['127.0.0.1:1'] } };
  const routes = [{ match: { authority: 'writing-agent' }, cluster: 'writing' }];
  const { outboundPort } = await startDataPlane(t, { outbound: { routes, clusters } });
  const caller = await testAgent(
    t,
    { processTask: async ({ input }, { agents }) => agents.process(input, { input }) },
    { outbound: `127.0.0.1:${outboundPort}` },
  );
  const misspelt = await failureOf(processTask(caller.client, { input: 'writting-agent' }));
  t.equal(misspelt.code, status.INTERNAL);
  t.match(misspelt.details, /no route for writting-agent\/.*there are entries for authority writing-agent$/);
});
