/** `externalscaler.ExternalScaler` for KEDA: checks requests, and gives errors the status that KEDA takes for "not known". */
import {
  type handleUnaryCall,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type sendUnaryData,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { LogSetupError, LogUnavailableError } from '../../bus/log/log-errors.ts';
import { KubernetesError } from '../api/api-call.ts';
import { Activity, type ActivitySource } from './activity.ts';
import type { Answers } from './answers.ts';
import { FleetError } from './fleet.ts';
import { readMetricsRequest, readRef, type ScaledObjectRef, writeActive, writeMetric } from './messages.ts';
import { readTrigger, type Trigger, TriggerError } from './trigger.ts';

export type ScalerMethod = 'IsActive' | 'StreamIsActive' | 'GetMetricSpec' | 'GetMetrics';

export interface ScalerServiceOptions {
  readonly answers: Answers;
  readonly namespaces: readonly string[];
  /** How a stream of this trigger learns of work. */
  readonly activityOf: (trigger: Trigger) => ActivitySource;
  readonly onAnswer: (method: ScalerMethod, code: keyof typeof status, details: string) => void;
  /** Replicas of this trigger are held. */
  readonly onHeld: (ref: ScaledObjectRef) => void;
  readonly onDefect: (error: unknown) => void;
}

/** One for each push trigger, and a few that have lost their connection unnoticed. */
const MAX_STREAMS = 1_024;

class BadRequest extends TriggerError {}

export class ScalerService {
  private readonly options: ScalerServiceOptions;
  private readonly streams = new Set<Activity>();

  constructor(options: ScalerServiceOptions) {
    this.options = options;
  }

  get handlers(): UntypedServiceImplementation {
    const { answers } = this.options;
    return {
      IsActive: this.unary('IsActive', async (message) =>
        writeActive(await answers.isActive(this.triggerOf(readRef(message)))),
      ),
      GetMetricSpec: this.unary('GetMetricSpec', async (message) => {
        const { metricName, target } = this.triggerOf(readRef(message));
        return writeMetric(metricName, target);
      }),
      GetMetrics: this.unary('GetMetrics', (message) => this.metrics(message)),
      StreamIsActive: (call: ServerWritableStream<Buffer, Buffer>) => this.stream(call),
    };
  }

  /** Streams of which a task may be news. */
  lookAll(): void {
    for (const stream of this.streams) stream.look();
  }

  close(): void {
    for (const stream of this.streams) stream.stop();
    this.streams.clear();
  }

  private async metrics(message: Buffer): Promise<Buffer> {
    const request = readMetricsRequest(message);
    const trigger = this.triggerOf(request?.ref);
    const { metricName } = request!;
    if (metricName !== '' && metricName !== trigger.metricName)
      throw new BadRequest(
        `this trigger has no metric ${JSON.stringify(metricName.slice(0, 64))}; it has ${trigger.metricName}`,
      );
    const { value, isHeld } = await this.options.answers.value(trigger);
    if (isHeld) this.options.onHeld(request!.ref);
    return writeMetric(trigger.metricName, value);
  }

  private stream(call: ServerWritableStream<Buffer, Buffer>): void {
    let trigger: Trigger;
    try {
      trigger = this.triggerOf(readRef(call.request));
    } catch (error) {
      call.emit('error', this.failure('StreamIsActive', error));
      return;
    }
    if (this.streams.size >= MAX_STREAMS) {
      const details = `${MAX_STREAMS} streams are open already; close some`;
      this.options.onAnswer('StreamIsActive', 'RESOURCE_EXHAUSTED', details);
      call.emit('error', { code: status.RESOURCE_EXHAUSTED, details });
      return;
    }
    this.options.onAnswer('StreamIsActive', 'OK', '');
    const activity = new Activity(this.options.activityOf(trigger), (active) => {
      call.write(writeActive(active));
    });
    this.streams.add(activity);
    const end = (): void => {
      activity.stop();
      this.streams.delete(activity);
    };
    call.once('cancelled', end);
    call.once('close', end);
    call.on('error', end);
  }

  private unary(
    method: ScalerMethod,
    answer: (message: Buffer) => Promise<Buffer>,
  ): handleUnaryCall<Buffer, Buffer> {
    return (call: ServerUnaryCall<Buffer, Buffer>, callback: sendUnaryData<Buffer>) => {
      answer(call.request).then(
        (message) => {
          this.options.onAnswer(method, 'OK', '');
          callback(null, message);
        },
        (error: unknown) => callback(this.failure(method, error)),
      );
    };
  }

  private failure(method: ScalerMethod, error: unknown): { code: status; details: string } {
    const code = codeOf(error);
    const isOurs = code === 'INTERNAL';
    if (isOurs) this.options.onDefect(error);
    const details = isOurs ? 'the scaler failed; its log says how' : (error as Error).message;
    this.options.onAnswer(method, code, details);
    return { code: status[code], details };
  }

  private triggerOf(ref: ScaledObjectRef | undefined): Trigger {
    if (ref === undefined) throw new BadRequest('the message is malformed, or has too many keys');
    return readTrigger(ref, this.options.namespaces);
  }
}

function codeOf(error: unknown): keyof typeof status {
  if (error instanceof TriggerError) return 'INVALID_ARGUMENT';
  if (error instanceof LogSetupError) return 'FAILED_PRECONDITION';
  const isUnknown =
    error instanceof LogUnavailableError || error instanceof FleetError || error instanceof KubernetesError;
  return isUnknown ? 'UNAVAILABLE' : 'INTERNAL';
}

const asIs = (message: Buffer): Buffer => message;

function method(name: ScalerMethod, responseStream: boolean): ServiceDefinition[string] {
  return {
    path: `/externalscaler.ExternalScaler/${name}`,
    requestStream: false,
    responseStream,
    requestSerialize: asIs,
    requestDeserialize: asIs,
    responseSerialize: asIs,
    responseDeserialize: asIs,
  };
}

/** Messages are read and written by `messages.ts`. */
export const SCALER_SERVICE: ServiceDefinition = {
  IsActive: method('IsActive', false),
  StreamIsActive: method('StreamIsActive', true),
  GetMetricSpec: method('GetMetricSpec', false),
  GetMetrics: method('GetMetrics', false),
};
