/**
 * Receives the agent's requests, gives each to an exchange, and holds what they share. The first connection loads it.
 */

import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Transform } from 'node:stream';
import { LinkedList, Listed, takeAll } from '../collections/linked-list.ts';
import { BodyPrint, type Print } from '../journal/record/body-print.ts';
import { SharedMemory, SMALL_CLAIM_BYTES } from '../policy/shared-memory.ts';
import { admit } from './admit.ts';
import { ClientRetries, NO_EARLIER_TRIES, retryKey } from './caller/client-retries.ts';
import type { DownstreamRequest, DownstreamResponse } from './caller/downstream.ts';
import { loggedText } from './caller/logged-sink.ts';
import { refuse } from './caller/refusals.ts';
import { Reply } from './caller/reply.ts';
import { AGAIN, Door } from './door.ts';
import { flightDigest } from './flights.ts';
import { isJournaled } from './journal-entries.ts';
import { type Asked, apiByHeaders } from './kinds/asked.ts';
import { traitsOf } from './kinds/operations.ts';
import { bodyMemoryOf } from './limits/body-memory.ts';
import { HeadMemory } from './limits/head-memory.ts';
import { MinuteGate } from './limits/minute-gate.ts';
import { PlaceGates } from './limits/place-gates.ts';
import { TaskBudgets } from './limits/task-budgets.ts';
import { TurnShare } from './limits/turn-share.ts';
import { PriceBook } from './money/price-book.ts';
import { Affinity } from './provider/affinity.ts';
import { upstreamsFor } from './provider/configured-upstreams.ts';
import type { EgressContext, EgressEnvironment } from './provider/egress-context.ts';
import { answerModels, mergesModels } from './provider/model-list.ts';
import { Routes } from './provider/routes.ts';
import { awaitingOf, inOrder, type Upstream } from './provider/upstream.ts';
import { BodyReader } from './request/body-reader.ts';
import { decoderOf, readsEncoded } from './request/content-encoding.ts';
import { askedBy } from './request/incoming-head.ts';
import type { JsonScan } from './request/json-scan.ts';
import { type Forbidden, forbiddenByBody, forbiddenByHead } from './request/model-permission.ts';
import type { ModelRequest } from './request/model-request.ts';
import { infoOfWebSocket, modelsOf, type RequestHead, readHead, requestBudget } from './request/read-head.ts';
import { readRequestFacts, requestScan } from './request/request-facts.ts';
import { NO_SPENDING, type Spending, spendingOf, uncountable } from './request/spending.ts';
import type { Peer } from './service/known-callers.ts';
import type { ServiceCaller } from './service/service-caller.ts';
import { Serving } from './serving.ts';
import type { Body } from './shared/body.ts';
import { textOf } from './shared/headers.ts';
import type { KeyFile } from './shared/key-file.ts';
import { type KeyFileState, KeyFileWatch } from './shared/key-file-watch.ts';
import type { LlmSettings } from './shared/llm-settings.ts';
import type { LlmObserver } from './shared/request-observer.ts';
import { ignore, shortLived } from './shared/short-lived.ts';
import { Tunnels } from './web-socket/tunnels.ts';

const NO_ROOM_FOR_HEADS =
  'the heads of the running requests take all their memory; send fewer or shorter fields, or fewer requests at a time';

export class Egress {
  private readonly context: EgressContext;
  private readonly budgets: TaskBudgets;
  private readonly memory: SharedMemory;
  private readonly heads = new HeadMemory();
  private readonly turn = new TurnShare();
  private readonly door: Door;
  /** Requests whose bodies are not whole yet. */
  private readonly reading = new LinkedList<Listed<BodyReader>>();
  private readonly serving: Serving;
  private readonly tunnels: Tunnels;
  private readonly keyWatch = new KeyFileWatch();
  private active = 0;

  constructor(settings: LlmSettings, environment: EgressEnvironment, observer: LlmObserver | undefined) {
    const { wheel, clock } = environment;
    this.budgets = new TaskBudgets(environment.ownerCalls?.taskMoney);
    this.memory = new SharedMemory(bodyMemoryOf(settings.limits), clock);
    const upstreams = inOrder(upstreamsFor(settings, [], environment));
    this.context = {
      ...environment,
      settings,
      upstreams,
      routes: new Routes(upstreams, settings.models, environment.random),
      affinity: new Affinity(),
      prices: new PriceBook(settings.pricesFile),
      gate: new MinuteGate(settings.limits, wheel, clock),
      places: new PlaceGates(settings, wheel, clock),
      clientRetries: new ClientRetries(),
      observer,
    };
    this.door = new Door(this.context);
    this.serving = new Serving(this.context);
    this.tunnels = new Tunnels(this.context);
  }

  get upstreams(): readonly Upstream[] {
    return this.context.upstreams;
  }

  get prices(): PriceBook {
    return this.context.prices;
  }

  /** The number of requests that wait for the limits of a minute, for their turn at an upstream, or for memory. */
  get waiting(): number {
    return this.waitingForLimits + awaitingOf(this.upstreams) + this.memory.waiting;
  }

  /** The number of requests that wait for limits of ours. */
  get waitingForLimits(): number {
    return this.context.gate.waiting + this.context.places.waiting;
  }

  /** The memory of all requests' bodies, in bytes. */
  get bodyBytes(): number {
    return this.memory.bytes;
  }

  /** The most of large bodies that was read in one turn of the event loop. */
  get mostBytesATurn(): number {
    return this.turn.mostBytes;
  }

  /** The number of requests without a whole answer, and of WebSockets. */
  get activeRequests(): number {
    return this.active + this.tunnels.size;
  }

  /** Looks at the files of keys, of upstreams and of callers. */
  keyFiles(): readonly KeyFileState[] {
    const { upstreams, clock, events } = this.context;
    const files: (readonly [string, KeyFile])[] = [];
    for (const { name, keyFile } of upstreams)
      if (keyFile !== undefined) files.push([`llm.upstreams.${name}.api_key_file`, keyFile]);
    for (const [name, file] of this.door.known.keyFiles) files.push([`llm.callers.${name}.key_file`, file]);
    return this.keyWatch.look(files, clock(), events);
  }

  /** The callers of the service. */
  get callers(): readonly ServiceCaller[] {
    return this.door.known.all;
  }

  set observer(observer: LlmObserver | undefined) {
    this.context.observer = observer;
  }

  /** Applies new settings to new requests; an unchanged upstream keeps its state. */
  apply(settings: LlmSettings): void {
    const context = this.context;
    const old = context.upstreams;
    context.upstreams = inOrder(upstreamsFor(settings, old, context));
    context.routes = new Routes(context.upstreams, settings.models, context.random);
    for (const upstream of old) if (!context.upstreams.includes(upstream)) upstream.close();
    context.settings = settings;
    context.prices.use(settings.pricesFile);
    this.door.known.apply(settings);
    context.gate.setLimits(settings.limits);
    context.places.apply(settings);
    this.memory.setMax(bodyMemoryOf(settings.limits));
  }

  /**
   * Serves a request.
   *
   * @param peer who asks, as the listener knows it
   * @returns false when the egress has turned it away: it does not count as active then
   */
  handleRequest(request: DownstreamRequest, response: DownstreamResponse, peer: Peer): boolean {
    const asked = askedBy(request.url, request.headers);
    const reply = new Reply(response, asked?.api ?? apiByHeaders(request.headers));
    const atDoor = this.door.check(request, peer, this.active);
    if ('client' in atDoor) return this.begin(request, reply, asked!, atDoor.client);
    const { reason, message, more } = atDoor.objection;
    return this.turnAway(request, () => refuse(reply, reason, message, more));
  }

  /**
   * Serves a WebSocket (RFC 6455): the bytes after its handshake pass unread.
   *
   * @param head the bytes that followed the request
   */
  handleWebSocket(request: IncomingMessage, socket: Socket, head: Buffer, peer: Peer): void {
    const atDoor = this.door.check(request, peer, this.active);
    if ('objection' in atDoor) {
      const { reason, message, more } = atDoor.objection;
      this.tunnels.turnAway(socket, reason, message, more);
      return;
    }
    const { client } = atDoor;
    const webSocket = this.head(
      request,
      askedBy(request.url, request.headers)!,
      client,
      this.context.clock(),
    );
    const { asked, headers, caller } = webSocket;
    const info = infoOfWebSocket(webSocket);
    const forbidden = client?.forbidsWebSocket(modelsOf(webSocket));
    if (forbidden !== undefined) {
      this.tunnels.turnAway(socket, 'forbidden', forbidden);
      return;
    }
    if (requestBudget(webSocket, this.budgets, this.context.settings.limits) !== undefined) {
      const message = "the tokens of a WebSocket can't be counted, and the task has a budget; use HTTP";
      this.tunnels.turnAway(socket, 'forbidden', message);
      return;
    }
    this.tunnels.open({ asked, headers, caller, info, socket, head });
  }

  /** Reads the body as soon as there is room for it, and serves the request then. */
  private begin(
    request: DownstreamRequest,
    reply: Reply,
    asked: Asked,
    client: ServiceCaller | undefined,
  ): boolean {
    const { settings, stats, wheel, clock } = this.context;
    const receivedMs = clock();
    const head = this.head(request, asked, client, receivedMs);
    const { operation, headers, clientAtMs, ownerCall, budget } = head;
    const forbidden = client && forbiddenByHead(client, head);
    if (forbidden !== undefined)
      return this.turnAway(request, () => refuse(reply, forbidden.reason, forbidden.message));
    const hasBudget = budget !== undefined;
    const isRead = hasBudget || client?.isRestricted === true;
    if (hasBudget && !traitsOf(operation).isCounted) {
      const message = uncountable('the egress can not count the tokens of its path; use another operation');
      return this.turnAway(request, () => refuse(reply, 'bad_request', message));
    }
    let scan = requestScan(operation, isRead, this.context.routes.readKeys);
    const encoding = textOf(headers['content-encoding'])?.toLowerCase() ?? 'identity';
    let decoder: Transform | undefined;
    if (scan !== undefined && encoding !== 'identity') {
      if (readsEncoded(settings, isRead)) decoder = decoderOf(encoding);
      if (decoder !== undefined) delete headers['content-encoding'];
      else scan = undefined;
      if (decoder === undefined && isRead) {
        const message = `the request must be read, and its content-encoding, ${encoding}, is unknown; send it without one`;
        return this.turnAway(request, () => refuse(reply, 'bad_request', message));
      }
    }
    const headBytes = this.heads.hold(request.rawHeaders);
    if (headBytes < 0)
      return this.turnAway(request, () => refuse(reply, 'overloaded', NO_ROOM_FOR_HEADS, AGAIN));
    const print = isJournaled(this.context, head) ? new BodyPrint() : undefined;
    const reader = new BodyReader(
      {
        request,
        reply,
        memory: this.memory,
        turn: this.turn,
        wheel,
        clock,
        caller: head.caller,
        maxBytes: settings.limits.maxRequestBytes,
        waitUntilMs: Math.min(
          receivedMs + settings.limits.maxWaitMs,
          clientAtMs,
          ownerCall?.deadlineMs ?? Number.POSITIVE_INFINITY,
        ),
        scan,
        digest: flightDigest(request.method, headers, settings.singleFlight),
        print,
        decoder,
      },
      (body) => {
        this.reading.remove(listed);
        const refuseBody = ({ reason, message }: Forbidden): void => {
          stats.reject((clock() - receivedMs) / 1000);
          refuse(reply, reason, message);
          reader.release();
        };
        const spending = hasBudget ? spendingOf(operation, body, scan) : NO_SPENDING;
        const denied = client && forbiddenByBody(client, operation, head.asked.model, scan);
        if ('fault' in spending) refuseBody({ reason: 'bad_request', message: uncountable(spending.fault) });
        else if (denied !== undefined) refuseBody(denied);
        else if (reply.gone) reader.release();
        else
          admit(this.context, this.read(head, reader, body, scan, spending, print?.end()), reply, (request) =>
            this.serve(request, reply),
          );
      },
    );
    this.active++;
    stats.activeRequests = this.active;
    const listed = new Listed(reader);
    this.reading.add(listed);
    reply.onOver = shortLived(() => {
      reply.onOver = ignore;
      this.active--;
      this.heads.release(headBytes);
      stats.activeRequests = this.active;
      if (!listed.listed) return;
      this.reading.remove(listed);
      reader.release();
    });
    reader.start();
    return true;
  }

  private serve(request: ModelRequest, reply: Reply): void {
    if (!mergesModels(this.context, request)) {
      this.serving.serve(request, reply);
      return;
    }
    reply.onGone = shortLived(answerModels(this.context, request, reply));
  }

  private turnAway(request: DownstreamRequest, answer: () => void): false {
    this.context.stats.reject(0);
    request.on('error', () => {});
    request.resume();
    answer();
    return false;
  }

  private head(
    request: DownstreamRequest,
    asked: Asked,
    client: ServiceCaller | undefined,
    receivedMs: number,
  ): RequestHead {
    const { ownerCalls, settings } = this.context;
    return readHead(request, asked, client, receivedMs, ownerCalls, this.budgets, settings.limits);
  }

  private read(
    head: RequestHead,
    reader: BodyReader,
    body: Body,
    scan: JsonScan | undefined,
    spending: Spending,
    print: Print | undefined,
  ): ModelRequest {
    const { operation, ...rest } = head;
    const { retryCount, receivedMs } = head;
    if (this.context.settings.logBodies) this.context.logBody('request', loggedText(body));
    let key: string | undefined;
    const keyOf = (): string => {
      const { asked, path, client } = head;
      key ??= retryKey({ ...head, path: asked.base + path, body, caller: client?.name ?? '' });
      return key;
    };
    return {
      ...rest,
      visit: undefined,
      body,
      bodyDigest: reader.digest,
      print,
      retryKey: keyOf,
      dropBody: () => {
        // Compute the key first: it recognises the client's own retry by the bytes.
        if (retryCount !== undefined && body.bytes > SMALL_CLAIM_BYTES) keyOf();
        reader.release();
      },
      facts: readRequestFacts(operation, body, scan, head.asked),
      spending,
      earlier:
        retryCount === undefined || retryCount === 0
          ? NO_EARLIER_TRIES
          : this.context.clientRetries.take(keyOf(), retryCount, receivedMs),
    };
  }

  /** Refuses new requests from now on; running ones go on. */
  drain(): void {
    this.door.isClosing = true;
  }

  /** The time to drain is over. */
  endRequests(): void {
    for (const reader of takeAll(this.reading)) reader.endForDrain();
    this.serving.endForDrain();
    this.tunnels.endForDrain();
  }

  /** Gives back what this replica holds of its callers' limits and budgets, and does not use. */
  async giveBack(): Promise<void> {
    await this.door.known.giveBack();
  }

  close(): void {
    this.door.isClosing = true;
    this.door.known.close();
    this.endRequests();
    this.tunnels.close();
    this.context.gate.close();
    this.context.places.close();
    for (const upstream of this.context.upstreams) upstream.close();
  }
}
