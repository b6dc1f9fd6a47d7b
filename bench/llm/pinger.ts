// A thread that sends small requests continuously, so that a busy client does not delay itself.
import { Agent, request as httpRequest } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';

const EVERY_MS = 2;
const { url } = workerData as { url: string };
const agent = new Agent({ keepAlive: true, maxSockets: 1 });
const times: number[] = [];
let running = true;
parentPort!.once('message', () => {
  running = false;
});

function ask(): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(url, { agent }, (response) => {
      response.resume();
      response.on('end', resolve);
    });
    request.on('error', reject);
    request.end();
  });
}

await ask();
parentPort!.postMessage('ready');
while (running) {
  const startedMs = performance.now();
  await ask();
  times.push(performance.now() - startedMs);
  await sleep(EVERY_MS);
}
agent.destroy();
parentPort!.postMessage(times.sort((a, b) => a - b));
