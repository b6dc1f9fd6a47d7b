/** The engine on NATS keeps the contract of a task log. */
import t from 'tap';
import { skipWithout } from '../../../scripts/harness/tool.ts';
import { keepsContract } from '../log/test-support/contract.ts';
import { openNatsLog } from './nats-task-log.ts';
import { startNats } from './test-support/nats-server.ts';

const skip = skipWithout('nats-server');
if (skip !== false) t.pass(skip, { skip });
else
  keepsContract(t, {
    name: 'nats',
    runningTakesRoom: true,
    async place(t) {
      const server = await startNats(t);
      return (settings) => openNatsLog({ servers: [server.address], settings });
    },
  });
