/** Tests what becomes of a step that no state machine draws. */
import t from 'tap';
import { type Arrows, IllegalStepError, reportIllegalSteps, step } from './illegal-step.ts';

const DOOR: Arrows<'open' | 'shut' | 'gone'> = { open: ['shut'], shut: ['open', 'gone'], gone: [] };

t.test('a step along an arrow is taken, and every other step throws', async (t) => {
  t.equal(step(DOOR, 'open', 'shut'), 'shut');
  t.equal(step(DOOR, 'shut', 'gone'), 'gone');
  t.throws(() => step(DOOR, 'open', 'gone'), IllegalStepError);
  t.throws(() => step(DOOR, 'open', 'open'), IllegalStepError);
  t.throws(() => step(DOOR, 'gone', 'shut'), { message: /from gone to shut/ });
});

t.test('a process with a reporter keeps the state, and reports each wrong step once', async (t) => {
  const errors: Error[] = [];
  reportIllegalSteps((error) => errors.push(error));
  t.equal(step(DOOR, 'gone', 'open'), 'gone');
  t.equal(step(DOOR, 'gone', 'open'), 'gone');
  t.equal(step(DOOR, 'open', 'gone'), 'open');
  t.strictSame(
    errors.map(({ message }) => /from \w+ to \w+/.exec(message)?.[0]),
    ['from gone to open', 'from open to gone'],
  );
});
