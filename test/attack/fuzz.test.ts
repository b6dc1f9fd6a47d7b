// Half a minute of the fuzzer with a seed that stays: the hour, and any other seed, is `npm run fuzz -- --minutes 60`. The
// fuzzer is a process of its own, which this test kills: what an attack leaves open can't keep the test from ending.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { startProcess } from '../../scripts/harness/process.ts';
import { skipWithout } from '../../scripts/harness/tool.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import { Dice, partSeed } from './fuzz/dice.ts';
import { episodeOf } from './fuzz/episodes.ts';
import { hpackBlock, requestBody, requestFields } from './fuzz/grpc-fields.ts';
import { anyRequest, EGRESS } from './fuzz/http-requests.ts';

t.setTimeout(290_000);

const SEED = Number(process.env['FUZZ_SEED'] ?? 20_251_130);
const MINUTES = 0.5;
/** For the start of the processes, the attack, and all that it left behind to be gone. */
const REPORT_LIMIT_MS = 240_000;
/** The fuzzer ends what it started; what is left is killed. */
const END_LIMIT_MS = 5_000;

interface Report {
  readonly episodes: Readonly<Record<string, number>>;
  readonly violations: readonly string[];
}

t.test('a seed determines every byte, and another seed gives other bytes', async (t) => {
  const bytesOf = (seed: number): string => {
    const dice = new Dice(seed);
    const { name } = episodeOf(dice);
    const parts: Buffer[] = [Buffer.from(name)];
    for (let count = 0; count < 50; count++)
      parts.push(hpackBlock(dice, requestFields(dice)), requestBody(dice), ...anyRequest(dice, EGRESS, 1));
    return dice.damage(Buffer.concat(parts)).toString('base64');
  };
  t.equal(bytesOf(SEED), bytesOf(SEED));
  t.not(bytesOf(SEED), bytesOf(partSeed(SEED, 0)));
  const seeds = new Set(Array.from({ length: 10_000 }, (_, index) => partSeed(SEED, index)));
  t.ok(seeds.size > 9_990, 'the parts of a seed have seeds of their own');
});

t.test(
  'the processes survive half a minute of hostile frames, endpoints, providers and requests',
  { skip: skipWithout('python') },
  async (t) => {
    const program = join(import.meta.dirname, 'fuzz/main.ts');
    const args = [program, `--seed=${SEED}`, `--minutes=${MINUTES}`, '--json'];
    const fuzzer = startProcess(t, process.execPath, args, { env: { NODE_OPTIONS: '' }, group: true });
    let ended = false;
    void fuzzer.ended.then(() => {
      ended = true;
    });
    const line = await waitUntil(
      'the fuzzer reports',
      () => /^\{"episodes".*\}$/m.exec(fuzzer.logs())?.[0] ?? (ended && 'none'),
      { limitMs: REPORT_LIMIT_MS, everyMs: 200 },
    );
    t.comment(fuzzer.logs());
    if (line === 'none') return t.fail('the fuzzer ended without a report');
    await Promise.race([fuzzer.ended, sleep(END_LIMIT_MS, undefined, { ref: false })]);
    const { episodes, violations } = JSON.parse(line) as Report;
    t.strictSame(violations, [], `all held; run it again with npm run fuzz -- --seed ${SEED}`);
    const names = [
      'inbound',
      'outbound',
      'upstream',
      'egress',
      'egress over HTTP/2',
      'gateway',
      'webhook',
      'pages',
    ];
    for (const name of names) t.ok((episodes[name] ?? 0) > 0, `${name} was attacked`);
  },
);
