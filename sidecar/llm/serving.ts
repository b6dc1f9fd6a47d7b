/** Runs each request in an exchange of its own, or lets it join an equal request; holds what runs. */
import { LinkedList, Listed, takeAll } from '../collections/linked-list.ts';
import { LoggedSink } from './caller/logged-sink.ts';
import { refuse } from './caller/refusals.ts';
import type { Reply } from './caller/reply.ts';
import type { Sink } from './caller/sink.ts';
import { Exchange } from './exchange.ts';
import { Flight, flightKey } from './flights.ts';
import { journalEntry } from './journal-entries.ts';
import { JournaledExchange } from './journaled-exchange.ts';
import type { EgressContext } from './provider/egress-context.ts';
import type { ModelRequest } from './request/model-request.ts';
import { shortLived } from './shared/short-lived.ts';

/** An exchange, with or without the journal. */
type Running = Pick<Exchange, 'start' | 'cancel' | 'endForDrain'>;

export class Serving {
  private readonly context: EgressContext;
  private readonly running = new LinkedList<Listed<Running>>();
  private readonly flights = new Map<string, Flight>();

  constructor(context: EgressContext) {
    this.context = context;
  }

  serve(request: ModelRequest, reply: Reply): void {
    const key = flightKey(request);
    if (key === undefined) {
      const exchange = this.exchange(request, reply, () => {});
      reply.onGone = shortLived(() => exchange.cancel());
      exchange.start();
      return;
    }
    const running = this.flights.get(key);
    if (running !== undefined) {
      request.visit?.settle(0);
      request.dropBody();
      if (running.join(reply)) return;
      const message =
        'the same request is running, and too much of its answer has passed to join it; try again later';
      refuse(reply, 'in_flight', message);
      return;
    }
    const flight = new Flight();
    flight.join(reply);
    const exchange = this.exchange(request, flight, () => this.flights.delete(key));
    flight.onEmpty = shortLived(() => exchange.cancel());
    this.flights.set(key, flight);
    exchange.start();
  }

  private exchange(request: ModelRequest, to: Sink, onOver: () => void): Running {
    const { settings, logBody } = this.context;
    const sink = settings.logBodies ? new LoggedSink(to, (body) => logBody('answer', body)) : to;
    const onEnd = (): void => {
      this.running.remove(listed);
      onOver();
    };
    const entry = journalEntry(this.context, request);
    const exchange =
      entry === undefined
        ? new Exchange(this.context, request, sink, onEnd)
        : new JournaledExchange(this.context, request, entry, sink, onEnd);
    const listed = new Listed(exchange);
    this.running.add(listed);
    return exchange;
  }

  /** The time to drain is over. */
  endForDrain(): void {
    for (const exchange of takeAll(this.running)) exchange.endForDrain();
  }
}
