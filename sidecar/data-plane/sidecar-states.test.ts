/** Tests that a sidecar's life takes the steps of its drawing alone. */
import t from 'tap';
import { checkArrows } from '../../test/support/arrows.ts';
import { DRAIN_ARROWS } from './sidecar.ts';

t.test('a sidecar takes the steps of its drawing, and no others', async (t) => {
  checkArrows(
    t,
    DRAIN_ARROWS,
    `starting → running, stopped
     running → notReady, stopped
     notReady → goaway, stopped
     goaway → ended, stopped
     ended → stopped
     stopped`,
  );
});
