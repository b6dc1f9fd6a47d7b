// Holds the table of a state machine against its drawing.
import type { Test } from 'tap';
import { type Arrows, IllegalStepError, move, statesOf, step } from '../../sidecar/errors/illegal-step.ts';

/**
 * Asserts that each drawn arrow is allowed, and that each other step throws.
 *
 * @param drawn a line for each state: `closed → open`, `open → half_open, closed`, `over` for a state without arrows
 */
export function checkArrows<State extends string>(t: Test, arrows: Arrows<State>, drawn: string): void {
  const states = Object.keys(arrows) as State[];
  const lines = drawn.trim().split('\n');
  const drawing = new Map(
    lines.map((line) => {
      const [from = '', to = ''] = line.split('→').map((part) => part.trim());
      return [from, to === '' ? [] : to.split(', ')] as const;
    }),
  );
  t.strictSame(
    [...drawing.keys()].sort(),
    [...states].sort(),
    'the drawing and the table have the same states',
  );
  const objects = statesOf(arrows);
  for (const from of states) {
    for (const to of states) {
      if (drawing.get(from)?.includes(to)) {
        t.equal(step(arrows, from, to), to, `${from} → ${to}`);
        t.equal(move(objects[from], objects[to]), objects[to], `${from} → ${to}, as objects`);
      } else {
        t.throws(() => step(arrows, from, to), IllegalStepError, `${from} to ${to} throws`);
        t.throws(
          () => move(objects[from], objects[to]),
          IllegalStepError,
          `${from} to ${to} throws, as objects`,
        );
      }
    }
  }
}
