// Sends requests to an egress, eight at a time, for measurements of CPU time.
import { Agent, request } from 'node:http';
import type { Test } from 'tap';

/** Sends this many requests, plain or streamed, and waits for their answers. */
export type Ask = (requests: number, stream: boolean) => Promise<void>;

const AT_ONCE = 8;

/** @param baseUrl the base URL of the egress */
export function asker(cleanup: Pick<Test, 'teardown'>, baseUrl: string): Ask {
  const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE });
  cleanup.teardown(() => agent.destroy());
  return async (requests, stream) => {
    const body = JSON.stringify({
      model: 'm',
      stream,
      n: 20,
      messages: [{ role: 'user', content: 'How does an outrigger keep a canoe up? '.repeat(8) }],
    });
    let left = requests;
    const worker = async (): Promise<void> => {
      while (left-- > 0) await ask(`${baseUrl}/chat/completions`, agent, body);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, worker));
  };
}

function ask(url: string, agent: Agent, body: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
    const asked = request(url, { method: 'POST', agent, headers }, (response) => {
      if (response.statusCode !== 200) reject(new Error(`the egress answered ${response.statusCode}`));
      response.resume();
      response.on('end', resolve);
      response.on('error', reject);
    });
    asked.on('error', reject);
    asked.end(body);
  });
}
