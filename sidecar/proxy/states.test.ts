// The states of a call, an attempt and the run of a task: each drawn arrow is a legal step, and each other step throws.
import t from 'tap';
import { checkArrows } from '../../test/support/arrows.ts';
import { ATTEMPT_ARROWS } from './attempt.ts';
import { CALL_ARROWS, CallProgress } from './call-progress.ts';
import { CARRIAGE_ARROWS } from './resumable-stream.ts';
import { RESUME_ARROWS } from './stream-resume.ts';
import { RUN_ARROWS } from './task-run.ts';

t.test('a call takes the steps of its drawing, and no others', async (t) => {
  checkArrows(
    t,
    CALL_ARROWS,
    `begun → awaiting_message, following, attempting, done
     awaiting_message → begun, done
     following → begun, answering, done
     attempting → answering, done
     answering → done
     done → lingering
     lingering`,
  );
});

t.test('an attempt takes the steps of its drawing, and no others', async (t) => {
  checkArrows(
    t,
    ATTEMPT_ARROWS,
    `waiting → streaming, ended, settled
     streaming → ended, settled
     ended → settled
     settled`,
  );
});

t.test('the run of a task takes the steps of its drawing, and no others', async (t) => {
  checkArrows(
    t,
    RUN_ARROWS,
    `attended → unattended, ended
     unattended → overtime, ended
     overtime → ended
     ended`,
  );
});

t.test('a stream that can be resumed takes the steps of its drawing, and no others', async (t) => {
  checkArrows(
    t,
    CARRIAGE_ARROWS,
    `carried → cut, over
     cut → carried, over
     over`,
  );
});

t.test('the resumption of a stream takes the steps of its drawing, and no others', async (t) => {
  checkArrows(
    t,
    RESUME_ARROWS,
    `asking → waiting, resumed, given_up
     waiting → asking, given_up
     resumed → asking, waiting, given_up
     given_up`,
  );
});

t.test('a call keeps the status that its caller received, however it ends later', async (t) => {
  const progress = new CallProgress();
  progress.attempt();
  progress.outlastCaller(4, 100);
  progress.answer();
  progress.end(0);
  t.match(progress, { status: 4, callerGoneAtMs: 100, isDone: true, isLingering: false });
  progress.linger();
  t.match(progress, { isDone: true, isLingering: true, isAnswering: false });
});
