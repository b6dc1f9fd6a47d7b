// Calls of the known mix that fail in the second round, until the caller's sidecar opens a circuit or ejects an endpoint. One of
// each fails in the first round already: a series that appears with its first value is in no rate.
import * as grpc from '@grpc/grpc-js';
import { ok, trailersOnly } from '../support/answers.ts';
import { path } from './agent.ts';
import type { Player } from './player.ts';
import { FAILURES } from './system.ts';

const { OK, UNAVAILABLE } = grpc.status;

export async function playFailures(player: Player): Promise<void> {
  const { system } = player;
  system.bad.answer = trailersOnly(UNAVAILABLE);
  await broken(player);
  system.bad.answer = trailersOnly(UNAVAILABLE);
  await ejecting(player);
  await closing(player);
  // It may have run, and nobody says that it may run twice.
  const seen = await player.unary('retried', path('Status'), `${player.id()} ${UNAVAILABLE}`);
  player.expect(seen, UNAVAILABLE);
  player.make('retried', seen, [UNAVAILABLE]);
  player.serve(seen);
  player.decide('retries', 'retried', 'not_safe');
}

/** The circuit of its method opens. */
async function broken(player: Player): Promise<void> {
  const method = path('Broken');
  const circuit = { round: player.round, cluster: 'broken', method, turnedAway: 0 };
  const opens = player.round === 2;
  if (opens) player.ledger.opened.push(circuit);
  for (let i = 0; i < FAILURES + 2; i++) {
    const seen = await player.unary('broken', method, player.id());
    player.expect(seen, opens || i === 0 ? UNAVAILABLE : OK);
    if (!opens) player.system.bad.answer = ok;
    const isTurnedAway = opens && i >= FAILURES;
    player.make('broken', seen, isTurnedAway ? [] : [seen.code]);
    if (!isTurnedAway) continue;
    circuit.turnedAway++;
    player.reject('caller', 'outbound', 'circuit_open');
  }
}

/** One of two endpoints is ejected: what it has seen its own calls tell. */
async function ejecting(player: Player): Promise<void> {
  const { bad } = player.system;
  const method = path('Ejecting');
  const before = bad.calls.length;
  let fails = true;
  const one = async (): Promise<void> => {
    const asked = bad.calls.length;
    const seen = await player.unary('ejecting', method, player.id());
    player.expect(seen, fails && bad.calls.length > asked ? UNAVAILABLE : OK);
    player.make('ejecting', seen, [seen.code]);
  };
  if (player.round === 1) {
    while (bad.calls.length === before) await one();
    fails = false;
    bad.answer = ok;
    for (let i = 0; i < 2 * FAILURES; i++) await one();
    return;
  }
  while (bad.calls.length < before + FAILURES) await one();
  player.ledger.ejected.push({ round: 2, cluster: 'ejecting', reason: 'consecutive_failures' });
  for (let i = 0; i < FAILURES; i++) await one();
  player.t.equal(bad.calls.length, before + FAILURES, 'an ejected endpoint gets no call');
}

/** Nobody gets a connection. It is tried again by itself: how often, the server tells; until then no attempt is made. */
async function closing(player: Player): Promise<void> {
  const { closed } = player.system;
  const seen = await player.unary('closing', path('Unary'), player.id());
  player.expect(seen, UNAVAILABLE);
  const reason = seen.reason ?? '';
  player.make('closing', seen, reason === 'no_endpoint' ? [] : [UNAVAILABLE]);
  player.reject('caller', 'outbound', reason);
  player.ledger.unconnected.push({
    round: player.round,
    cluster: 'closing',
    reason: 'connection_lost',
    get most() {
      return closed.count;
    },
  });
}
