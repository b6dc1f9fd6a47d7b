/** Calls the agent with the request of a run, and takes in its answer, both within the memory of the bus. */
import { isUnaryPath } from '../../task/task-message.ts';
import type { TaskLease } from '../log/task-log.ts';
import { Room } from '../memory/room.ts';
import { withHead } from '../message/chunk-payload.ts';
import type { Fields } from '../message/payload.ts';
import { AnswerIntake, type IntakeFailure } from './answer-intake.ts';
import type { InnerCall, InnerEnd } from './inner-call.ts';
import type { RunContext } from './run-context.ts';
import { readRunRequest } from './run-request.ts';
import type { RunSteps } from './run-steps.ts';

/** How often a request is in memory at once until the agent has it: as it is stored, opened, and on its way. */
const REQUEST_COPIES = 3;

export interface AgentCallOptions {
  readonly context: RunContext;
  readonly lease: TaskLease;
  readonly steps: RunSteps;
  /** Ends waits for room: the run is over. */
  readonly over: AbortSignal;
  /** The edition of a run that must not get the answer of an earlier one; '' for others. */
  readonly edition: string;
  readonly runMs: number;
  /** The answer can't be taken in any further. */
  onStop(stop: IntakeFailure | { readonly failed: unknown }): void;
}

export class AgentCall {
  readonly path: string;
  readonly intake: AnswerIntake;
  private readonly call: InnerCall;
  private readonly room: Room;

  private constructor(options: AgentCallOptions, call: InnerCall, path: string) {
    this.path = path;
    this.call = call;
    this.room = roomIn('collected', options);
    this.intake = this.intakeOf(options);
  }

  /** The request is in memory until the call has sent it: afterwards nothing here has it any more. */
  static async begin(options: AgentCallOptions): Promise<AgentCall> {
    const { context, lease, steps, edition, runMs } = options;
    const { record, requestBytes } = lease;
    const room = roomIn('requests', options);
    try {
      await room.take(REQUEST_COPIES * requestBytes);
      const { path, scope, fields, message } = await readRunRequest(lease, context.sealer, steps);
      const caller = { identity: record.publisher, scope, edition: `${record.generation}${edition}` };
      const { agentType: authority } = record;
      const timeoutMs = Math.min(Math.max(1, record.deadlineAtMs - context.log.nowMs()), runMs);
      const call = context.calls.call(caller, { path, authority, fields, message, timeoutMs });
      void call.sent.then(() => room.give());
      return new AgentCall(options, call, path);
    } catch (error) {
      room.give();
      throw error;
    }
  }

  get ended(): Promise<InnerEnd> {
    return this.call.ended;
  }

  cancel(): void {
    this.call.cancel();
  }

  /** Nothing here has the answer any more. */
  release(): void {
    this.room.give();
  }

  private intakeOf({ context, lease, steps, onStop }: AgentCallOptions): AnswerIntake {
    const { wheel, clock, sealer, settings } = context;
    const { call, room } = this;
    let head: Fields = [];
    const intake = new AnswerIntake({
      isUnary: isUnaryPath(this.path),
      maxBytes: settings.maxAnswerBytes,
      wheel,
      clock,
      write: (count, messages) => {
        const payload = withHead(head, messages);
        head = [];
        return steps.store(() => lease.write(count, sealer.seal(payload)));
      },
      takeRoom: (bytes) => room.take(bytes),
      onRoom: () => call.resume(),
      onFailed: (error) => onStop({ failed: error }),
    });
    call.onHead = (fields) => {
      head = fields;
    };
    call.onEncoding = (encoding) => intake.readAs(encoding);
    call.onData = (chunk) => {
      const failure = intake.read(chunk);
      if (failure !== undefined) onStop(failure);
      else if (intake.isFull) call.pause();
    };
    return intake;
  }
}

function roomIn(part: 'requests' | 'collected', { context, lease, over }: AgentCallOptions): Room {
  return new Room(context.memory[part], {
    caller: `for ${lease.record.agentType}`,
    signal: over,
    timeLeftMs: () => Number.POSITIVE_INFINITY,
    isPatient: true,
  });
}
