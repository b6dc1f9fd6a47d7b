/**
 * Writes metrics as Prometheus' protobuf (io.prometheus.client, metrics.proto of prometheus/client_model), the format
 * that carries native histograms. A length precedes each family; fields of a message may come in any order.
 */

import { NATIVE_FIRST, NATIVE_LAST, NATIVE_SCHEMA, NATIVE_ZERO_SECONDS } from '../../telemetry/durations.ts';
import { ProtobufWriter, utf8Length, varintLength } from '../../telemetry/protobuf-writer.ts';
import { exemplarOf } from './duration-histogram.ts';
import type { HistogramSample, Labels, Sample, SampledMetric } from './sampled-metric.ts';

/** MetricType, the type of a family. */
const TYPES = { counter: 0, gauge: 1, histogram: 4 } as const;
/** The field of Metric that holds the value, by type. In a counter and a gauge, the value is field 1. */
const VALUE_FIELDS = { counter: 3, gauge: 2, histogram: 7 } as const;

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
/** A tag, a length, and a number. */
const SMALL_FIELD_BYTES = 24;
/** We write a gap of up to this many empty native buckets as zeros: a new span costs more. */
const MAX_GAP = 2;

export class ProtobufPage {
  private readonly writer = new ProtobufWriter(16_384);

  /** One family. @param pieces the results of `metrics` */
  family({ name, help, type }: SampledMetric, pieces: readonly Buffer[]): Buffer[] {
    const { writer } = this;
    writer.at = 0;
    this.text(1, name);
    this.text(2, help);
    this.number(3, TYPES[type]);
    const head = this.taken();
    const bytes = pieces.reduce((sum, piece) => sum + piece.length, head.length);
    const length = Buffer.alloc(varintLength(bytes));
    for (let i = 0, rest = bytes; i < length.length; i++, rest >>>= 7)
      length[i] = (rest & 0x7f) | (i < length.length - 1 ? 0x80 : 0);
    return [length, head, ...pieces];
  }

  /** Some of a family's metrics. */
  metrics(type: SampledMetric['type'], samples: readonly Sample[]): Buffer {
    this.writer.at = 0;
    for (const sample of samples) {
      const metric = this.begin(4);
      this.labels(sample.labels);
      const value = this.begin(VALUE_FIELDS[type]);
      if (sample.histogram === undefined) this.double(1, sample.value);
      else this.histogram(sample.value, sample.histogram);
      this.writer.endMessage(value);
      this.writer.endMessage(metric);
    }
    return this.taken();
  }

  private taken(): Buffer {
    return Buffer.from(this.writer.buffer.subarray(0, this.writer.at));
  }

  private labels(labels: Labels): void {
    for (const [name, value] of Object.entries(labels)) {
      const label = this.begin(1);
      this.text(1, name);
      this.text(2, String(value));
      this.writer.endMessage(label);
    }
  }

  private histogram(count: number, { layout, totals, owners }: HistogramSample): void {
    const { writer } = this;
    this.number(1, count);
    this.double(2, totals[layout.sum]!);
    let below = 0;
    // The count stands for the last bucket, +Inf.
    for (let i = 0; i < layout.bounds.length; i++) {
      below += totals[i]!;
      const bucket = this.begin(3);
      this.number(1, below);
      this.double(2, layout.bounds[i]!);
      this.exemplar(exemplarOf(owners, i));
      writer.endMessage(bucket);
    }
    const above = exemplarOf(owners, layout.bounds.length);
    if (above !== undefined) {
      const bucket = this.begin(3);
      this.number(1, count);
      this.double(2, Number.POSITIVE_INFINITY);
      this.exemplar(above);
      writer.endMessage(bucket);
    }
    this.number(5, zigzag(NATIVE_SCHEMA));
    this.double(6, NATIVE_ZERO_SECONDS);
    this.number(7, totals[layout.zeros]!);
    this.native(totals, layout.native);
  }

  /**
   * Writes spans of buckets, each with its distance from the span before, and each bucket's count as the difference
   * from the bucket before.
   */
  private native(totals: Float64Array, zeroAt: number): void {
    const deltas: number[] = [];
    let before = 0;
    let end = 0;
    for (let first = NATIVE_FIRST; first <= NATIVE_LAST; first++) {
      if (totals[zeroAt + first] === 0) continue;
      let last = first;
      for (let next = first + 1; next <= NATIVE_LAST && next - last <= MAX_GAP + 1; next++)
        if (totals[zeroAt + next]! > 0) last = next;
      this.span(first - end, last - first + 1);
      for (let i = first; i <= last; i++) {
        deltas.push(totals[zeroAt + i]! - before);
        before = totals[zeroAt + i]!;
      }
      end = last + 1;
      first = last;
    }
    // Without a span some readers take the histogram for a classic one.
    if (deltas.length === 0) this.span(0, 0);
    const packed = this.begin(13);
    this.writer.reserve(deltas.length * 10);
    for (const delta of deltas) this.writer.varint(zigzag(delta));
    this.writer.endMessage(packed);
  }

  private span(offset: number, length: number): void {
    const span = this.begin(12);
    this.number(1, zigzag(offset));
    this.number(2, length);
    this.writer.endMessage(span);
  }

  private exemplar(exemplar: Sample['exemplar']): void {
    if (exemplar === undefined) return;
    const message = this.begin(3);
    this.labels(exemplar.labelSet);
    this.double(2, exemplar.value);
    const timestamp = this.begin(3);
    const seconds = Math.floor(exemplar.timestamp);
    this.number(1, seconds);
    this.number(2, Math.floor((exemplar.timestamp - seconds) * 1e9));
    this.writer.endMessage(timestamp);
    this.writer.endMessage(message);
  }

  private begin(field: number): number {
    this.writer.reserve(SMALL_FIELD_BYTES);
    this.writer.byte((field << 3) | BYTES);
    return this.writer.beginMessage();
  }

  private text(field: number, text: string): void {
    const bytes = utf8Length(text);
    this.writer.reserve(bytes + SMALL_FIELD_BYTES);
    this.writer.byte((field << 3) | BYTES);
    this.writer.text(text, bytes);
  }

  private number(field: number, value: number): void {
    this.writer.reserve(SMALL_FIELD_BYTES);
    this.writer.byte((field << 3) | VARINT);
    this.writer.varint(value);
  }

  private double(field: number, value: number): void {
    this.writer.reserve(SMALL_FIELD_BYTES);
    this.writer.byte((field << 3) | FIXED64);
    this.writer.double(value);
  }
}

/** ZigZag encoding of a signed number (protobuf.dev, "Signed Integers"). */
function zigzag(value: number): number {
  return value < 0 ? -value * 2 - 1 : value * 2;
}
