/** Answers whether an agent type has consumers: the health of the agents behind a bus. */
import type { ServerHttp2Stream } from 'node:http2';
import { Status } from '../../grpc/status.ts';
import { ServingStatus, writeAgentHealth, writeServingStatus } from '../../task/health-message.ts';
import { AGENT_HEALTH_CHECK_PATH } from '../../task/task-message.ts';
import type { Consumer, TaskLog } from '../log/task-log.ts';
import { AnswerWriter } from './answer-writer.ts';
import { busUnavailable } from './refusals.ts';

export const HEALTH_CHECK_PATH = '/grpc.health.v1.Health/Check';

/** Answers one call of `agent.AgentService/HealthCheck` or `grpc.health.v1.Health/Check`. */
export async function answerHealth(
  stream: ServerHttp2Stream,
  path: string,
  agentType: string,
  log: TaskLog,
): Promise<void> {
  stream.resume();
  const answer = new AnswerWriter(stream);
  try {
    const consumers = (await log.consumers(agentType)).filter(({ places }) => places > 0);
    await answer.send(
      path === AGENT_HEALTH_CHECK_PATH ? agentHealth(consumers, agentType) : servingStatus(consumers),
    );
    answer.end(Status.OK, '', []);
  } catch (error) {
    answer.refuse(busUnavailable(error instanceof Error ? error.message : String(error)));
  }
}

function servingStatus({ length }: readonly Consumer[]): Buffer {
  return writeServingStatus(length > 0 ? ServingStatus.SERVING : ServingStatus.NOT_SERVING);
}

function agentHealth(consumers: readonly Consumer[], agentType: string): Buffer {
  const [first] = consumers;
  return writeAgentHealth({
    healthy: first !== undefined,
    agentName: first?.name ?? agentType,
    version: first?.version ?? '',
    checks: {
      bus: first === undefined ? `nobody takes tasks for ${agentType}` : 'ok',
      consumers: String(consumers.length),
      places: String(consumers.reduce((sum, { places }) => sum + places, 0)),
    },
  });
}
