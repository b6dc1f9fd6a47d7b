/** Sends tasks and what happens to them to their callers: a large answer in pieces, as fast as its caller takes them. */
import type { TaskRecord } from '../../bus/log/task-record.ts';
import { Room } from '../../bus/memory/room.ts';
import { type OpenAnswer, withAnswer } from '../../bus/message/answer-reader.ts';
import type { Publishing } from '../../bus/publisher/publishing.ts';
import type { LocalCall } from './local-call.ts';
import type { RunnerNames } from './runner-names.ts';
import {
  type MessageStart,
  writeChunkEvent,
  writeEndEvent,
  writeEndedTask,
  writeRunEvent,
  writeStateEvent,
} from './task-messages.ts';
import type { Told } from './task-story.ts';

/** `without_large_answer` leaves out what is larger. */
const LARGE_ANSWER_BYTES = 65_536;

/** What of the bus it reads answers from. */
type AnswerBus = Pick<Publishing, 'log' | 'sealer' | 'memory'>;

export class TaskAnswers {
  private readonly runners: RunnerNames;

  constructor(runners: RunnerNames) {
    this.runners = runners;
  }

  async sendTask(call: LocalCall, record: TaskRecord, bus: AnswerBus, withoutLarge: boolean): Promise<void> {
    const runner = await this.runners.of(record, bus.log);
    await this.sendAnswered(call, record, bus, withoutLarge, (answer) =>
      writeEndedTask(record, runner, answer),
    );
  }

  async sendTold(call: LocalCall, told: Told, bus: AnswerBus, withoutLarge: boolean): Promise<void> {
    switch (told.kind) {
      case 'state':
        return call.send(writeStateEvent(told.record, await this.runners.of(told.record, bus.log)));
      case 'run':
        return call.send(writeRunEvent(told.run, told.afterSequence));
      case 'chunk':
        return call.sendBoth(writeChunkEvent(told.sequence, told.run, told.message.length), told.message);
      case 'end':
        return this.sendAnswered(call, told.record, bus, withoutLarge, (answer) =>
          writeEndEvent(told.record, answer),
        );
    }
  }

  /** Sends a message that ends with the task's answer: a piece when the caller has taken the one before. */
  private sendAnswered(
    call: LocalCall,
    record: TaskRecord,
    bus: AnswerBus,
    withoutLarge: boolean,
    write: (answer: OpenAnswer | undefined) => MessageStart,
  ): Promise<void> {
    return withAnswer(bus, record, roomOf(call, record, bus), async (answer) => {
      const isLeftOut = withoutLarge && (answer?.bytes ?? 0) > LARGE_ANSWER_BYTES;
      const { start, follow } = write(isLeftOut ? { ...answer!, bytes: undefined } : answer);
      await call.sendStart(start, follow);
      if (follow === 0) return;
      for await (const piece of answer!.pieces) {
        if (call.gone.aborted) return;
        await call.sendBytes(piece);
      }
    });
  }
}

/** The caller's room for what it reads: it waits for it within its deadline. */
export function roomOf(call: LocalCall, { caller }: TaskRecord, { memory }: AnswerBus): Room {
  return new Room(memory.answers, { caller, signal: call.gone, timeLeftMs: () => call.timeLeftMs });
}
