// Health messages against protobufjs.
import { join } from 'node:path';
import { loadSync, type MethodDefinition } from '@grpc/proto-loader';
import t from 'tap';
import {
  readHealthService,
  readServingStatus,
  ServingStatus,
  writeAgentHealth,
  writeHealthRequest,
  writeServingStatus,
} from './health-message.ts';

const methodOf = (file: string, service: string, method: string): MethodDefinition<object, object> =>
  loadSync(join(import.meta.dirname, '../../proto', file), { keepCase: true, enums: String, defaults: true })[
    service
  ]![method as never];

const check = methodOf('health.proto', 'grpc.health.v1.Health', 'Check');
const agent = methodOf('agent_service.proto', 'agent.AgentService', 'HealthCheck');

/** Returns the message after gRPC's prefix, whose length must match. */
function unframe(framed: Buffer): Buffer {
  t.equal(framed[0], 0);
  t.equal(framed.readUInt32BE(1), framed.length - 5);
  return framed.subarray(5);
}

t.test('requests of health checks equal those of protobufjs', async (t) => {
  for (const service of ['', 'agent.AgentService', 'ä'.repeat(100)]) {
    t.match(check.requestDeserialize(unframe(writeHealthRequest(service))), { service });
    const written = check.requestSerialize({ service });
    t.equal(readHealthService(written, 0, written.length), service);
  }
});

t.test('states of health checks equal those of protobufjs', async (t) => {
  for (const [name, state] of Object.entries(ServingStatus)) {
    t.match(check.responseDeserialize(unframe(writeServingStatus(state))), { status: name });
    const written = check.responseSerialize({ status: name });
    t.equal(readServingStatus(written, 0, written.length), state);
  }
  t.equal(readServingStatus(Buffer.from([8, 77]), 0, 2), ServingStatus.UNKNOWN, 'a state of the future');
});

t.test("an agent's health reads as with protobufjs", async (t) => {
  const checks = { app: 'serving', total_requests: '12', empty: '' };
  for (const healthy of [true, false]) {
    const framed = writeAgentHealth({ healthy, agentName: 'research', version: '1.2', checks });
    t.strictSame(agent.responseDeserialize(unframe(framed)), {
      healthy,
      agent_name: 'research',
      version: '1.2',
      checks,
    });
  }
});
