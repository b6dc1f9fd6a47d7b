/**
 * Stands in the lines of one exchange, one after the other, and holds its tickets: those of the egress and of the rule for its
 * model from the beginning to the end, that of an upstream for each attempt there.
 */
import type { Ticket } from './limits/fair-limiter.ts';
import type { MinuteGate } from './limits/minute-gate.ts';

/** A place that the limits have given. */
interface Held {
  readonly gate: MinuteGate;
  readonly ticket: Ticket;
}

/** What becomes of a wait; one of the two is called, at once or later. */
export interface Waiting {
  onIn(): void;
  /** @param againMs after how long another try may be let in @param gate the limits that did not let it in */
  onAway(againMs: number, gate: MinuteGate): void;
}

export class ExchangeLines {
  private readonly caller: string;
  private readonly tokens: number;
  private held: readonly Held[] = [];
  private atUpstream: Held | undefined = undefined;
  private leaveLine: () => void = () => {};

  /** @param tokens the most that the request may use */
  constructor(caller: string, tokens: number) {
    this.caller = caller;
    this.tokens = tokens;
  }

  /** Enters these lines, one behind the other. */
  enter(gates: readonly MinuteGate[], untilMs: number, waiting: Waiting): void {
    const [gate, ...others] = gates;
    if (gate === undefined) {
      waiting.onIn();
      return;
    }
    this.stand(gate, untilMs, waiting, (ticket) => {
      this.held = [...this.held, { gate, ticket }];
      this.enter(others, untilMs, waiting);
    });
  }

  /** Enters the line of an upstream. */
  enterUpstream(gate: MinuteGate, untilMs: number, waiting: Waiting): void {
    this.stand(gate, untilMs, waiting, (ticket) => {
      this.atUpstream = { gate, ticket };
      waiting.onIn();
    });
  }

  private stand(
    gate: MinuteGate,
    untilMs: number,
    waiting: Waiting,
    onTicket: (ticket: Ticket) => void,
  ): void {
    let isDecided = false;
    const leave = gate.enter(this.caller, this.tokens, untilMs, {
      onLetIn: (ticket) => {
        isDecided = true;
        this.leaveLine = () => {};
        onTicket(ticket);
      },
      onTurnedAway: (againMs) => {
        isDecided = true;
        this.leaveLine = () => {};
        waiting.onAway(againMs, gate);
      },
    });
    // It may have been let in within the call, and stand in the next line by now.
    if (!isDecided) this.leaveLine = leave;
  }

  /** The attempt at the upstream is over. @param usedTokens undefined for one that was never sent */
  endAttempt(usedTokens: number | undefined): void {
    if (this.atUpstream !== undefined) giveBack(this.atUpstream, usedTokens);
    this.atUpstream = undefined;
  }

  /** The exchange is over. @param usedTokens undefined where no attempt was made */
  end(usedTokens: number | undefined): void {
    this.leaveLine();
    for (const one of this.held) giveBack(one, usedTokens);
    this.held = [];
  }
}

function giveBack({ gate, ticket }: Held, usedTokens: number | undefined): void {
  if (usedTokens === undefined) gate.giveBack(ticket);
  else gate.settle(ticket, usedTokens);
}
