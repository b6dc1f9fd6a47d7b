// A client with a retry policy of its own: it goes on as without a sidecar, but for failures whose retries a sidecar has made.
import { join } from 'node:path';
import { Metadata, status } from '@grpc/grpc-js';
import t, { type Test } from 'tap';
import { oneCluster, startDataPlane } from '../scripts/harness/data-plane.ts';
import { freePort } from '../scripts/harness/free-port.ts';
import { runProcess } from '../scripts/harness/process.ts';
import { RawClient, rawPaths } from '../scripts/harness/raw-grpc.ts';
import { requireTool, skipWithout } from '../scripts/harness/tool.ts';
import { PROCESS_TASK_PATH } from '../sidecar/task/task-message.ts';
import { type Answer, ok, type Replica, startReplica, trailersOnly } from './support/answers.ts';
import { startUpstream, type Upstream } from './support/upstream.ts';

t.setTimeout(180_000);

const CLIENTS_ATTEMPTS = 4;
const skip = skipWithout('python');

interface Caller {
  readonly what: string;
  readonly skip: string | false;
  /** The code of a call with a policy of so many attempts on UNAVAILABLE. */
  call(t: Test, port: number, path?: string): Promise<string>;
}

const callers: readonly Caller[] = [
  {
    what: 'grpcio',
    skip,
    async call(t, port, path = rawPaths.unary) {
      const script = join(import.meta.dirname, 'support', 'python', 'retrying_client.py');
      const args = [script, `${port}`, path, `${CLIENTS_ATTEMPTS}`];
      const { output } = await runProcess(t, requireTool('python'), args);
      return output.trim().split(' ')[0]!;
    },
  },
  {
    what: 'grpc-js',
    skip: false,
    async call(t, port, path = rawPaths.unary) {
      const retryPolicy = {
        maxAttempts: CLIENTS_ATTEMPTS,
        initialBackoff: '0.01s',
        maxBackoff: '0.02s',
        backoffMultiplier: 1,
        retryableStatusCodes: ['UNAVAILABLE'],
      };
      const config = { loadBalancingConfig: [], methodConfig: [{ name: [{}], retryPolicy }] };
      const client = new RawClient(t, port, { 'grpc.service_config': JSON.stringify(config) });
      const deadline = Date.now() + 30_000;
      return status[(await client.unary(Buffer.alloc(0), { path, deadline })).code]!;
    },
  },
];

const retry = { max_attempts: 3, backoff: { base: '1ms', max: '2ms' }, budget: { min_concurrent: 1000 } };

/** Fails so often, and then it is well. */
function failing(times: number): Answer {
  let left = times;
  return (stream, call) => (left-- > 0 ? trailersOnly(14) : ok)(stream, call);
}

const previousAttempts = ({ calls }: Upstream): (string | undefined)[] =>
  calls.map(({ headers }) => headers['grpc-previous-rpc-attempts'] as string | undefined);

/** A replica without a sidecar, which has run what it was sent. */
async function startPlain(t: Test, answer: Answer): Promise<Replica> {
  const replica: { answer: Answer } = { answer };
  const upstream = await startUpstream(t, {
    onCall: (call) =>
      call.stream.on('end', () => {
        if (!call.stream.destroyed) replica.answer(call.stream, call);
      }),
  });
  return Object.assign(replica, upstream);
}

interface Way {
  readonly what: string;
  /** The port that the client calls. */
  lead(t: Test, address: string): Promise<number>;
}

const outbound = async (t: Test, address: string, more: object = {}): Promise<number> =>
  (await startDataPlane(t, oneCluster([address], { retry, ...more }))).outboundPort;
const inbound = async (t: Test, app: string): Promise<number> =>
  (await startDataPlane(t, { inbound: { app } })).inboundPort;

const ways: readonly Way[] = [
  { what: 'directly', lead: async (_t, address) => Number(address.split(':')[1]) },
  { what: 'through the inbound listener', lead: inbound },
  { what: 'through the outbound listener', lead: outbound },
  {
    what: 'through both',
    lead: async (t, address) => outbound(t, `127.0.0.1:${await inbound(t, address)}`),
  },
];

for (const { what, skip, call } of callers) {
  t.test(`the client may retry what a sidecar may not: ${what}`, { skip }, async (t) => {
    for (const way of ways) {
      for (const path of [rawPaths.unary, PROCESS_TASK_PATH]) {
        const replica = await startPlain(t, failing(2));
        const port = await way.lead(t, replica.address);
        t.equal(await call(t, port, path), 'OK', `${way.what}: ${path}`);
        t.same(previousAttempts(replica), [undefined, '1', '2'], 'the server gets the number of attempts');
      }
      const dead = await startPlain(t, trailersOnly(14));
      const port = await way.lead(t, dead.address);
      t.equal(await call(t, port), 'UNAVAILABLE', way.what);
      t.equal(dead.calls.length, CLIENTS_ATTEMPTS, `${way.what}: as often as the client's policy has it`);
    }
  });

  t.test(`the client may retry after a cut connection: ${what}`, { skip }, async (t) => {
    for (const way of ways) {
      let cuts = 2;
      const replica = await startPlain(t, (stream, seen) => {
        if (cuts-- > 0) stream.session!.destroy();
        else ok(stream, seen);
      });
      t.equal(await call(t, await way.lead(t, replica.address)), 'OK', way.what);
      t.equal(replica.calls.length, 3, way.what);
    }
  });

  t.test(`an open circuit delays no client until its deadline: ${what}`, { skip }, async (t) => {
    const dead = await startPlain(t, trailersOnly(14));
    const forever = { circuit_breaker: { recovery_timeout: '30m' } };
    const port = await outbound(t, dead.address, forever);
    const impatient = new RawClient(t, port);
    const ask = (limitMs?: number) =>
      impatient.unary(Buffer.alloc(0), limitMs === undefined ? {} : { deadline: Date.now() + limitMs });
    for (let count = 0; count < 5; count++) await ask();
    t.equal(await call(t, port), 'UNAVAILABLE', 'the client has the answer, as without a sidecar');
    t.equal(dead.calls.length, 5);

    const pushback = ({ trailers }: Awaited<ReturnType<typeof ask>>) => {
      t.same(trailers.get('outrigger-reason'), ['circuit_open']);
      return Number(trailers.get('grpc-retry-pushback-ms')[0]);
    };
    t.ok(pushback(await ask()) > 1_000_000, 'a caller with remaining time gets the reason');
    t.ok(pushback(await ask(3_600_000)) > 1_000_000);
    t.same(pushback(await ask(1_000_000)), Number.NaN);

    // A sidecar that turns calls away behind ours says how long, too.
    const word = { 'outrigger-reason': 'rate_limited', 'grpc-retry-pushback-ms': '100000' };
    const limiting = await startReplica(t, trailersOnly(8, word));
    const client = new RawClient(t, await outbound(t, limiting.address, { retry: { max_attempts: 1 } }));
    const limited = async (deadline: number) => {
      const { trailers } = await client.unary(Buffer.alloc(0), { deadline });
      t.same(trailers.get('outrigger-reason'), ['rate_limited']);
      return trailers.get('grpc-retry-pushback-ms').length;
    };
    t.equal(await limited(Date.now() + 3_600_000), 1);
    t.equal(await limited(Date.now() + 50_000), 0);
  });

  t.test(`an endpoint's own pushback is passed on: ${what}`, { skip }, async (t) => {
    for (const way of ways) {
      const replica = await startPlain(t, trailersOnly(14, { 'grpc-retry-pushback-ms': '-1' }));
      t.equal(await call(t, await way.lead(t, replica.address)), 'UNAVAILABLE', way.what);
      t.equal(replica.calls.length, 1, way.what);
    }
  });

  t.test(`retries that a sidecar has used up are not multiplied: ${what}`, { skip }, async (t) => {
    const idempotent = { retry: { ...retry, idempotent_methods: [rawPaths.unary] } };
    const replica = await startPlain(t, trailersOnly(14));
    const port = await outbound(t, replica.address, idempotent);
    t.equal(await call(t, port), 'UNAVAILABLE');
    t.same(previousAttempts(replica), [undefined, '1', '2'], 'those of retry.max_attempts');

    // A budget is for what the sidecar adds of its own.
    const spent = await startPlain(t, failing(3));
    const budget = { percent: 0, min_concurrent: 0 };
    const without = await outbound(t, spent.address, { retry: { ...idempotent.retry, budget } });
    t.equal(await call(t, without), 'OK');
    t.equal(spent.calls.length, CLIENTS_ATTEMPTS);
  });

  t.test(`the client may retry a call whose agent reached no other agent: ${what}`, { skip }, async (t) => {
    const nobody = `127.0.0.1:${await freePort()}`;
    let agentsPort = 0;
    const outcomes: Promise<unknown>[] = [];
    const agent = await startPlain(t, (stream, seen) => {
      // As agents do whose runtime passes it on.
      const metadata = new Metadata();
      metadata.set('baggage', seen.headers['baggage'] as string);
      const asked = new RawClient(t, agentsPort).unary(Buffer.alloc(0), { metadata });
      outcomes.push(asked);
      void asked.then(() => trailersOnly(14)(stream, seen));
    });
    const plane = await startDataPlane(t, {
      ...oneCluster([nobody], { retry }),
      inbound: { app: agent.address },
    });
    agentsPort = plane.outboundPort;
    t.equal(await call(t, plane.inboundPort), 'UNAVAILABLE');
    t.equal(agent.calls.length, CLIENTS_ATTEMPTS, 'a caller without a sidecar continues');

    // A sidecar does not have the agent run again for the same end, unless its client asks.
    const before = agent.calls.length;
    const idempotent = { retry: { ...retry, idempotent_methods: [rawPaths.unary] } };
    const port = await outbound(t, `127.0.0.1:${plane.inboundPort}`, idempotent);
    t.equal((await new RawClient(t, port).unary(Buffer.alloc(0))).code, status.UNAVAILABLE);
    t.equal(agent.calls.length, before + 1);
    t.equal(await call(t, port), 'UNAVAILABLE');
    t.equal(agent.calls.length, before + 1 + CLIENTS_ATTEMPTS);
    await Promise.all(outcomes);
  });
}
