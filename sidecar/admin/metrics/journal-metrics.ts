/** Metrics of the journal. Without `journal.store` they have no series. */
import type { Journal } from '../../journal/journal.ts';
import type { AddMetric } from './sampled-metric.ts';

/** The numbers of the journal. */
export type MeasuredJournal = Pick<Journal, 'isOn' | 'connected' | 'stats'>;

const OUTCOMES = ['stored', 'replayed', 'missed', 'unstored', 'late'] as const;

export function addJournal(add: AddMetric, journal: MeasuredJournal): void {
  add('gauge', 'outrigger_journal_connected', 'Whether the store of the journal can be used: 1 or 0.', () =>
    journal.isOn ? [{ labels: {}, value: journal.connected ? 1 : 0 }] : [],
  );
  add(
    'counter',
    'outrigger_journal_total',
    'Answers of models that the journal kept, gave to a later run, or did not have for it.',
    () =>
      journal.isOn ? OUTCOMES.map((outcome) => ({ labels: { outcome }, value: journal.stats[outcome] })) : [],
  );
}
