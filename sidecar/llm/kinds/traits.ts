/** Describes what a kind of upstream says of itself: the operations of the API that it speaks, and how it is asked. */
import type { JsonObject } from '../../node/json.ts';
import type { HttpHeaders } from '../shared/headers.ts';
import type { ApiName, KindName, Operation } from '../shared/operation.ts';
import type { AnswerFacts } from './answer-facts.ts';

/** Adds what a plain answer or an event says to `facts`; returns the text that it adds to the answer. */
export type ReadAnswer = (value: JsonObject, facts: AnswerFacts) => string | undefined;

/** A refusal of ours, before a provider's API gives it its form. */
export interface OwnError {
  readonly status: number;
  /** The word in `outrigger-reason`. */
  readonly reason: string;
  readonly message: string;
}

/** The events of a streamed answer, and how they end. */
export interface EventDialect {
  /** Events of these types end the stream. */
  readonly endTypes: ReadonlySet<string>;
  /** The list whose members each end with a reason, and its name; undefined where there is none. */
  readonly choices: { readonly list: string; readonly reason: string } | undefined;
  /** Whether an event ends the stream in another way. */
  readonly endsWith: ((value: JsonObject) => boolean) | undefined;
  /** The end of the bytes ends the stream. */
  readonly isUnmarked: boolean;
  readonly read: ReadAnswer;
  /** The event in which a broken stream ends: the text with its blank line, in the form that makes clients throw. */
  readonly errorEvent: (error: OwnError) => string;
  /** The same as the last element of an array, where a stream can be one. */
  readonly errorElement?: (error: OwnError) => string;
}

export interface OperationTraits {
  /** The request is a JSON object, and its `model`, `stream` and `n` mean what they say. */
  readonly readsRequest: boolean;
  /** A language model works on it: `upstreams[].model` replaces the request's `model`. */
  readonly generatesText: boolean;
  /** Its tokens count for limits and budgets. */
  readonly isCounted: boolean;
  /**
   * Fields of the request that bound its answer, in tokens: the first one present counts, and the first one is added. A dot
   * leads into an object at the top level.
   */
  readonly maxOutputFields: readonly string[];
  /** Fields that ask for several answers. */
  readonly choicesFields: readonly string[];
  /** Fields at the top level that bring in tokens which the request does not hold. */
  readonly unseenFields: readonly string[];
  /** A stream sends its usage only with `stream_options.include_usage`. */
  readonly asksForUsage: boolean;
  /** The plain answer is one JSON value: the answer, or an error. The egress reads no other one. */
  readonly answersJson: boolean;
  /** Reads the plain answer. */
  readonly read: ReadAnswer;
  /** The dialect of a stream's events; undefined without a stream, or with unknown events. */
  readonly events: EventDialect | undefined;
}

/** An API as clients are written for it; several kinds of upstreams may speak it. */
export interface ProviderApi {
  readonly name: ApiName;
  /** For messages: `Anthropic's API`. */
  readonly title: string;
  readonly operations: Readonly<Partial<Record<Operation, OperationTraits>>>;
  /** Returns the operation of a path below the API's base, without its query, in the form of `canonicalPath`. */
  readonly operationOf: (method: string, path: string) => Operation;
  /** Matches an error that refuses a prompt for its length in tokens. */
  readonly tooLong: RegExp;
  readonly models: ModelListForm;
  /** The body of a refusal, in the form that clients of the API take for an error. */
  readonly errorBody: (error: OwnError) => object;
}

/** The form of an API's list of models. */
export interface ModelListForm {
  /** The query that asks for all of it at once; '' where nothing must. */
  readonly query: string;
  /** The key of the list. */
  readonly key: string;
  /** The key of an entry's name. */
  readonly id: string;
  /** Returns the name by which requests call an entry. */
  readonly idOf: (entry: JsonObject) => string;
  /** Returns an entry for a name of ours. */
  readonly entry: (name: string) => JsonObject;
  readonly list: (entries: readonly JsonObject[]) => object;
}

/** The headers in which a provider says what is left of a limit. */
export interface QuotaHeaders {
  /** What is learned from it; undefined for a limit that only tells how long a 429 lasts. */
  readonly what: 'requests' | 'tokens' | undefined;
  readonly limit: string;
  readonly remaining: string;
  /** A duration, a number of seconds, a time since 1970, or a time in words of RFC 3339. */
  readonly reset: string;
}

/** A request as a kind finds its path. */
export interface AskedPath {
  readonly api: ApiName;
  /** The base under which the request came: `/v1`, `/openai/deployments/NAME`, `/v1beta`. */
  readonly base: string;
  /** After that base, with its query: `/chat/completions?x=1`. */
  readonly path: string;
  /** The model for this upstream. */
  readonly model: string;
}

/** One kind of upstream. */
export interface ProviderKind {
  readonly name: KindName;
  /** The APIs that it speaks as its own. */
  readonly apis: ReadonlySet<ApiName>;
  /** The APIs that it speaks, too: where no upstream speaks them as its own, or where a rule says so. */
  readonly alsoSpeaks: ReadonlySet<ApiName>;
  /** Hosts that are of this kind when the configuration names none. */
  readonly hosts: RegExp | undefined;
  /**
   * Returns the path of a request below `basePath`, with its query.
   *
   * @param basePath the path of the configured URL, without a slash at its end
   * @param version the configured version of the API; '' without one
   */
  readonly pathOf: (basePath: string, asked: AskedPath, version: string) => string;
  /** Whether that path names the model, so that the body keeps its own. */
  readonly isModelInPath: (
    basePath: string,
    asked: Pick<AskedPath, 'api' | 'base'>,
    version: string,
  ) => boolean;
  /** Puts the upstream's key into the headers to send. @param callers the caller's own headers, to see where its key stands */
  readonly authorize: (sent: HttpHeaders, callers: HttpHeaders, key: string, api: ApiName) => void;
  /** The headers of what is left of its limits. */
  readonly quotas: readonly QuotaHeaders[];
  /** Returns the wait that the body of an error asks for, in milliseconds; undefined without one. */
  readonly waitInBody?: (error: JsonObject) => number | undefined;
}

export const NOTHING: ReadAnswer = () => undefined;

/** Fields that ask for several answers; budgets heed them in every API, because servers may. */
const CHOICES = ['n', 'best_of'] as const;

/** An operation that passes as it is. */
export function unread(): OperationTraits {
  return {
    readsRequest: false,
    generatesText: false,
    isCounted: false,
    maxOutputFields: [],
    choicesFields: CHOICES,
    unseenFields: [],
    asksForUsage: false,
    answersJson: false,
    read: NOTHING,
    events: undefined,
  };
}

/** An operation in which a model generates text. */
export function generating(read: ReadAnswer): OperationTraits {
  return { ...unread(), readsRequest: true, generatesText: true, isCounted: true, answersJson: true, read };
}

/** The most common dialect: one JSON object an event. */
export function dialect(
  own: Pick<EventDialect, 'read' | 'errorEvent'> & Partial<EventDialect>,
): EventDialect {
  return { endTypes: new Set(), choices: undefined, endsWith: undefined, isUnmarked: false, ...own };
}
