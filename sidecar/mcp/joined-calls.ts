/** The further requests for the same call, which wait for its one answer. */
import type { Reply } from '../llm/caller/reply.ts';
import { sendJson } from './answers.ts';
import type { Id, JsonObject } from './message/json-rpc.ts';

export class JoinedCalls {
  private readonly waiting: { readonly reply: Reply; readonly id: Id }[] = [];

  add(reply: Reply, id: Id): void {
    this.waiting.push({ reply, id });
  }

  /** Somebody still waits. */
  get isWanted(): boolean {
    return this.waiting.some(({ reply }) => !reply.gone);
  }

  /** @param answer of the call; undefined where it has none */
  answer(answer: JsonObject | undefined): void {
    for (const { reply, id } of this.waiting) {
      if (answer === undefined) reply.breakOff(undefined);
      else sendJson(reply, 200, { ...answer, id }, { 'outrigger-journal': 'joined' });
    }
  }
}
