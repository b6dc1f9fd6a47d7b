// Calls through the outbound listener to the hostile endpoint: the caller keeps to every rule, the endpoint to few.
import { errorCode, grpcMessage, grpcRequest, preface, settings } from '../../../scripts/harness/h2-peer.ts';
import type { Dice } from './dice.ts';
import { ENDPOINT_PATH } from './endpoint.ts';
import { openPeer } from './sockets.ts';

const WAIT_MS = 800;
const FIRST = Buffer.concat([preface, settings()]);

/** @param authority of the cluster that the hostile endpoint is in */
export async function callHostileEndpoint(dice: Dice, port: number, authority: string): Promise<void> {
  const peer = await openPeer(dice, port);
  if (peer === undefined) return;
  // Some read nothing of what comes.
  peer.behave({ reads: dice.chance(0.85) });
  void peer.send(FIRST);
  const calls = 1 + dice.size(10);
  const ids: number[] = [];
  for (let index = 0; index < calls; index++) {
    const id = 2 * index + 1;
    ids.push(id);
    const fields = grpcRequest(`${ENDPOINT_PATH}${dice.seed()}`, [
      'grpc-timeout',
      dice.pick(['500m', '100m', '5S']),
    ]);
    void peer.headers(
      id,
      fields.map(([name, value]): [string, string] =>
        name === ':authority' ? [name, authority] : [name, value],
      ),
    );
    void peer.data(id, grpcMessage(Buffer.alloc(dice.size(16_000), 0x62)), dice.chance(0.95));
  }
  const isOver = (): boolean => peer.closed || ids.every((id) => peer.ended.has(id) || peer.resets.has(id));
  await peer.until('', isOver, WAIT_MS).catch(() => {});
  for (const id of ids) if (!peer.ended.has(id)) void peer.reset(id, errorCode.cancel);
  peer.socket.destroySoon();
}
