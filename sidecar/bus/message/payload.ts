/**
 * Encodes what a task log stores and never reads: a JSON head, and bytes behind it.
 *
 *     4 bytes: length of the head │ head: JSON in UTF-8 │ the rest: a message of the agents' protocol
 */
import { LogSetupError } from '../log/log-errors.ts';

/** Fields of a gRPC head or of trailers: name, value, name, value … Names are in lower case. */
export type Fields = readonly string[];

/** A request and what travels with it. */
export interface RequestPayload {
  /** `/agent.AgentService/ProcessTask`, or another method that carries a task. */
  readonly path: string;
  /** The publisher's verified identity: its certificate's name, its user on the log, or '' where nothing verifies it. */
  readonly identity: string;
  /** The digest of the caller's scope (`proxy/caller-scope.ts`); '' where nothing tells callers apart. */
  readonly scope: string;
  readonly taskId: string;
  readonly correlationId: string;
  /** The fields that may be stored: never credentials. */
  readonly fields: Fields;
  /** The request's message, without prefix and uncompressed. */
  readonly message: Buffer;
}

/** An agent's answer has these beside its message. */
export interface AnswerHead {
  /** `grpc-message`, decoded. */
  readonly statusMessage: string;
  readonly head: Fields;
  readonly trailers: Fields;
}

/** An agent's answer to a task. */
export interface ResultPayload extends AnswerHead {
  /** The message of a unary answer, uncompressed and without prefix; undefined for a stream, whose messages are chunks, and for an error. */
  readonly answer: Buffer | undefined;
}

const LENGTH_BYTES = 4;

export function encodeRequest({ message, ...head }: RequestPayload): Buffer {
  return encode(head, message);
}

/** Throws LogSetupError when the bytes are no request: somebody else has written them, or another version. */
export function decodeRequest(payload: Buffer): RequestPayload {
  const [head, message] = decode(
    payload,
    ['path', 'identity', 'scope', 'taskId', 'correlationId'],
    ['fields'],
  );
  return { ...(head as Omit<RequestPayload, 'message'>), message };
}

export function encodeResult({ answer, ...head }: ResultPayload): Buffer {
  return encode({ ...head, answerBytes: answer?.length ?? -1 }, answer ?? Buffer.alloc(0));
}

/** Throws LogSetupError when the bytes are no result. */
export function decodeResult(payload: Buffer): ResultPayload {
  const { answerBytes, first, ...head } = decodeResultStart(payload);
  return { ...head, answer: answerBytes === undefined ? undefined : first };
}

/** The beginning of a result, and the bytes of its message that came with it. */
interface ResultStart extends AnswerHead {
  /** Of the message; undefined without one. */
  readonly answerBytes: number | undefined;
  readonly first: Buffer;
}

/** @param payload a result, or its beginning of at least {@link headEnd} bytes. Throws LogSetupError when it is none */
export function decodeResultStart(payload: Buffer): ResultStart {
  const [read, first] = decode(payload, ['statusMessage'], ['head', 'trailers']);
  const { answerBytes, ...head } = read as AnswerHead & { readonly answerBytes: number };
  return { ...head, first, answerBytes: answerBytes >= 0 ? answerBytes : undefined };
}

/** The length of a payload's head with what is before it, as its first bytes say; undefined while they are not all there. */
export function headEnd(payload: Buffer): number | undefined {
  return payload.length < LENGTH_BYTES ? undefined : LENGTH_BYTES + payload.readUInt32BE();
}

function encode(head: object, rest: Buffer): Buffer {
  const json = Buffer.from(JSON.stringify(head));
  const payload = Buffer.allocUnsafe(LENGTH_BYTES + json.length + rest.length);
  payload.writeUInt32BE(json.length);
  json.copy(payload, LENGTH_BYTES);
  rest.copy(payload, LENGTH_BYTES + json.length);
  return payload;
}

function decode(payload: Buffer, texts: readonly string[], lists: readonly string[]): [object, Buffer] {
  try {
    const end = LENGTH_BYTES + payload.readUInt32BE();
    if (end > payload.length) throw new Error(`a head of ${end} bytes in ${payload.length}`);
    const head: unknown = JSON.parse(payload.toString('utf8', LENGTH_BYTES, end));
    if (typeof head !== 'object' || head === null) throw new Error('the head is no object');
    const of = (name: string): unknown => (head as Record<string, unknown>)[name];
    for (const name of texts)
      if (typeof of(name) !== 'string') throw new Error(`the head has no text ${name}`);
    for (const name of lists) if (!isFields(of(name))) throw new Error(`the head has no fields ${name}`);
    return [head, payload.subarray(end)];
  } catch (error) {
    const message = `a task on the bus can't be read (${String(error)}): use one version of Outrigger and one key for the bus`;
    throw new LogSetupError(message, error);
  }
}

function isFields(value: unknown): value is Fields {
  return Array.isArray(value) && value.length % 2 === 0 && value.every((part) => typeof part === 'string');
}
