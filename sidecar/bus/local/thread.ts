/** The entry of the thread of a task file: opens the file and says how that went. */
import { parentPort, workerData } from 'node:worker_threads';
import { FileThread } from './file-thread.ts';
import { openFile, problemOf } from './open-file.ts';
import type { FromThread, ThreadData } from './requests.ts';
import { TaskFile } from './task-file.ts';

const { file, settings } = workerData as ThreadData;
const port = parentPort!;

try {
  new FileThread(new TaskFile(file, await openFile(file), settings), port).start();
} catch (error) {
  port.postMessage({ name: 'refused', message: problemOf(error, file) } satisfies FromThread);
  port.close();
}
