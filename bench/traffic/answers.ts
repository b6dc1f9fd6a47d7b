// The messages that the bench's upstream answers with: framed messages of `agent.AgentService`.
import { join } from 'node:path';
import { loadSync, type MethodDefinition } from '@grpc/proto-loader';

const service = 'agent.AgentService';
const definition = loadSync(join(import.meta.dirname, '..', '..', 'proto', 'agent_service.proto'), {
  keepCase: true,
})[service] as unknown as Record<'ProcessTask' | 'StreamProcess', MethodDefinition<object, object>>;

/**
 * A task that is answered with 100 characters, one that is answered with 1 MiB, one that is answered in chunks, and one whose
 * chunks come a millisecond apart.
 */
export const paths = {
  small: `/${service}/ProcessTask`,
  large: `/${service}/ProcessLargeTask`,
  stream: `/${service}/StreamProcess`,
  tokens: `/${service}/StreamProcess?tokens`,
} as const;

export const smallAnswer = response(100);
export const largeAnswer = response(1 << 20);

/** A few words of a model, in a frame of their own. */
export const chunk = frame(
  definition.StreamProcess.responseSerialize({ chunk: 'and so the canoe stays up, ' }),
);
export const lastChunk = frame(definition.StreamProcess.responseSerialize({ chunk: '', is_final: true }));

/** Of an answer in so many chunks and a last one. */
export function streamBytes(chunks: number): number {
  return chunks * chunk.length + lastChunk.length;
}

function response(characters: number): Buffer {
  const output = 'x'.repeat(characters);
  return frame(
    definition.ProcessTask.responseSerialize({ task_id: 'task-1234567890', output, tokens_used: 123 }),
  );
}

/** gRPC's length-prefixed message: a byte for compression, four for the length. */
function frame(message: Buffer): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}
