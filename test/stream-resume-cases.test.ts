// What becomes of a cut stream in the company of compression, hedges, deadlines, models, traces and other processes.
import type { ServerHttp2Stream } from 'node:http2';
import { gunzipSync, gzipSync } from 'node:zlib';
import t from 'tap';
import { oneCluster, startDataPlane } from '../scripts/harness/data-plane.ts';
import { startLlmProvider } from '../scripts/harness/llm/provider.ts';
import { waitUntil } from '../scripts/harness/wait-until.ts';
import { STREAM_PROCESS_PATH } from '../sidecar/task/task-message.ts';
import { faultOf, startScene } from './cuts/scene.ts';
import { ok, silence, startReplica } from './support/answers.ts';
import { startCutter } from './support/cutter.ts';
import { startOtlpReceiver } from './support/otlp-receiver.ts';
import { TaskCaller } from './support/task-caller.ts';
import { callsOf, startOutbound } from './support/tracing.ts';
import { grpcFrame } from './support/upstream.ts';

const CLIENT = 3;

t.setTimeout(120_000);

/** A message that gzip has compressed. */
function zipped(text: string): Buffer {
  const payload = gzipSync(text);
  const frame = grpcFrame(payload);
  frame[0] = 1;
  return frame;
}

t.test('compressed messages are cut in the middle', async (t) => {
  const texts = Array.from({ length: 40 }, (_, nth) => `chunk ${nth} `.repeat(1 + (nth % 9)));
  const scene = await startScene(t, { body: texts.map(zipped), head: { 'grpc-encoding': 'gzip' } });
  const fields = [['grpc-accept-encoding', 'gzip']] as const;
  for (const id of ['', 'task']) {
    const whole = await scene.ask(undefined, { id: id && `${id} whole`, fields });
    for (let n = 1; n <= 20; n++) {
      const runs = scene.runs();
      const call = await scene.ask({ from: 'server', atByte: n * 97 }, { id: id && `${id} ${n}`, fields });
      t.equal(faultOf(scene, whole, call, scene.runs() - runs), undefined, `byte ${n * 97}`);
      const got: string[] = [];
      for (let at = 0; at < call.body.length; ) {
        const end = at + 5 + call.body.readUInt32BE(at + 1);
        got.push(String(gunzipSync(call.body.subarray(at + 5, end))));
        at = end;
      }
      t.strictSame(got, texts);
    }
  }
  t.ok(scene.resumed('resumed') > 20);
});

t.test('a stream that a hedge has won is resumed where it runs', async (t) => {
  const slow = await startReplica(t, silence);
  const beside = await startDataPlane(t, { name: 'slow', inbound: { app: slow.address } });
  const scene = await startScene(t, {
    endpoints: [`127.0.0.1:${beside.inboundPort}`],
    cluster: {
      balancer: 'round_robin',
      hedge: { delay: '10ms', max_extra: 1 },
      retry: { max_attempts: 5, idempotent_methods: [STREAM_PROCESS_PATH], budget: { min_concurrent: 100 } },
    },
  });
  const whole = await scene.ask(undefined, { id: '' });
  t.equal(whole.status, 0);
  for (const atByte of [1_000, 2_000, 3_000, 4_000]) {
    const runs = scene.runs();
    const call = await scene.ask({ from: 'server', atByte }, { id: '', input: `${atByte}` });
    t.equal(faultOf(scene, whole, call, scene.runs() - runs), undefined, `byte ${atByte}`);
  }
  const { hedges } = scene.ours.sidecar.outbound.clusters.clusters.get('upstream')!;
  t.ok((hedges.get('won') ?? 0) >= 2, 'some answers were those of a hedge');
  t.ok(scene.resumed('resumed') >= 2);
});

t.test('nothing runs twice when another process has the address', async (t) => {
  const scene = await startScene(t, { tasks: { linger: '300ms' } });
  const other = await startReplica(t, ok);
  const pod = await startDataPlane(t, { name: 'pod', inbound: { app: other.address } });
  const again = await startDataPlane(t, { name: 'again', inbound: { app: scene.appAddress } });
  await scene.ask(undefined, { id: 'whole' });
  for (const [name, port, id, atByte] of [
    ['another pod, in the middle', pod.inboundPort, '', 2_000],
    ['another pod, before the head', pod.inboundPort, '', 1],
    ['the same sidecar, started again, in the middle', again.inboundPort, 'restarted', 2_000],
    ['the same sidecar, started again, before the head', again.inboundPort, '', 1],
  ] as const) {
    scene.cutter.target = scene.theirs.inboundPort;
    scene.cutter.drop();
    await waitUntil(
      'it is reached',
      async () => (await scene.ask(undefined, { id: `a ${name}` })).status === 0,
    );
    const runs = scene.runs();
    scene.cutter.target = port;
    const call = await scene.ask({ from: 'server', atByte }, { id, input: name });
    t.match(call, { status: 14, reason: 'stream_cut' }, name);
    t.ok(scene.body.subarray(0, call.body.length).equals(call.body), 'what came is the beginning');
    t.equal(scene.runs() - runs, 1, 'one run');
  }
  t.equal(other.calls.length, 0, 'and none in another pod');
});

t.test('a caller gets its deadline while the rest of its stream is asked for', async (t) => {
  const scene = await startScene(t, {
    tasks: { linger: '30s' },
    cluster: { retry: { max_attempts: 5, backoff: { base: '20s', max: '20s' } } },
    write: (stream, body) => void stream.write(Buffer.concat(body)),
  });
  const call = await scene.caller.send({
    path: STREAM_PROCESS_PATH,
    id: '',
    fields: [['grpc-timeout', '12S']],
  });
  await call.hasBytes(scene.body.length);
  scene.cutter.target = undefined;
  scene.cutter.drop();
  await call.ended();
  t.match(call, { status: 14, reason: 'stream_cut' }, 'the next try would come too late');
  t.equal(scene.resumed('deadline'), 1);
  t.equal(scene.theirs.sidecar.inbound.stats.activeCalls, 1, 'the run waits');
});

t.test('a cut run asks its model once', async (t) => {
  const provider = await startLlmProvider();
  t.teardown(() => provider.close());
  const words = Array.from({ length: 60 }, (_, nth) => `word ${nth} `);
  const baseUrl = provider.script('model', async (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' });
    for (const content of words) {
      response.write(`data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`);
      await new Promise((resolve) => setImmediate(resolve));
    }
    response.end('data: [DONE]\n\n');
  });
  let modelUrl = '';
  /** Passes the words of its model on. */
  const think = async (stream: ServerHttp2Stream): Promise<void> => {
    const answer = await fetch(`${modelUrl}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'm', stream: true, messages: [{ role: 'user', content: 'x' }] }),
    });
    let rest = '';
    for await (const bytes of answer.body!) {
      const lines = (rest + Buffer.from(bytes)).split('\n');
      rest = lines.pop()!;
      for (const line of lines) {
        const word = /"content":"([^"]*)"/.exec(line)?.[1];
        if (word !== undefined) stream.write(grpcFrame(word));
      }
    }
    stream.end();
  };
  const models = await startDataPlane(t, {
    name: 'models',
    inbound: { app: 'none' },
    llm: { upstreams: [{ name: 'scripted', url: baseUrl }] },
  });
  modelUrl = `http://${models.sidecar.llmAddress}`;
  const scene = await startScene(t, { body: words.map((word) => grpcFrame(word)), write: think });
  const whole = await scene.ask(undefined, { id: '' });
  t.equal(faultOf(scene, whole, whole, 1), undefined);
  for (const atByte of [1, 200, 500, 900, 1_300]) {
    const [runs, asked] = [scene.runs(), provider.requests('model').length];
    const call = await scene.ask({ from: 'server', atByte }, { id: '', input: `${atByte}` });
    t.equal(faultOf(scene, whole, call, scene.runs() - runs), undefined, `byte ${atByte}`);
    t.equal(provider.requests('model').length - asked, 1, 'one model request');
  }
});

t.test('a trace says what became of a cut stream, and the page shows it meanwhile', async (t) => {
  const receiver = await startOtlpReceiver(t);
  const app = await startReplica(t, (stream) => {
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.write(grpcFrame('beginning'));
  });
  const theirs = await startDataPlane(t, { name: 'agent', inbound: { app: app.address } });
  const cutter = await startCutter(t, theirs.inboundPort);
  const sidecar = await startOutbound(t, receiver, [cutter], {
    retry: { max_attempts: 3, backoff: { base: '5ms', max: '10ms' }, budget: { min_concurrent: 100 } },
  });
  const caller = await TaskCaller.connect(t, sidecar.outboundPort);
  const call = await caller.send({ path: STREAM_PROCESS_PATH, id: '' });
  await call.hasBytes(14);
  cutter.target = undefined;
  cutter.drop();
  const stateOf = async (): Promise<string[]> => {
    const page = await fetch(`http://127.0.0.1:${sidecar.adminPort}/calls`);
    return ((await page.json()) as { calls: { state: string }[] }).calls.map(({ state }) => state);
  };
  await waitUntil('the page shows it', async () => (await stateOf()).includes('resuming'));
  t.equal(theirs.sidecar.inbound.resumptions.sizes.cut, 1);
  cutter.target = theirs.inboundPort;
  await waitUntil('it is carried again', () => theirs.sidecar.inbound.resumptions.sizes.cut === 0);
  app.calls[0]!.stream.end(grpcFrame('end'));
  t.match(await call.ended(), { status: 0 });
  t.ok(call.body.equals(Buffer.concat([grpcFrame('beginning'), grpcFrame('end')])));
  await receiver.until('the call came', (spans) => callsOf(spans, CLIENT).length === 1);
  const [span] = callsOf(receiver.spans, CLIENT);
  const named = (name: string) => span!.events.find((event) => event.name === name)?.attributes;
  t.match(named('outrigger.stream_lost'), { 'outrigger.stream.byte': 14 });
  t.match(named('outrigger.stream_resumed'), {
    'outrigger.stream.byte': 14,
    'outrigger.stream.outcome': 'resumed',
  });
  const metrics = await (await fetch(`http://127.0.0.1:${sidecar.metricsPort}/metrics`)).text();
  t.match(metrics, 'outrigger_streams_resumed_total{cluster="upstream",outcome="resumed"} 1');
});

t.test('what is kept for callers goes, and is bounded', async (t) => {
  const scene = await startScene(t, { body: [grpcFrame('short')], tasks: { linger: '500ms' } });
  const { resumptions, taskRuns } = scene.theirs.sidecar.inbound;
  for (let n = 0; n < 1_200; n += 100) {
    const calls = Array.from({ length: 100 }, () => scene.ask(undefined, { id: '' }));
    for (const call of calls) if ((await call).status !== 0) t.fail('a call failed');
  }
  t.ok(resumptions.sizes.ended <= 1_024, `${resumptions.sizes.ended} ends`);
  await waitUntil('nothing is kept', () => resumptions.sizes.streams === 0);
  t.match(resumptions.sizes, { cut: 0, ended: 0, endedBytes: 0 });
  t.equal(taskRuns.store.bytes, 0);
});

t.test('a call that is no stream, or whose caller is no sidecar, costs nothing', async (t) => {
  const scene = await startScene(t);
  const direct = await TaskCaller.connect(t, scene.theirs.inboundPort);
  const call = await (await direct.send({ path: STREAM_PROCESS_PATH, id: '' })).ended();
  t.equal(call.status, 0);
  t.notOk(
    call.heads[0]!.some(([name]) => name === 'outrigger-run'),
    'no run is named',
  );
  const through = await scene.ask(undefined, { id: '' });
  t.notOk(
    through.heads[0]!.some(([name]) => name === 'outrigger-run'),
    'nor to the caller',
  );
  await scene.ask(undefined, { id: '', path: '/agent.AgentService/ProcessTask' });
  const claims = [['outrigger-run', 'a'.repeat(32)]] as const;
  t.equal((await scene.ask(undefined, { id: '', fields: claims })).status, 0);
  t.equal(scene.theirs.sidecar.inbound.resumptions.sizes.ended, 2);
  const plain = await startReplica(t, (stream) => {
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc', 'outrigger-run': 'b'.repeat(32) },
      { waitForTrailers: true },
    );
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
    stream.end(grpcFrame('x'));
  });
  const plane = await startDataPlane(t, oneCluster([plain.address]));
  const stranger = await TaskCaller.connect(t, plane.outboundPort);
  t.equal((await stranger.ask({ path: STREAM_PROCESS_PATH })).status, 0, 'a stranger may say what it wants');
});
