// The embedded engine keeps the contract of a task log.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { keepsContract } from '../log/test-support/contract.ts';
import { openLocalTaskLog } from './local-task-log.ts';

keepsContract(t, {
  name: 'embedded',
  async place(t) {
    const folder = mkdtempSync(join(tmpdir(), 'outrigger-tasks-'));
    t.teardown(() => rmSync(folder, { recursive: true, force: true }));
    return (settings) => openLocalTaskLog(join(folder, 'tasks.db'), settings);
  },
});
