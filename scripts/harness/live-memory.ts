// Measures the live memory of a Node process, after a garbage collection over the inspector's protocol.
import type { TestProcess } from './process.ts';

/** The environment of a process that `liveBytes` can measure. */
export const inspectable = { NODE_OPTIONS: '--inspect=127.0.0.1:0' } as const;

/** Collects the garbage of a process started with `inspectable`, and returns the bytes of its heap and its buffers. */
export async function liveBytes(program: Pick<TestProcess, 'logs'>): Promise<number> {
  // A program that replaces itself prints it twice; the last one counts.
  const url = [...program.logs().matchAll(/Debugger listening on (ws:\S+)/g)].at(-1)?.[1];
  if (url === undefined)
    throw new Error('the process has no inspector: start it with NODE_OPTIONS=--inspect');
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
    // The first collection may free objects that hold buffers; a second one frees those.
    for (let round = 0; round < 2; round++) await ask('HeapProfiler.collectGarbage');
    const expression = 'process.memoryUsage().heapUsed + process.memoryUsage().external';
    const { result } = (await ask('Runtime.evaluate', { expression })) as { result: { value: number } };
    return result.value;
  } finally {
    socket.close();
  }
}
