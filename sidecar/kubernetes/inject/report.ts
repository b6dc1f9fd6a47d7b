/** The report of an injection, for people and for programs. */
import type { NoteKind } from './notes.ts';
import { shown } from './notes.ts';
import type { WorkloadReport } from './workloads.ts';

/** One workload in the report's JSON. */
export interface ReportedWorkload {
  readonly kind: string;
  readonly name: string;
  /** Null where the manifest names none. */
  readonly namespace: string | null;
  readonly outcome: 'injected' | 'unchanged' | 'refused';
  readonly did: readonly string[];
  /** What stays as it was, with the reason. */
  readonly left: readonly string[];
  /** What may be wrong for this app, with what to do. */
  readonly doubts: readonly string[];
  /** Why a workload was refused. */
  readonly problems: readonly string[];
}

export interface Report {
  readonly workloads: readonly ReportedWorkload[];
}

export function reportOf(reports: readonly WorkloadReport[]): Report {
  return { workloads: reports.map(reported) };
}

function reported({ kind, name, namespace, injection }: WorkloadReport): ReportedWorkload {
  const notes = 'notes' in injection ? injection.notes : [];
  const texts = (wanted: NoteKind): string[] => [
    ...new Set(notes.filter((note) => note.kind === wanted).map(({ text }) => text)),
  ];
  return {
    kind: shown(kind),
    name: shown(name),
    namespace: namespace === undefined ? null : shown(namespace),
    outcome: injection.outcome === 'untouched' ? 'unchanged' : injection.outcome,
    did: texts('did'),
    left: injection.outcome === 'untouched' ? [injection.because, ...texts('left')] : texts('left'),
    doubts: texts('doubt'),
    problems: injection.outcome === 'refused' ? injection.problems : [],
  };
}

/**
 * The report as text:
 *
 *     Deployment agents/writer: injected
 *       did    the sidecar serves port 50051 (grpc) at 15006: …
 *       doubt  the Service writer sends its port grpc to the number 50051, past the sidecar; …
 *     1 injected, 0 unchanged, 0 refused; 1 doubt
 */
export function reportText({ workloads }: Report): string {
  if (workloads.length === 0) return 'found no workload; the output is the unchanged input';
  const lines = workloads.flatMap((workload) => [
    `${title(workload)}: ${workload.outcome}`,
    ...section('refused', workload.problems),
    ...section('did', workload.did),
    ...section('left', workload.left),
    ...section('doubt', workload.doubts),
  ]);
  const count = (outcome: ReportedWorkload['outcome']): number =>
    workloads.filter((workload) => workload.outcome === outcome).length;
  const doubts = workloads.reduce((sum, workload) => sum + workload.doubts.length, 0);
  const sum = `${count('injected')} injected, ${count('unchanged')} unchanged, ${count('refused')} refused; ${doubts} ${doubts === 1 ? 'doubt' : 'doubts'}`;
  return [...lines, sum].join('\n');
}

/** `Deployment agents/writer`. */
export function title({
  kind,
  name,
  namespace,
}: Pick<ReportedWorkload, 'kind' | 'name' | 'namespace'>): string {
  return `${kind} ${namespace === null ? '' : `${namespace}/`}${name}`;
}

function section(word: string, texts: readonly string[]): string[] {
  return texts.map((text) => `  ${word.padEnd(7)}${text}`);
}
