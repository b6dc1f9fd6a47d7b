/** `externalscaler.ExternalScaler` for KEDA: checks requests, and gives errors the status that KEDA takes for "not known". */
import { LogSetupError, LogUnavailableError } from '../../bus/log/log-errors.ts';
import { Status, type StatusName } from '../../grpc/status.ts';
import type { MessageHead } from '../../http2/head.ts';
import type { HeaderList } from '../../http2/hpack/header-list.ts';
import type { Stream } from '../../http2/streams.ts';
import type { CallAcceptor } from '../../listeners/grpc-listener.ts';
import { LocalCall } from '../../listeners/tasks/local-call.ts';
import { KubernetesError } from '../api/api-call.ts';
import { Activity, type ActivitySource } from './activity.ts';
import type { Answers } from './answers.ts';
import { FleetError } from './fleet.ts';
import { readMetricsRequest, readRef, type ScaledObjectRef, writeActive, writeMetric } from './messages.ts';
import { readTrigger, type Trigger, TriggerError } from './trigger.ts';

const METHODS = ['IsActive', 'StreamIsActive', 'GetMetricSpec', 'GetMetrics'] as const;
export type ScalerMethod = (typeof METHODS)[number];

export interface ScalerServiceOptions {
  readonly answers: Answers;
  readonly namespaces: readonly string[];
  /** How a stream of this trigger learns of work. */
  readonly activityOf: (trigger: Trigger) => ActivitySource;
  readonly onAnswer: (method: ScalerMethod, status: StatusName, details: string) => void;
  /** Replicas of this trigger are held. */
  readonly onHeld: (ref: ScaledObjectRef) => void;
  readonly onDefect: (error: unknown) => void;
}

const SERVICE = '/externalscaler.ExternalScaler/';
/** A trigger's metadata are a few hundred bytes. */
const MAX_MESSAGE_BYTES = 65_536;
/** A stream for each push trigger, and a few that have lost their connection unnoticed; and questions that wait for the bus. */
const MAX_CALLS = 1_024;

export class ScalerService implements CallAcceptor {
  private readonly options: ScalerServiceOptions;
  private readonly calls = new Set<LocalCall>();
  private readonly streams = new Set<Activity>();

  constructor(options: ScalerServiceOptions) {
    this.options = options;
  }

  acceptRequest(stream: Stream, list: HeaderList, head: MessageHead, endStream: boolean): void {
    const name = head.path.startsWith(SERVICE) ? head.path.slice(SERVICE.length) : '';
    const method = METHODS.find((each) => each === name);
    const call = new LocalCall(stream, list, MAX_MESSAGE_BYTES, (complete) => {
      if (method === undefined) {
        const message = `this is KEDA's scaler: it serves ${METHODS.join(', ')} of externalscaler.ExternalScaler`;
        complete.fail({ status: Status.UNIMPLEMENTED, message, reason: 'no_route' });
      } else void this.serve(complete, method);
    });
    stream.handler = call;
    if (endStream) call.onComplete();
  }

  /** A task may be news to the streams. */
  lookAll(): void {
    for (const stream of this.streams) stream.look();
  }

  /** Ends the streams, so that KEDA opens them at the next replica. */
  close(): void {
    for (const stream of this.streams) stream.stop();
    for (const call of this.calls)
      call.fail({ status: Status.UNAVAILABLE, message: 'the scaler stops', reason: 'draining' });
  }

  private async serve(call: LocalCall, method: ScalerMethod): Promise<void> {
    const message = call.readMessage();
    if (message === undefined) return;
    if (this.calls.size >= MAX_CALLS) {
      const details = `${MAX_CALLS} calls are open already; close some`;
      this.options.onAnswer(method, 'RESOURCE_EXHAUSTED', details);
      call.fail({ status: Status.RESOURCE_EXHAUSTED, message: details, reason: 'overloaded' });
      return;
    }
    this.calls.add(call);
    call.gone.addEventListener('abort', () => this.calls.delete(call), { once: true });
    try {
      if (method === 'StreamIsActive') {
        this.stream(call, this.triggerOf(readRef(message)));
        this.options.onAnswer(method, 'OK', '');
        return;
      }
      const answer = await this.answer(method, message);
      this.options.onAnswer(method, 'OK', '');
      await call.send(answer);
      call.finish();
    } catch (error) {
      this.fail(call, method, error);
    }
  }

  private async answer(method: ScalerMethod, message: Buffer): Promise<Buffer> {
    const { answers, onHeld } = this.options;
    if (method === 'GetMetrics') {
      const request = readMetricsRequest(message);
      const trigger = this.triggerOf(request?.ref);
      const { metricName, ref } = request!;
      if (metricName !== '' && metricName !== trigger.metricName)
        throw new TriggerError(
          `this trigger has no metric ${JSON.stringify(metricName.slice(0, 64))}; it has ${trigger.metricName}`,
        );
      const { value, isHeld } = await answers.value(trigger);
      // KEDA would take it for a number of replicas.
      if (!Number.isFinite(value) || value < 0) throw new FleetError('the metric is no number; ask again');
      if (isHeld) onHeld(ref);
      return writeMetric(trigger.metricName, value);
    }
    const trigger = this.triggerOf(readRef(message));
    if (method === 'IsActive') return writeActive(await answers.isActive(trigger));
    return writeMetric(trigger.metricName, trigger.target);
  }

  private stream(call: LocalCall, trigger: Trigger): void {
    let sent = Promise.resolve();
    const activity = new Activity(this.options.activityOf(trigger), (active) => {
      sent = sent.then(() => call.send(writeActive(active)));
    });
    this.streams.add(activity);
    const end = (): void => {
      activity.stop();
      this.streams.delete(activity);
    };
    if (call.gone.aborted) end();
    else call.gone.addEventListener('abort', end, { once: true });
  }

  private fail(call: LocalCall, method: ScalerMethod, error: unknown): void {
    const name = statusNameOf(error);
    const isOurs = name === 'INTERNAL';
    if (isOurs) this.options.onDefect(error);
    const message = isOurs ? 'the scaler failed; its log says how' : (error as Error).message;
    this.options.onAnswer(method, name, message);
    const reason =
      name === 'INVALID_ARGUMENT' ? 'bad_request' : isOurs ? 'upstream_protocol' : 'bus_unavailable';
    call.fail({ status: Status[name], message, reason });
  }

  private triggerOf(ref: ScaledObjectRef | undefined): Trigger {
    if (ref === undefined) throw new TriggerError('the message is malformed, or has too many keys');
    return readTrigger(ref, this.options.namespaces);
  }
}

function statusNameOf(error: unknown): StatusName {
  if (error instanceof TriggerError) return 'INVALID_ARGUMENT';
  if (error instanceof LogSetupError) return 'FAILED_PRECONDITION';
  const isUnknown =
    error instanceof LogUnavailableError || error instanceof FleetError || error instanceof KubernetesError;
  return isUnknown ? 'UNAVAILABLE' : 'INTERNAL';
}
