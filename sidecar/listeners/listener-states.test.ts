/** Tests that listeners and their connections take the steps of their drawings alone. */
import t from 'tap';
import { checkArrows } from '../../test/support/arrows.ts';
import { LIFETIME_ARROWS } from './connection-lifetime.ts';
import { LISTENER_ARROWS } from './listener-state.ts';

t.test('a listener takes the steps of its drawing, and no others', async (t) => {
  checkArrows(
    t,
    LISTENER_ARROWS,
    `starting → listening, draining
     listening → draining
     draining → closed
     closed`,
  );
});

t.test('a downstream connection takes the steps of its drawing, and no others', async (t) => {
  checkArrows(
    t,
    LIFETIME_ARROWS,
    `opening → open, leaving
     leaving → going_away
     open → going_away
     going_away`,
  );
});
