// What the upstream serves and the load sends: real gRPC-framed agent messages, as files, because
// nghttpd answers from files and h2load reads its body from one.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadSync, type MethodDefinition } from '@grpc/proto-loader';
import type { Cleanup } from './cleanup.ts';

export interface Fixture {
  /** The upstream's document root. */
  folder: string;
  requestFile: string;
  request: Buffer;
  small: Document;
  large: Document;
}

export interface Document {
  path: string;
  /** The framed response, whole. */
  body: Buffer;
}

const service = 'agent.AgentService';

export function writeFixture(cleanup: Cleanup): Fixture {
  const definition = loadSync(join(import.meta.dirname, '..', 'proto', 'agent_service.proto'), {
    keepCase: true,
  });
  const { requestSerialize, responseSerialize } = definition[service]![
    'ProcessTask' as never
  ] as MethodDefinition<object, object>;
  const folder = mkdtempSync(join(tmpdir(), 'outrigger-bench-'));
  cleanup.teardown(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, service));

  const request = frame(
    requestSerialize({ task_id: 'task-1234567890', agent_type: 'research', input: 'y'.repeat(100) }),
  );
  const response = (output: string): Buffer =>
    frame(responseSerialize({ task_id: 'task-1234567890', output, tokens_used: 123 }));
  const document = (method: string, body: Buffer): Document => {
    writeFileSync(join(folder, service, method), body);
    return { path: `/${service}/${method}`, body };
  };
  const requestFile = join(folder, 'request');
  writeFileSync(requestFile, request);
  return {
    folder,
    requestFile,
    request,
    small: document('ProcessTask', response('x'.repeat(100))),
    large: document('ProcessLargeTask', response('z'.repeat(1 << 20))),
  };
}

/** gRPC's length-prefixed message: a byte for compression, four for the length. */
function frame(message: Buffer): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}
