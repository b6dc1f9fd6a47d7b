/** The thread of the journal's file: opens it, and answers the main thread. */
import { parentPort, workerData } from 'node:worker_threads';
import { JournalFile } from './journal-file.ts';
import { openJournalFile, problemOf } from './open-journal-file.ts';
import type { FromThread, Request, ThreadData } from './requests.ts';

/** Between two looks for answers that are too old. */
const SWEEP_MS = 30_000;

const { file: path, limits } = workerData as ThreadData;
const port = parentPort!;
const post = (message: FromThread): void => port.postMessage(message);

function perform(file: JournalFile, { name, input }: Request): unknown {
  const nowMs = Date.now();
  switch (name) {
    case 'begin':
      return file.begin(input.task, nowMs);
    case 'read':
      return file.read(input.reference, nowMs);
    case 'write':
      return file.write(input.task, input.run, input.place, input.payload, nowMs);
    case 'drop':
      return file.drop(input.task, input.run);
    case 'close':
      file.close();
      return undefined;
  }
}

function serve(file: JournalFile): void {
  const timer = setInterval(() => {
    try {
      file.sweep(Date.now());
    } catch {
      // The next request says what is wrong with the file.
    }
  }, SWEEP_MS);
  port.on('message', (request: Request) => {
    const { id, name } = request;
    try {
      post({ name: 'done', id, output: perform(file, request) });
    } catch (error) {
      post({ name: 'failed', id, message: problemOf(error, path) });
    }
    if (name !== 'close') return;
    clearInterval(timer);
    port.close();
  });
}

try {
  serve(new JournalFile(await openJournalFile(path), limits));
  post({ name: 'opened' });
} catch (error) {
  post({ name: 'refused', message: problemOf(error, path) });
  port.close();
}
