// Makes the calls: tasks over connections of their own, each task with an id that no other has.
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import {
  type ChannelCredentials,
  type ChannelOptions,
  Client,
  type ClientReadableStream,
  type ClientUnaryCall,
  credentials,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { agentService, healthService, messageLimits } from '../../agents/protocol/definitions.ts';
import type { TaskChunk, TaskRequest, TaskResponse } from '../../agents/protocol/messages.ts';
import { type CallEnd, OK_END } from './call-end.ts';
import { type LoadOptions, type TlsFiles, UsageError } from './options.ts';

const WORDS = 'Why do circuit breakers matter to agents that call each other over slow and lossy networks? ';

type CallerOptions = Pick<
  LoadOptions,
  | 'target'
  | 'stream'
  | 'taskType'
  | 'input'
  | 'inputBytes'
  | 'metadata'
  | 'authority'
  | 'deadlineMs'
  | 'connections'
  | 'tls'
>;

export interface RunningCall {
  cancel(): void;
}

export class Caller {
  private readonly clients: Client[];
  private readonly options: CallerOptions;
  private readonly metadata = new Metadata();
  private readonly processTask = agentService['ProcessTask']!;
  private readonly streamProcess = agentService['StreamProcess']!;
  private readonly serialize: (task: object) => Buffer;
  /** All of the request but its id. Fields of a message may come in any order, so the id is put after it. */
  private readonly requestWithoutId: Buffer;
  /** A sidecar runs a task once, and a later run of this program is another load. */
  private readonly idPrefix = `load-${randomBytes(6).toString('hex')}-`;
  private nextTask = 0;

  /** @throws UsageError for a file of `--tls` that can't be used */
  constructor(options: CallerOptions) {
    this.options = options;
    for (const [key, value] of options.metadata)
      this.metadata.add(key, key.endsWith('-bin') ? Buffer.from(value, 'base64') : value);
    this.serialize = this.processTask.requestSerialize as (task: object) => Buffer;
    const { input = words(options.inputBytes), taskType } = options;
    this.requestWithoutId = this.serialize({ agent_type: taskType, input } satisfies Partial<TaskRequest>);
    const channelCredentials = credentialsOf(options.tls);
    const channelOptions = channelOptionsOf(options);
    this.clients = Array.from(
      { length: options.connections },
      () => new Client(options.target, channelCredentials, channelOptions),
    );
  }

  /** @returns undefined once every connection stands; when one does not within the time, why */
  async connect(limitMs: number): Promise<string | undefined> {
    const ready = (client: Client): Promise<boolean> =>
      new Promise((resolve) =>
        client.waitForReady(Date.now() + limitMs, (error) => resolve(error === undefined)),
      );
    const all = await Promise.all(this.clients.map(ready));
    const without = this.clients[all.indexOf(false)];
    return without === undefined ? undefined : this.problemOf(without);
  }

  /** The connection error of a client; grpc-js reports the reason only to a call. */
  private problemOf(client: Client): Promise<string> {
    return new Promise((resolve) =>
      client.makeUnaryRequest(
        healthService['Check']!.path,
        identity,
        identity,
        Buffer.alloc(0),
        new Metadata(),
        { deadline: Date.now() + 1000 },
        (error) => resolve(error?.details ?? 'the answer arrived after the end of the run'),
      ),
    );
  }

  /** Makes a call. It calls `onChunk` for each chunk of a stream, then `onEnd` once. */
  call(onEnd: (end: CallEnd) => void, onChunk: () => void): RunningCall {
    const number = this.nextTask++;
    const client = this.clients[number % this.clients.length]!;
    const id = this.serialize({ task_id: `${this.idPrefix}${number}` } satisfies Partial<TaskRequest>);
    const request = Buffer.concat([this.requestWithoutId, id]);
    return this.options.stream
      ? this.openStream(client, request, onEnd, onChunk)
      : this.ask(client, request, onEnd);
  }

  close(): void {
    for (const client of this.clients) client.close();
  }

  private ask(client: Client, request: Buffer, onEnd: (end: CallEnd) => void): ClientUnaryCall {
    const { path, responseDeserialize } = this.processTask;
    let deduplicated = false;
    const call = client.makeUnaryRequest<Buffer, TaskResponse>(
      path,
      identity,
      responseDeserialize as (bytes: Buffer) => TaskResponse,
      request,
      this.metadata,
      { deadline: Date.now() + this.options.deadlineMs },
      (error, answer) => {
        if (error !== null) onEnd(this.failure(error));
        else if (answer!.status === 'FAILED' || answer!.status === 'TIMEOUT')
          onEnd({ outcome: `task ${answer!.status}`, deduplicated });
        else onEnd(deduplicated ? { outcome: 'OK', deduplicated } : OK_END);
      },
    );
    call.on('metadata', (head) => {
      deduplicated = isDeduplicated(head);
    });
    return call;
  }

  private openStream(
    client: Client,
    request: Buffer,
    onEnd: (end: CallEnd) => void,
    onChunk: () => void,
  ): ClientReadableStream<TaskChunk> {
    const { path, responseDeserialize } = this.streamProcess;
    let complete = false;
    let deduplicated = false;
    let allRead = false;
    let statusOk = false;
    let over = false;
    const end = (how: CallEnd): void => {
      if (over) return;
      over = true;
      onEnd(how);
    };
    // The status may be known before the last chunks have been read.
    const endWhenBoth = (): void => {
      if (allRead && statusOk) end({ outcome: complete ? 'OK' : 'no final chunk', deduplicated });
    };
    const call = client.makeServerStreamRequest<Buffer, TaskChunk>(
      path,
      identity,
      responseDeserialize as (bytes: Buffer) => TaskChunk,
      request,
      this.metadata,
      { deadline: Date.now() + this.options.deadlineMs },
    );
    call.on('metadata', (head) => {
      deduplicated = isDeduplicated(head);
    });
    call.on('data', (chunk: TaskChunk) => {
      complete ||= chunk.is_final;
      onChunk();
    });
    call.on('error', (error: ServiceError) => end(this.failure(error)));
    call.on('end', () => {
      allRead = true;
      endWhenBoth();
    });
    call.on('status', ({ code }) => {
      statusOk = code === status.OK;
      endWhenBoth();
    });
    return call;
  }

  private failure(error: ServiceError): CallEnd {
    const trailers: Metadata | undefined = error.metadata;
    const reason = trailers?.get('outrigger-reason')[0];
    return {
      outcome: status[error.code] ?? `status ${error.code}`,
      reason: reason === undefined ? undefined : String(reason),
      pushback: (trailers?.get('grpc-retry-pushback-ms').length ?? 0) > 0,
      message: this.withoutMetadata(error.details ?? ''),
    };
  }

  /** A target may quote metadata of the request. */
  private withoutMetadata(text: string): string {
    let result = text;
    for (const [, value] of this.options.metadata) if (value !== '') result = result.replaceAll(value, '***');
    return result;
  }
}

const identity = (bytes: Buffer): Buffer => bytes;

const isDeduplicated = (head: Metadata): boolean => head.get('outrigger-deduplicated').length > 0;

function words(bytes: number): string {
  return WORDS.repeat(Math.ceil(bytes / WORDS.length)).slice(0, bytes);
}

function channelOptionsOf({ authority, tls }: CallerOptions): ChannelOptions {
  return {
    ...messageLimits,
    // Each client has a connection of its own.
    'grpc.use_local_subchannel_pool': 1,
    // A name may have several addresses; the connections spread over them.
    'grpc.service_config': JSON.stringify({
      loadBalancingConfig: [{ pick_first: { shuffleAddressList: true } }],
    }),
    'grpc.service_config_disable_resolution': 1,
    'grpc.enable_http_proxy': 0,
    // The run shall show a restarted target at once, and not gRPC's reconnect back-off.
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 2000,
    ...(authority === undefined ? {} : { 'grpc.default_authority': authority }),
    ...(tls?.serverName === undefined ? {} : { 'grpc.ssl_target_name_override': tls.serverName }),
  };
}

function credentialsOf(tls: TlsFiles | undefined): ChannelCredentials {
  if (tls === undefined) return credentials.createInsecure();
  const read = (option: string, path: string | undefined): Buffer | null => {
    if (path === undefined) return null;
    try {
      return readFileSync(fromWhereCalled(path));
    } catch (error) {
      throw new UsageError(
        `--${option} ${path} can't be read (${(error as NodeJS.ErrnoException).code}): use a PEM file`,
      );
    }
  };
  const [ca, key, cert] = [read('ca', tls.ca), read('key', tls.key), read('cert', tls.cert)];
  try {
    return credentials.createSsl(ca, key, cert);
  } catch (error) {
    throw new UsageError(
      `--ca, --cert or --key is not usable (${(error as Error).message}): use PEM files that belong together`,
    );
  }
}

/** npm runs scripts in the folder of the package; INIT_CWD has the folder of the call. */
export function fromWhereCalled(path: string): string {
  return resolve(process.env['INIT_CWD'] ?? '.', path);
}
