// An agent as a process of its own, whose tasks say what it does, and which writes down what it did:
//     node fault-agent.ts PORT DIARY
// The input of a task is one of: `sleep 200`, `stubborn 200` (goes on when it is cancelled), `crash`, `stream 5 20`.
import { appendFileSync } from 'node:fs';
import * as grpc from '@grpc/grpc-js';
import { FieldReader, stringField, WireType } from '../../sidecar/task/protobuf.ts';
import { PROCESS_TASK_PATH, STREAM_PROCESS_PATH } from '../../sidecar/task/task-message.ts';

const [, , port, diary] = process.argv;

interface Task {
  readonly id: string;
  readonly what: string;
  readonly numbers: readonly number[];
}

function readTask(request: Buffer): Task {
  let id = '';
  let input = '';
  const reader = new FieldReader(request, 0, request.length);
  while (reader.next()) {
    if (reader.wireType !== WireType.BYTES) continue;
    if (reader.field === 1) id = reader.text();
    else if (reader.field === 4) input = reader.text();
  }
  const [what = '', ...numbers] = input.split(' ');
  return { id, what, numbers: numbers.map(Number) };
}

function note(what: string, { id }: Task): void {
  appendFileSync(diary!, `${what} ${id} ${process.pid} ${Date.now()}\n`);
}

const identity = (bytes: Buffer): Buffer => bytes;
const method = (path: string, responseStream: boolean) => ({
  path,
  requestStream: false,
  responseStream,
  requestSerialize: identity,
  requestDeserialize: identity,
  responseSerialize: identity,
  responseDeserialize: identity,
});

const processTask: grpc.handleUnaryCall<Buffer, Buffer> = (call, callback) => {
  const task = readTask(call.request);
  note('begin', task);
  if (task.what === 'crash') process.kill(process.pid, 'SIGKILL');
  let isOver = false;
  const timer = setTimeout(() => {
    isOver = true;
    note('end', task);
    callback(null, stringField(2, task.id));
  }, task.numbers[0] ?? 0);
  call.on('cancelled', () => {
    if (isOver) return;
    note('cancelled', task);
    if (task.what !== 'stubborn') clearTimeout(timer);
  });
};

const streamProcess: grpc.handleServerStreamingCall<Buffer, Buffer> = (call) => {
  const task = readTask(call.request);
  note('begin', task);
  const [count = 1, everyMs = 0] = task.numbers;
  let sent = 0;
  const timer = setInterval(() => {
    call.write(stringField(2, `${task.id} ${++sent} ${process.pid}`));
    if (sent < count) return;
    clearInterval(timer);
    note('end', task);
    call.end();
  }, everyMs);
  call.on('cancelled', () => {
    if (sent === count) return;
    note('cancelled', task);
    clearInterval(timer);
  });
};

const server = new grpc.Server();
server.addService(
  { processTask: method(PROCESS_TASK_PATH, false), streamProcess: method(STREAM_PROCESS_PATH, true) },
  { processTask, streamProcess },
);
server.bindAsync(`127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error !== null) throw error;
  process.stdout.write('listening\n');
});
