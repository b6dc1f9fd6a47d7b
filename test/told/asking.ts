// Tasks of the known mix whose agent asks a model: where no answer says how many tokens were used, the egress knows.
import * as grpc from '@grpc/grpc-js';
import { USAGE } from '../../scripts/harness/llm/provider.ts';
import { taskRequest } from '../support/upstream.ts';
import { STREAMED_TASK, TASK } from './agent.ts';
import type { Models } from './models.ts';
import type { Player } from './player.ts';
import { playStream } from './tasks.ts';

const { INTERNAL, OK } = grpc.status;

export async function playAsking(player: Player, models: Models): Promise<void> {
  const { agent } = player.system;
  const asks = (): string => {
    const id = player.id();
    agent.asks = () => models.forTask(id);
    return id;
  };
  for (const expected of [OK, INTERNAL])
    await playStream(player, STREAMED_TASK, expected, { id: asks(), tokens: USAGE.total_tokens });
  const body = taskRequest({ id: asks(), input: 'ask break' });
  player.plain(await player.unary('plain', TASK, body), INTERNAL);
  player.task('ERROR', 'wasted', USAGE.total_tokens);
  agent.asks = undefined;
}
