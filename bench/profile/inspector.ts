// V8's profiler in another process, over the inspector's protocol: it samples only between start and stop.
import { freePort } from '../../scripts/harness/free-port.ts';
import { waitUntil } from '../../scripts/harness/wait-until.ts';
import type { CpuProfile } from './cpu-profile.ts';

interface Answer {
  id?: number;
  result?: { profile?: CpuProfile };
  error?: { message: string };
}

/** The flag that a process has to be started with, and what speaks to it then. */
export async function inspector(): Promise<{ flag: string; open: () => Promise<Profiler> }> {
  const port = await freePort();
  return {
    flag: `--inspect=127.0.0.1:${port}`,
    open: async () => {
      const list = await fetch(`http://127.0.0.1:${port}/json/list`);
      const [{ webSocketDebuggerUrl }] = (await list.json()) as [{ webSocketDebuggerUrl: string }];
      const socket = new WebSocket(webSocketDebuggerUrl);
      await waitUntil('the inspector answers', () => socket.readyState === WebSocket.OPEN);
      return new Profiler(socket);
    },
  };
}

export class Profiler {
  private readonly socket: WebSocket;
  private readonly waiting = new Map<
    number,
    { resolve: (answer: Answer) => void; reject: (error: Error) => void }
  >();
  private asked = 0;

  constructor(socket: WebSocket) {
    this.socket = socket;
    socket.addEventListener('message', ({ data }) => {
      const answer = JSON.parse(String(data)) as Answer;
      const waiting = this.waiting.get(answer.id ?? 0);
      this.waiting.delete(answer.id ?? 0);
      if (answer.error === undefined) waiting?.resolve(answer);
      else waiting?.reject(new Error(answer.error.message));
    });
    socket.addEventListener('close', () => {
      for (const { reject } of this.waiting.values()) reject(new Error('the process has ended'));
    });
  }

  async start(intervalUs: number): Promise<void> {
    await this.ask('Profiler.enable');
    await this.ask('Profiler.setSamplingInterval', { interval: intervalUs });
    await this.ask('Profiler.start');
  }

  async stop(): Promise<CpuProfile> {
    const { result } = await this.ask('Profiler.stop');
    this.socket.close();
    return result!.profile!;
  }

  private ask(method: string, params: object = {}): Promise<Answer> {
    const id = ++this.asked;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.socket.send(JSON.stringify({ id, method, params }));
    });
  }
}
