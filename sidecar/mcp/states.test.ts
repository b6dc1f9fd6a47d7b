// The tables of the state machines of the MCP egress, against their drawings.
import t from 'tap';
import { checkArrows } from '../../test/support/arrows.ts';
import { MCP_EXCHANGE_ARROWS } from './exchange-state.ts';
import { ATTEMPT_ARROWS } from './server/attempt.ts';

t.test('an exchange takes the steps of its drawing, and no others', async (t) => {
  checkArrows(
    t,
    MCP_EXCHANGE_ARROWS,
    `created → finding, noting, over
     finding → noting, over
     noting → attempting, over
     attempting → waiting, over
     waiting → noting, over
     over`,
  );
});

t.test('an attempt takes the steps of its drawing, and no others', async (t) => {
  checkArrows(
    t,
    ATTEMPT_ARROWS,
    `connecting → waiting, over
     waiting → answering, over
     answering → over
     over`,
  );
});
