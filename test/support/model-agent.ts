// An agent as a process of its own, whose tasks ask a model, and which writes down each answer before it goes on. It uses the
// client of openai as its users do, and passes nothing on:
//     node model-agent.ts PORT BASE_URL DIARY
// The input of a task is `chain 6` (each question has the answers before it) or `parallel 6` (all at once).
import { appendFileSync } from 'node:fs';
import * as grpc from '@grpc/grpc-js';
import OpenAI from 'openai';
import { FieldReader, stringField, WireType } from '../../sidecar/task/protobuf.ts';
import { PROCESS_TASK_PATH } from '../../sidecar/task/task-message.ts';

const [, , port, baseURL, diary] = process.argv;
const client = new OpenAI({ baseURL: baseURL!, apiKey: 'none', logLevel: 'off' });

function note(...words: readonly (string | number)[]): void {
  appendFileSync(diary!, `${[...words, process.pid].join(' ')}\n`);
}

async function ask(id: string, call: number, before: readonly string[]): Promise<string> {
  note('ask', id, call);
  const content = `task ${id} call ${call} after ${before.join(', ')}`;
  const messages = [{ role: 'user' as const, content }];
  let text = '';
  // Every second question is answered as a stream.
  if (call % 2 === 0) {
    const answer = await client.chat.completions.create({ model: 'm', messages });
    text = answer.choices[0]?.message.content ?? '';
  } else {
    const stream = await client.chat.completions.create({ model: 'm', messages, stream: true });
    for await (const chunk of stream) text += chunk.choices[0]?.delta.content ?? '';
  }
  note('answer', id, call, text);
  return text;
}

async function work(request: Buffer): Promise<Buffer> {
  let id = '';
  let input = '';
  const reader = new FieldReader(request, 0, request.length);
  while (reader.next()) {
    if (reader.wireType !== WireType.BYTES) continue;
    if (reader.field === 1) id = reader.text();
    else if (reader.field === 4) input = reader.text();
  }
  note('begin', id);
  const [order, count] = input.split(' ');
  const answers: string[] = [];
  if (order === 'parallel')
    answers.push(
      ...(await Promise.all(Array.from({ length: Number(count) }, (_, call) => ask(id, call, [])))),
    );
  else for (let call = 0; call < Number(count); call++) answers.push(await ask(id, call, answers));
  note('end', id);
  return stringField(2, answers.join(','));
}

const identity = (bytes: Buffer): Buffer => bytes;
const server = new grpc.Server();
server.addService(
  {
    processTask: {
      path: PROCESS_TASK_PATH,
      requestStream: false,
      responseStream: false,
      requestSerialize: identity,
      requestDeserialize: identity,
      responseSerialize: identity,
      responseDeserialize: identity,
    },
  },
  {
    processTask(call: { request: Buffer }, callback: grpc.sendUnaryData<Buffer>) {
      work(call.request).then(
        (message) => callback(null, message),
        (error: Error) => callback({ code: grpc.status.INTERNAL, details: error.message }),
      );
    },
  },
);
server.bindAsync(`127.0.0.1:${port}`, grpc.ServerCredentials.createInsecure(), (error) => {
  if (error !== null) throw error;
  process.stdout.write('listening\n');
});
