// The tables of the egress's state machines, against their drawings.
import t from 'tap';
import { checkArrows } from '../../test/support/arrows.ts';
import { EXCHANGE_ARROWS } from './exchange-state.ts';
import { FLIGHT_ARROWS } from './flights.ts';
import { JOURNALED_ARROWS } from './journaled-exchange.ts';
import { ATTEMPT_ARROWS } from './provider/attempt-state.ts';
import { actionOf } from './provider/provider-attempt-clocks.ts';
import { RECORDING_ARROWS } from './recording-sink.ts';
import { TUNNEL_ARROWS } from './web-socket/tunnel-state.ts';

t.test('an exchange takes the steps of its drawing, and no others', async (t) => {
  checkArrows(
    t,
    EXCHANGE_ARROWS,
    `created → in_line, choosing, over
     in_line → choosing, over
     choosing → in_line, fetching, waiting, attempting, over
     fetching → choosing, over
     waiting → choosing, over
     attempting → choosing, over
     over`,
  );
});

t.test('a request with a place in the journal takes the steps of its drawings, and no others', async (t) => {
  checkArrows(
    t,
    JOURNALED_ARROWS,
    `finding → exchanging, over
     exchanging → over
     over`,
  );
  checkArrows(
    t,
    RECORDING_ARROWS,
    `copying → ended, dropped
     ended → storing, passed, dropped
     storing → passed, dropped
     passed
     dropped`,
  );
});

t.test('a provider attempt takes the steps of its drawing, and no others', async (t) => {
  checkArrows(
    t,
    ATTEMPT_ARROWS,
    `asking → holding, deciding, over
     holding → committed, over
     deciding → committed, skipping, over
     committed → over
     skipping → over
     over`,
  );
});

t.test('a flight takes the steps of its drawing, and no others', async (t) => {
  checkArrows(
    t,
    FLIGHT_ARROWS,
    `joinable → unjoinable, over
     unjoinable → over
     over`,
  );
});

t.test('a tunnel takes the steps of its drawing, and no others', async (t) => {
  checkArrows(
    t,
    TUNNEL_ARROWS,
    `connecting → connecting, waiting, over
     waiting → connecting, refused, open, over
     refused → over
     open → closing, over
     closing → over
     over`,
  );
});

t.test('the end of a clock fails an attempt, completes its answer, or passes on what has come', async (t) => {
  const held = { complete: false };
  const whole = { complete: true };
  t.equal(actionOf('connect_timeout', undefined), 'connect_failed');
  t.equal(actionOf('first_byte_timeout', whole), 'first_byte');
  t.equal(actionOf('idle_timeout', held), 'idle');
  t.equal(actionOf('idle_timeout', whole), 'complete', 'the provider does not end its whole answer');
  t.equal(actionOf('client', undefined), 'deadline');
  t.equal(actionOf('client', held), 'release', 'the client gets the head before it gives up');
  t.equal(actionOf('held_head', held), 'release');
  t.equal(actionOf('timeout', held), 'deadline');
  t.equal(actionOf('call', held), 'deadline');
});
