// What `/stats`, the access log and the spans tell of requests to models, held to the ledger.
import type { Test } from 'tap';
import { accessLines, tally } from './calls-told.ts';
import { complaint, type Ledger, type ModelRequest } from './ledger.ts';
import { sumOf } from './series.ts';
import { adminPage, type ToldSystem } from './system.ts';

interface Pair {
  readonly upstream: string;
  readonly model: string;
  readonly outcomes: Readonly<Record<string, number>>;
  readonly attempts: Readonly<Record<string, number>>;
  readonly retries: number;
  readonly tokens: Readonly<Record<'input' | 'output' | 'wasted', number>>;
}

export async function holdModels(t: Test, system: ToldSystem, { models }: Ledger): Promise<void> {
  const { research } = system;
  const stats = (await adminPage(research, '/stats')) as {
    llm: { active_requests: number; requests: Pair[] };
  };
  t.equal(stats.llm.active_requests, 0);
  const shown = tally(models, ({ upstream, model }) => `${upstream} ${model}`);
  t.same(stats.llm.requests.map(({ upstream, model }) => `${upstream} ${model}`).sort(), Object.keys(shown));
  for (const pair of stats.llm.requests) {
    const own = models.filter(({ upstream, model }) => upstream === pair.upstream && model === pair.model);
    const sum = (of: 'input' | 'output'): number => own.reduce((total, one) => total + one[of], 0);
    t.match(
      pair,
      {
        outcomes: tally(own, ({ outcome }) => outcome),
        attempts: tally(
          own.flatMap(({ attempts }) => attempts),
          String,
        ),
        retries: own.reduce((total, { attempts }) => total + Math.max(0, attempts.length - 1), 0),
        tokens: { input: sum('input'), output: sum('output') },
      },
      `/stats of ${pair.upstream} ${pair.model}`,
    );
    t.equal(
      pair.tokens.wasted > 0,
      own.some(({ wastes }) => wastes),
      'wasted tokens',
    );
  }

  const told = ({
    upstream,
    model,
    stream,
    outcome,
    status,
    attempts,
    input,
    output,
    taskId,
  }: ModelRequest): string =>
    [upstream, model, stream, outcome, status, attempts.length, input, output, taskId].join(' ');
  const lines = await accessLines(research, 'llm', models.length);
  const written = tally(lines, (line) =>
    [
      line['upstream'] ?? '',
      line['model'],
      line['stream'],
      line['outcome'],
      line['status'],
      line['attempts'],
      line['input_tokens'],
      line['output_tokens'],
      line['task_id'] ?? '',
    ].join(' '),
  );
  t.same(written, tally(models, told), 'the access log of the egress');
  t.ok(lines.every((line) => line['method'] === 'chat'));
  const durations = lines.reduce((sum, line) => sum + Number(line['duration_ms']), 0);
  t.equal(
    complaint([sumOf(models, 'leastMs'), sumOf(models, 'mostMs')], durations),
    undefined,
    'their durations',
  );
  for (const line of lines)
    t.equal(
      Number(line['wasted_tokens'] ?? 0) > 0,
      models.some((one) => one.wastes && one.outcome === line['outcome'] && line['model'] === one.model),
    );

  const spans = system.collector.spans.filter(
    ({ attributes }) => attributes['gen_ai.request.model'] !== undefined,
  );
  const ofSpans = tally(spans, ({ name, kind, status, attributes }) =>
    [
      name,
      kind,
      status,
      attributes['gen_ai.operation.name'],
      attributes['gen_ai.provider.name'] ?? '',
      attributes['gen_ai.request.model'],
      attributes['gen_ai.request.stream'] ?? false,
      attributes['http.response.status_code'] ?? 0,
      attributes['outrigger.attempts'],
      attributes['gen_ai.usage.input_tokens'] ?? 0,
      attributes['gen_ai.usage.output_tokens'] ?? 0,
      attributes['gen_ai.response.finish_reasons'] ?? '',
      attributes['error.type'] !== undefined,
      attributes['gen_ai.response.time_to_first_chunk'] !== undefined,
    ].join(' '),
  );
  const expected = tally(models, (one) => {
    const isWhole = one.outcome === 'success';
    return [
      `chat ${one.model}`,
      3,
      isWhole ? 0 : 2,
      'chat',
      one.upstream,
      one.model,
      one.stream,
      one.status,
      one.attempts.length,
      one.input,
      one.output,
      isWhole ? 'stop' : '',
      !isWhole,
      one.stream && one.status === 200,
    ].join(' ');
  });
  t.same(ofSpans, expected, 'the spans of requests to models');
  const ofTask = new Map(
    system.collector.spans.map((span) => [span.spanId, span.attributes['outrigger.task.id']]),
  );
  const parents = tally(spans, ({ parentSpanId }) => String(ofTask.get(parentSpanId) ?? ''));
  t.same(
    parents,
    tally(models, ({ taskId }) => taskId),
    'they are below the spans of the tasks that they were made for',
  );
}
