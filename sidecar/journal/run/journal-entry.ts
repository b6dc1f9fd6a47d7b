/** The journal's view of one request: what the request's exchange may ask and tell. */
import type { Answer } from '../record/record.ts';
import type { Asked } from './run-context.ts';

/** What an entry needs of the journal of its run. */
interface Journal {
  find(asked: Asked, place: string): Promise<Answer | undefined>;
  keep(asked: Asked, place: string, answer: Answer): Promise<boolean>;
  noteLate(): void;
  giveBack(digest: string, place: number): void;
}

/** One request of a run. */
export class JournalEntry {
  private readonly journal: Journal;
  private readonly asked: Asked;
  private readonly digest: string;
  private readonly number: number;

  constructor(journal: Journal, asked: Asked, digest: string, number: number) {
    this.journal = journal;
    this.asked = asked;
    this.digest = digest;
    this.number = number;
  }

  /** Its name among all requests of the task. */
  get place(): string {
    return `${this.digest}.${this.number}`;
  }

  /** The answer that was paid for; undefined without one. Never rejects. */
  find(): Promise<Answer | undefined> {
    return this.journal.find(this.asked, this.place);
  }

  /** Keeps a whole, valid answer. Resolves with whether it is stored; never rejects. */
  keep(answer: Answer): Promise<boolean> {
    return this.journal.keep(this.asked, this.place, answer);
  }

  /** The agent gets the end of the answer before it is stored. */
  late(): void {
    this.journal.noteLate();
  }

  /** The agent has not received a whole answer: it asks the same question when it asks again. */
  notDelivered(): void {
    this.journal.giveBack(this.digest, this.number);
  }
}
