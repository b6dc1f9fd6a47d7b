/** The endpoint within the process of clusters whose calls become tasks: an HTTP/2 server for the pipeline alone. */
import {
  type IncomingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2';
import type { OnReadOpts, Socket } from 'node:net';
import { READABLE_ENCODINGS } from '../../grpc/message-encoding.ts';
import { SidecarSetting } from '../../grpc/sidecar-settings.ts';
import { socketPair } from '../../net/socket-pair.ts';
import { AGENT_HEALTH_CHECK_PATH, isTaskPath } from '../../task/task-message.ts';
import { AnswerWriter } from './answer-writer.ts';
import { answerHealth, HEALTH_CHECK_PATH } from './health.ts';
import { PublishedCall } from './published-call.ts';
import type { Publishing } from './publishing.ts';
import { noMethod } from './refusals.ts';

/** Larger than any limit of the pipeline, which limits the calls of the cluster itself. */
const MAX_STREAMS = 1_000_000;
const MAX_INT32 = 2 ** 31 - 1;
/** A slow caller stops its own stream here, and no other. */
const CONNECTION_WINDOW_BYTES = 16 * 1_048_576;

export class Publisher {
  private readonly publishing: Publishing;
  private readonly sessions = new Set<ServerHttp2Session>();

  constructor(publishing: Publishing) {
    this.publishing = publishing;
  }

  /** Opens a connection on which the pipeline sends calls that become tasks for this agent type. */
  connect(agentType: string, onread?: OnReadOpts): Socket {
    return socketPair({ onread, onServer: (socket) => this.accept(socket, agentType) });
  }

  private accept(socket: Socket, agentType: string): void {
    const session = performServerHandshake(socket, {
      maxSessionMemory: 1_000,
      settings: {
        maxConcurrentStreams: MAX_STREAMS,
        maxHeaderListSize: MAX_INT32,
        customSettings: {
          // The answers' `outrigger-reason` is a sidecar's word, and a task with an id runs once.
          [SidecarSetting.PINGS_WELCOME]: 1,
          [SidecarSetting.TASKS_ONCE]: MAX_INT32,
          [SidecarSetting.TASKS_ONCE_ENCODINGS]: 2 ** READABLE_ENCODINGS.length - 1,
        },
      },
      maxHeaderListPairs: 10_000,
      maxSendHeaderBlockLength: 1_048_576,
    });
    session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
    this.sessions.add(session);
    session.on('close', () => this.sessions.delete(session));
    // The pool has closed the connection: each stream hears of it by itself.
    session.on('error', () => {});
    session.on('stream', (stream, headers, _flags, raw: unknown) => {
      // A reset is no error here: `close` says how the stream ended.
      stream.on('error', () => {});
      this.serve(stream, headers, raw as string[], agentType, () => socket.destroyed);
    });
  }

  private serve(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    fields: readonly string[],
    agentType: string,
    isCut: () => boolean,
  ): void {
    const path = String(headers[':path']);
    if (isTaskPath(path))
      void new PublishedCall(this.publishing, agentType, stream, headers, fields, isCut).run();
    else if (path === AGENT_HEALTH_CHECK_PATH || path === HEALTH_CHECK_PATH)
      void answerHealth(stream, path, agentType, this.publishing.log);
    else new AnswerWriter(stream).refuse(noMethod(path, agentType));
  }

  close(): void {
    for (const session of this.sessions) session.destroy();
  }
}
