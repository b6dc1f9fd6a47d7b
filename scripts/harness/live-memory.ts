// What a Node process really holds: its garbage is collected first, over the inspector's protocol.
import type { TestProcess } from './process.ts';

/** Environment of a process that is to be asked. */
export const inspectable = { NODE_OPTIONS: '--inspect=127.0.0.1:0' } as const;

/** Collects the garbage of a process that runs with `inspectable`, and answers its heap and its buffers in bytes. */
export async function liveBytes(program: Pick<TestProcess, 'logs'>): Promise<number> {
  // A program that replaces itself says it twice; the last one holds.
  const url = [...program.logs().matchAll(/Debugger listening on (ws:\S+)/g)].at(-1)?.[1];
  if (url === undefined)
    throw new Error('the process can not be asked: start it with NODE_OPTIONS=--inspect');
  const socket = new WebSocket(url);
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error(`${url} does not answer`));
  });
  const ask = (method: string, params: object = {}): Promise<unknown> =>
    new Promise((resolve) => {
      socket.onmessage = ({ data }) => resolve(JSON.parse(String(data)).result);
      socket.send(JSON.stringify({ id: 1, method, params }));
    });
  try {
    // What the first one frees may hold buffers that only a second one gives back.
    for (let round = 0; round < 2; round++) await ask('HeapProfiler.collectGarbage');
    const expression = 'process.memoryUsage().heapUsed + process.memoryUsage().external';
    const { result } = (await ask('Runtime.evaluate', { expression })) as { result: { value: number } };
    return result.value;
  } finally {
    socket.close();
  }
}
