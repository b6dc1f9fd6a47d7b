// Samplers, and the ids of new traces.
import t from 'tap';
import { IdSource, readHex, spanIdText } from '../ids.ts';
import { formatTraceparent, parseTraceparent } from '../trace-context.ts';
import { samplerFromEnvironment, samplesChild, samplesRoot } from './sampler.ts';

const silent = (message: string): void => {
  throw new Error(message);
};

t.test('ids are well formed, and do not repeat', async (t) => {
  const ids = new IdSource();
  const seen = new Set<string>();
  for (let i = 0; i < 10_000; i++) {
    ids.draw(ids.next());
    const traceId = ids.traceId();
    const [high, low] = [ids.next(), ids.nextOdd()];
    const spanId = spanIdText(high, low);
    if (readHex(spanId, 0) !== high || readHex(spanId, 8) !== low) t.fail(spanId);
    if (parseTraceparent(formatTraceparent(traceId, spanId, true)) !== 1) t.fail(`${traceId} ${spanId}`);
    seen.add(traceId).add(spanId);
  }
  t.equal(seen.size, 20_000);
  const zero = new IdSource(new Int32Array(4));
  zero.draw(0);
  t.not(zero.traceId(), '0'.repeat(32), 'a seed of zeros works too');
});

t.test('the ratio is kept, and all services agree on a trace', async (t) => {
  const ids = new IdSource(new Int32Array([1, 2, 3, 4]));
  const sampler = samplerFromEnvironment('traceidratio', '0.25', silent);
  let sampled = 0;
  for (let i = 0; i < 20_000; i++) {
    const folded = ids.next();
    const root = samplesRoot(sampler, folded);
    ids.draw(folded);
    const traceparent = formatTraceparent(ids.traceId(), spanIdText(ids.next(), ids.nextOdd()), false);
    if (samplesChild(sampler, 0, traceparent) !== root) t.fail(`another decision on ${traceparent}`);
    if (root) sampled++;
  }
  t.ok(sampled > 4_700 && sampled < 5_300, `${sampled} of 20000`);
});

t.test('each name selects its sampler', async (t) => {
  const ids = new IdSource();
  const folded = ids.next();
  ids.draw(folded);
  const parent = formatTraceparent(ids.traceId(), spanIdText(ids.next(), ids.nextOdd()), true);
  const decisions = (name: string | undefined, argument?: string) => {
    const sampler = samplerFromEnvironment(name, argument, silent);
    return [samplesRoot(sampler, folded), samplesChild(sampler, 1, parent), samplesChild(sampler, 0, parent)];
  };
  t.strictSame(decisions(undefined), [true, true, false]);
  t.strictSame(decisions('parentbased_always_on'), [true, true, false]);
  t.strictSame(decisions('parentbased_always_off'), [false, true, false]);
  t.strictSame(decisions('parentbased_traceidratio', '0'), [false, true, false]);
  t.strictSame(decisions('parentbased_traceidratio'), [true, true, false], 'without an argument it is 1');
  t.strictSame(decisions('always_on'), [true, true, true]);
  t.strictSame(decisions('always_off'), [false, false, false]);
  t.strictSame(decisions('traceidratio', '1'), [true, true, true]);
});

t.test('a warning names an unknown sampler or ratio, and the default applies', async (t) => {
  const warnings: string[] = [];
  const warn = (message: string) => void warnings.push(message);
  t.strictSame(samplerFromEnvironment('xray', undefined, warn), { parentBased: true, ratio: 1 });
  t.strictSame(samplerFromEnvironment('traceidratio', '1.5', warn), { parentBased: false, ratio: 1 });
  t.strictSame(samplerFromEnvironment('traceidratio', 'much', warn), { parentBased: false, ratio: 1 });
  t.equal(warnings.length, 3);
});
