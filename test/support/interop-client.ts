// The client's end of gRPC's interoperability cases with grpc-js. Each case resolves, or rejects with
// what was wrong.
import assert from 'node:assert/strict';
import * as grpc from '@grpc/grpc-js';
import { echoInitial, echoTrailing, payload, TestService, UnimplementedService } from './interop-service.ts';

export const interopCases = [
  'empty_unary',
  'large_unary',
  'client_streaming',
  'server_streaming',
  'ping_pong',
  'empty_stream',
  'timeout_on_sleeping_server',
  'cancel_after_begin',
  'cancel_after_first_response',
  'status_code_and_message',
  'special_status_message',
  'unimplemented_method',
  'unimplemented_service',
  'custom_metadata',
] as const;

export type InteropCase = (typeof interopCases)[number];

const requestSizes = [27_182, 8, 1_828, 45_904];
const responseSizes = [31_415, 9, 2_653, 58_979];

interface Ended {
  status: grpc.StatusObject;
  headers: grpc.Metadata | undefined;
  responses: { payload: { body: Buffer } | null; aggregated_payload_size?: number }[];
}

type Method = (...args: unknown[]) => grpc.ClientUnaryCall & grpc.ClientDuplexStream<unknown, unknown>;

function method(client: grpc.Client, name: string): Method {
  return (client as unknown as Record<string, Method>)[name]!.bind(client);
}

/** What came of a call that answers once. */
function unary(
  client: grpc.Client,
  name: string,
  request: unknown,
  metadata = new grpc.Metadata(),
): Promise<Ended> {
  return new Promise((resolve) => {
    const responses: Ended['responses'] = [];
    let headers: grpc.Metadata | undefined;
    const call = method(client, name)(
      request,
      metadata,
      {},
      (_: unknown, response?: Ended['responses'][0]) => {
        if (response !== undefined) responses.push(response);
      },
    );
    call.on('metadata', (received: grpc.Metadata) => {
      headers = received;
    });
    call.on('status', (status: grpc.StatusObject) =>
      setImmediate(() => resolve({ status, headers, responses })),
    );
  });
}

/** What came of a stream; `onResponse` sees each message as it comes, with the number that have come. */
function stream(
  call: grpc.ClientDuplexStream<unknown, unknown> | grpc.ClientReadableStream<unknown>,
  onResponse: (count: number) => void = () => {},
): Promise<Ended> {
  return new Promise((resolve) => {
    const responses: Ended['responses'] = [];
    let headers: grpc.Metadata | undefined;
    call.on('metadata', (received: grpc.Metadata) => {
      headers = received;
    });
    call.on('data', (response: Ended['responses'][0]) => {
      responses.push(response);
      onResponse(responses.length);
    });
    call.on('error', () => {}); // It is in the status, too.
    call.on('status', (status: grpc.StatusObject) =>
      setImmediate(() => resolve({ status, headers, responses })),
    );
  });
}

function expectStatus(ended: Ended, code: grpc.status, details?: string): void {
  assert.equal(grpc.status[ended.status.code], grpc.status[code], ended.status.details);
  if (details !== undefined) assert.equal(ended.status.details, details);
}

function sizes(ended: Ended): number[] {
  return ended.responses.map((response) => response.payload?.body.length ?? -1);
}

const cases: Record<InteropCase, (client: grpc.Client) => Promise<void>> = {
  async empty_unary(client) {
    const ended = await unary(client, 'EmptyCall', {});
    expectStatus(ended, grpc.status.OK);
    assert.equal(ended.responses.length, 1);
  },

  async large_unary(client) {
    const ended = await unary(client, 'UnaryCall', { response_size: 314_159, payload: payload(271_828) });
    expectStatus(ended, grpc.status.OK);
    assert.deepEqual(sizes(ended), [314_159]);
  },

  async client_streaming(client) {
    const total = await new Promise<number>((resolve, reject) => {
      const call = method(
        client,
        'StreamingInputCall',
      )((error: Error | null, response: Ended['responses'][0]) =>
        error === null ? resolve(response.aggregated_payload_size ?? -1) : reject(error),
      );
      for (const size of requestSizes) call.write({ payload: payload(size) });
      call.end();
    });
    assert.equal(total, 74_922);
  },

  async server_streaming(client) {
    const parameters = responseSizes.map((size) => ({ size }));
    const ended = await stream(method(client, 'StreamingOutputCall')({ response_parameters: parameters }));
    expectStatus(ended, grpc.status.OK);
    assert.deepEqual(sizes(ended), responseSizes);
  },

  async ping_pong(client) {
    const call = method(client, 'FullDuplexCall')();
    const send = (index: number): unknown =>
      call.write({
        response_parameters: [{ size: responseSizes[index] }],
        payload: payload(requestSizes[index]!),
      });
    const ended = stream(call, (count) => {
      if (count < requestSizes.length) send(count);
      else call.end();
    });
    send(0);
    expectStatus(await ended, grpc.status.OK);
    assert.deepEqual(sizes(await ended), responseSizes);
  },

  async empty_stream(client) {
    const call = method(client, 'FullDuplexCall')();
    call.end();
    const ended = await stream(call);
    expectStatus(ended, grpc.status.OK);
    assert.equal(ended.responses.length, 0);
  },

  async timeout_on_sleeping_server(client) {
    const call = method(client, 'FullDuplexCall')({ deadline: Date.now() + 1 });
    call.write({ payload: payload(27_182) });
    expectStatus(await stream(call), grpc.status.DEADLINE_EXCEEDED);
  },

  async cancel_after_begin(client) {
    const code = await new Promise<number>((resolve) => {
      const call = method(
        client,
        'StreamingInputCall',
      )((error: grpc.ServiceError | null) => resolve(error?.code ?? 0));
      call.cancel();
    });
    assert.equal(grpc.status[code], 'CANCELLED');
  },

  async cancel_after_first_response(client) {
    const call = method(client, 'FullDuplexCall')();
    call.write({ response_parameters: [{ size: 31_415 }], payload: payload(27_182) });
    const ended = await stream(call, () => call.cancel());
    expectStatus(ended, grpc.status.CANCELLED);
    assert.deepEqual(sizes(ended), [31_415]);
  },

  async status_code_and_message(client) {
    const status = { code: grpc.status.UNKNOWN, message: 'test status message' };
    expectStatus(await unary(client, 'UnaryCall', { response_status: status }), status.code, status.message);
    const call = method(client, 'FullDuplexCall')();
    call.write({ response_status: status });
    call.end();
    expectStatus(await stream(call), status.code, status.message);
  },

  async special_status_message(client) {
    const message = '\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n';
    const status = { code: grpc.status.UNKNOWN, message };
    expectStatus(await unary(client, 'UnaryCall', { response_status: status }), status.code, message);
  },

  async unimplemented_method(client) {
    expectStatus(await unary(client, 'UnimplementedCall', {}), grpc.status.UNIMPLEMENTED);
  },

  async unimplemented_service(client) {
    const other = new UnimplementedService('unused:1', grpc.credentials.createInsecure(), {
      channelOverride: client.getChannel(),
    });
    expectStatus(await unary(other, 'UnimplementedCall', {}), grpc.status.UNIMPLEMENTED);
  },

  async custom_metadata(client) {
    const metadata = new grpc.Metadata();
    const trailing = Buffer.from([0xab, 0xab, 0xab]);
    metadata.set(echoInitial, 'test_initial_metadata_value');
    metadata.set(echoTrailing, trailing);
    const expectEchoes = (ended: Ended): void => {
      expectStatus(ended, grpc.status.OK);
      assert.deepEqual(ended.headers?.get(echoInitial), ['test_initial_metadata_value']);
      assert.deepEqual(ended.status.metadata.get(echoTrailing), [trailing]);
    };
    const request = { response_size: 314_159, payload: payload(271_828) };
    expectEchoes(await unary(client, 'UnaryCall', request, metadata));
    const call = method(client, 'FullDuplexCall')(metadata);
    call.write({ response_parameters: [{ size: 314_159 }], payload: payload(271_828) });
    call.end();
    expectEchoes(await stream(call));
  },
};

/** Runs one case against 127.0.0.1:port on a connection of its own. */
export async function runInteropCase(name: InteropCase, port: number): Promise<void> {
  const client = new TestService(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
  });
  try {
    await cases[name](client);
  } finally {
    client.close();
  }
}
