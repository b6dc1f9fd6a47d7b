/** The output of a run while it arises, as notifications of its progress. */
import { StringDecoder } from 'node:string_decoder';
import type { ServerContext } from '@modelcontextprotocol/server';

type OnOutput = (stream: 'stdout' | 'stderr', chunk: Buffer) => void;

/** Undefined where the client has not asked for it. The progress is the number of bytes; there is no total. */
export function progressOf({ mcpReq }: ServerContext): OnOutput | undefined {
  const progressToken = mcpReq._meta?.progressToken;
  if (progressToken === undefined) return undefined;
  let progress = 0;
  const decoders = { stdout: new StringDecoder(), stderr: new StringDecoder() };
  return (stream, chunk) => {
    progress += chunk.length;
    const message = decoders[stream].write(chunk);
    if (message === '') return;
    const params = { progressToken, progress, message };
    // The client may have left.
    mcpReq.notify({ method: 'notifications/progress', params }).catch(() => {});
  };
}
