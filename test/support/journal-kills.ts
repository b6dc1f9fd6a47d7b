// Runs tasks whose agent is killed with -9 at random moments, before a provider whose every answer differs, and counts what was paid.
import { appendFileSync, readFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { freePort } from '../../scripts/harness/free-port.ts';
import { DONE, type ProviderRequest, startLlmProvider } from '../../scripts/harness/llm/provider.ts';
import { startProcess, type TestProcess } from '../../scripts/harness/process.ts';
import { startSidecar } from '../../scripts/harness/sidecar.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { seededRandom } from './seeded-random.ts';
import { logFile, Submitter } from './task-consumer.ts';

export interface JournalKillOptions {
  readonly kills: number;
  readonly order: 'chain' | 'parallel';
  readonly seed: number;
  /** `bus.url`; a file by default. */
  readonly bus?: string;
  onProgress?(text: string): void;
}

/** One task, whose agent was killed once. */
export interface KilledTask {
  /** Requests that the provider received. */
  readonly paid: number;
  /** Questions of the run that was killed, and those that it had an answer for. */
  readonly asked: number;
  readonly answered: number;
  /** Answers of the first run that the second one did not get back. */
  readonly lost: number;
  readonly runs: number;
  readonly isDone: boolean;
}

const CALLS = 6;
/** An answer takes the provider between these. */
const THINKS_MS = { least: 5, most: 25 };
/** The first question of a new process takes longer. */
const FIRST_MS = 100;
const AGENT = join(import.meta.dirname, 'model-agent.ts');

export async function killAgents(
  t: Pick<Test, 'teardown'>,
  { kills, order, seed, bus, onProgress = () => {} }: JournalKillOptions,
): Promise<readonly KilledTask[]> {
  const random = seededRandom(seed);
  const provider = await startLlmProvider();
  t.teardown(() => provider.close());
  const paid = new Map<string, number>();
  let answers = 0;
  const url = provider.script('kills', async (request, response) => {
    const id = /task (\S+) call/.exec(request.body.toString())![1]!;
    paid.set(id, (paid.get(id) ?? 0) + 1);
    await sleep(THINKS_MS.least + random() * (THINKS_MS.most - THINKS_MS.least));
    answer(request, response, `a${++answers}`);
  });

  const file = logFile(t);
  const diary = `${file}-diary`;
  appendFileSync(diary, '');
  const lines = (): string[][] =>
    readFileSync(diary, 'utf8')
      .split('\n')
      .filter(Boolean)
      .map((line) => line.split(' '));
  const busUrl = bus ?? `file:${file}`;
  const consume = { lease: '3s', places: 1, max_runs: 10, retry_delay: { base: '10ms', max: '50ms' } };
  const [port, llmPort] = [await freePort(), await freePort()];
  let isOver = false;
  let agent = start();
  function start(): TestProcess {
    const args = [AGENT, String(port), `http://127.0.0.1:${llmPort}/v1`, diary];
    const started = startProcess(t, process.execPath, args);
    // Before its own end: nobody starts the next one then.
    t.teardown(() => {
      isOver = true;
    });
    void started.ended.then(() => {
      if (!isOver && agent === started) agent = start();
    });
    return started;
  }
  await startSidecar(
    t,
    {
      name: 'research',
      inbound: { app: `127.0.0.1:${port}` },
      llm: { listen: `127.0.0.1:${llmPort}`, upstreams: [{ name: 'one', url }] },
      bus: { url: busUrl, consume: { agent_types: ['research'], ...consume } },
      journal: { store: 'bus' },
    },
    { until: 'ready' },
  );
  const submitter = await Submitter.open(t, busUrl, consume);

  const tasks: KilledTask[] = [];
  // A moment may come after the end of its task.
  for (let tried = 1; tasks.length < kills; tried++) {
    const id = `task-${tried}`;
    const { key } = await submitter.submit({ id, input: `${order} ${CALLS}` });
    await waitUntil(`${id} has begun`, () => lines().some(([what, of]) => what === 'begin' && of === id));
    const longestMs = FIRST_MS + (order === 'chain' ? CALLS : 1) * (THINKS_MS.most + 5);
    await sleep(random() * longestMs);
    const victim = agent;
    victim.kill('SIGKILL');
    await victim.ended;
    const record = await submitter.watched(key);
    const of = lines().filter(([, task]) => task === id);
    const first = of.filter((line) => line.at(-1) === String(victim.pid));
    const given = first.filter(([what]) => what === 'answer');
    const result = record.result === undefined ? '' : String(submitter.resultOf(record).answer);
    const last = result.slice(2).split(',');
    if (record.run === 1 && given.length === CALLS) continue;
    tasks.push({
      paid: paid.get(id) ?? 0,
      asked: first.filter(([what]) => what === 'ask').length,
      answered: given.length,
      lost: given.filter(([, , call, text]) => last[Number(call)] !== text).length,
      runs: record.run,
      isDone: record.state === 'done' && record.result?.status === 0,
    });
    onProgress(`kill ${tasks.length} of ${kills}: ${JSON.stringify(tasks.at(-1))}`);
  }
  return tasks;
}

function answer({ json }: ProviderRequest, response: ServerResponse, content: string): void {
  const id = `chatcmpl-${content}`;
  if (json?.['stream'] !== true) {
    const text = JSON.stringify({ id, choices: [{ index: 0, message: { content }, finish_reason: 'stop' }] });
    response.writeHead(200, {
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(text),
    });
    response.end(text);
    return;
  }
  const chunk = (delta: object, finish_reason: string | null): string =>
    `data: ${JSON.stringify({ id, choices: [{ index: 0, delta, finish_reason }] })}\n\n`;
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.write(chunk({ content }, null));
  response.write(chunk({}, 'stop'));
  response.end(DONE);
}

/** What does not hold for these tasks. */
export function complaintsAbout(tasks: readonly KilledTask[], order: 'chain' | 'parallel'): string[] {
  return tasks.flatMap((task, index) => {
    const most = order === 'chain' ? CALLS + 1 : CALLS + task.asked - task.answered;
    const complaints = [
      !task.isDone && 'it has no result',
      task.paid > most && `${task.paid} calls were paid, and ${most} may be`,
      task.lost > 0 && `${task.lost} answers of the first run did not come back`,
    ].filter((complaint) => complaint !== false);
    return complaints.map((complaint) => `task ${index + 1}: ${complaint} (${JSON.stringify(task)})`);
  });
}
