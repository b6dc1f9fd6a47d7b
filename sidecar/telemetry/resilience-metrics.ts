import type { Sample, SampledMetric } from './sampled-metric.ts';

/** A circuit, as it is now. */
export interface MeasuredCircuit {
  readonly cluster: string;
  /** The path; '' for the methods that share a circuit. */
  readonly method: string;
  /** 0 closed, 1 half-open, 2 open. */
  readonly state: number;
  /** Calls it has turned away, ever. */
  readonly rejections: number;
}

/** A cluster's outlier detection, as it is now. */
export interface MeasuredOutliers {
  readonly name: string;
  readonly outliers: {
    /** Ejections ever, by reason. */
    readonly ejections: ReadonlyMap<string, number>;
    readonly detector: {
      readonly endpoints: Iterable<{ readonly ejected: boolean; readonly reason: string | undefined }>;
    };
  };
}

export interface ResilienceSource {
  readonly circuits: () => Iterable<MeasuredCircuit>;
  readonly clusters: () => Iterable<MeasuredOutliers>;
}

type AddMetric = (type: SampledMetric['type'], name: string, help: string, read: () => Sample[]) => void;

const OTHER_METHODS = '_OTHER';

/** What the breakers and the outlier detectors say of themselves. */
export function addResilience(add: AddMetric, { circuits, clusters }: ResilienceSource): void {
  add('gauge', 'outrigger_circuit_state', 'Circuits: 0 closed, 1 half-open, 2 open.', () =>
    Array.from(circuits(), (circuit) => ({ labels: labelsOf(circuit), value: circuit.state })),
  );
  add('counter', 'outrigger_circuit_rejections_total', 'Calls that a circuit turned away.', () =>
    Array.from(circuits(), (circuit) => ({ labels: labelsOf(circuit), value: circuit.rejections })),
  );
  add('counter', 'outrigger_ejections_total', 'Endpoints taken out of service, by reason.', () => {
    const samples: Sample[] = [];
    for (const { name, outliers } of clusters())
      for (const [reason, value] of outliers.ejections)
        samples.push({ labels: { cluster: name, reason }, value });
    return samples;
  });
  add('gauge', 'outrigger_endpoints_ejected', 'Endpoints that are out of service now, by reason.', () => {
    const samples: Sample[] = [];
    for (const { name, outliers } of clusters()) {
      // A reason that was seen stays as 0, so that an alert on it can end.
      const counts = new Map<string, number>(Array.from(outliers.ejections.keys(), (reason) => [reason, 0]));
      for (const { ejected, reason } of outliers.detector.endpoints)
        if (ejected && reason !== undefined) counts.set(reason, (counts.get(reason) ?? 0) + 1);
      for (const [reason, value] of counts) samples.push({ labels: { cluster: name, reason }, value });
    }
    return samples;
  });
}

function labelsOf({ cluster, method }: MeasuredCircuit) {
  return { cluster, method: method === '' ? OTHER_METHODS : method.replace(/^\//, '') };
}
