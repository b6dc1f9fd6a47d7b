// The state machines of streams and connections: every drawn arrow, and no other.
import t, { type Test } from 'tap';
import { ConnectionLifecycle, type ConnectionState } from './connection-lifecycle.ts';
import { refusedSteps } from './state-machine.ts';
import type { StreamState } from './stream-state.ts';
import { Stream, UNHANDLED } from './streams.ts';

/** As the drawing in `stream-state.ts` has them. */
const STREAM_ARROWS = [
  'open endSent halfClosedLocal',
  'open endReceived halfClosedRemote',
  'halfClosedLocal endReceived ended',
  'halfClosedRemote endSent ended',
  'ended close closed',
  'open close reset',
  'halfClosedLocal close reset',
  'halfClosedRemote close reset',
];

/** As the drawing in `connection-lifecycle.ts` has them. */
const CONNECTION_ARROWS = [
  'opening settings open',
  'open announce announced',
  'announced leave leaving',
  'opening leave leaving',
  'open leave leaving',
  'leaving leave leaving',
  'opening close closed',
  'open close closed',
  'announced close closed',
  'leaving close closed',
];

const streamSteps = {
  endSent: (stream: Stream) => stream.markEndSent(),
  endReceived: (stream: Stream) => stream.markEndReceived(),
  close: (stream: Stream) => stream.markClosed(),
};
const streamPaths: Record<StreamState, readonly (keyof typeof streamSteps)[]> = {
  open: [],
  halfClosedLocal: ['endSent'],
  halfClosedRemote: ['endReceived'],
  ended: ['endSent', 'endReceived'],
  closed: ['endSent', 'endReceived', 'close'],
  reset: ['close'],
};

class OpenedConnection extends ConnectionLifecycle {
  end(): void {
    this.markClosed();
  }
}

const connectionSteps = {
  settings: (connection: OpenedConnection) => connection.markOpen(),
  announce: (connection: OpenedConnection) => connection.markAnnounced(),
  leave: (connection: OpenedConnection) => connection.markLeaving(),
  close: (connection: OpenedConnection) => connection.end(),
};
const connectionPaths: Record<ConnectionState, readonly (keyof typeof connectionSteps)[]> = {
  opening: [],
  open: ['settings'],
  announced: ['settings', 'announce'],
  leaving: ['settings', 'leave'],
  closed: ['close'],
};

function streamIn(state: StreamState): Stream {
  const stream = new Stream(undefined as never, 1, UNHANDLED, 0, 0);
  for (const step of streamPaths[state]) streamSteps[step](stream);
  return stream;
}

function connectionIn(state: ConnectionState): OpenedConnection {
  const connection = new OpenedConnection();
  for (const step of connectionPaths[state]) connectionSteps[step](connection);
  return connection;
}

/** Takes each step in each state, and compares those that were not refused with the arrows. */
function checkArrows<State extends string, Subject extends { readonly state: State }>(
  t: Test,
  paths: Readonly<Record<State, unknown>>,
  steps: Readonly<Record<string, (subject: Subject) => void>>,
  subjectIn: (state: State) => Subject,
  arrows: readonly string[],
): void {
  const taken: string[] = [];
  for (const state of Object.keys(paths) as State[]) {
    for (const [on, step] of Object.entries(steps)) {
      const subject = subjectIn(state);
      t.equal(subject.state, state);
      const refusedBefore = refusedSteps.count;
      step(subject);
      if (refusedSteps.count === refusedBefore) taken.push(`${state} ${on} ${subject.state}`);
      else t.equal(subject.state, state, `${on} in ${state} is refused, and the state stays`);
    }
  }
  t.strictSame(taken.sort(), [...arrows].sort());
}

t.test('a stream takes each step of its drawing, and refuses every other', async (t) => {
  checkArrows(t, streamPaths, streamSteps, streamIn, STREAM_ARROWS);
  streamIn('closed').markEndSent();
  t.equal(refusedSteps.latest, 'stream: endSent in state closed');
});

t.test('a connection takes each step of its drawing, and refuses every other', async (t) => {
  checkArrows(t, connectionPaths, connectionSteps, connectionIn, CONNECTION_ARROWS);
  connectionIn('closed').markOpen();
  t.equal(refusedSteps.latest, 'connection: settings in state closed');
});

t.test('the predicates of a stream agree with its states', async (t) => {
  const statesWith = (predicate: (stream: Stream) => boolean): string[] =>
    (Object.keys(streamPaths) as StreamState[]).filter((state) => predicate(streamIn(state)));
  t.strictSame(
    statesWith((stream) => stream.canSend),
    ['open', 'halfClosedRemote'],
  );
  t.strictSame(
    statesWith((stream) => stream.canReceive),
    ['open', 'halfClosedLocal'],
  );
  t.strictSame(
    statesWith((stream) => stream.hasEnded),
    ['ended'],
  );
  t.strictSame(
    statesWith((stream) => stream.closed),
    ['closed', 'reset'],
  );
  t.strictSame(
    statesWith((stream) => stream.closedInOrder),
    ['closed'],
  );
});

t.test('the predicates of a connection agree with its states', async (t) => {
  const statesWith = (predicate: (connection: OpenedConnection) => boolean): string[] =>
    (Object.keys(connectionPaths) as ConnectionState[]).filter((state) => predicate(connectionIn(state)));
  t.strictSame(
    statesWith((connection) => connection.ready),
    ['open', 'announced', 'leaving'],
  );
  t.strictSame(
    statesWith((connection) => connection.isOpening),
    ['opening'],
  );
  t.strictSame(
    statesWith((connection) => connection.isOpen),
    ['open'],
  );
  t.strictSame(
    statesWith((connection) => connection.isAnnounced),
    ['announced'],
  );
  t.strictSame(
    statesWith((connection) => connection.isLeaving),
    ['leaving'],
  );
  t.strictSame(
    statesWith((connection) => connection.closed),
    ['closed'],
  );
});
