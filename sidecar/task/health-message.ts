/** Reads and writes the messages of `grpc.health.v1` and of the agents' own HealthCheck. */
import { bytesField, FieldReader, stringField, varintField, WireType } from './protobuf.ts';

/** `grpc.health.v1.HealthCheckResponse.ServingStatus`. */
export const ServingStatus = { UNKNOWN: 0, SERVING: 1, NOT_SERVING: 2, SERVICE_UNKNOWN: 3 } as const;
export type ServingStatus = (typeof ServingStatus)[keyof typeof ServingStatus];

/** Puts the five-byte prefix of gRPC before a message. */
export function frameMessage(message: Buffer): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

/** Reads `service` (1) of a HealthCheckRequest. */
export function readHealthService(buffer: Buffer, start: number, end: number): string {
  const reader = new FieldReader(buffer, start, end);
  let service = '';
  while (reader.next()) if (reader.field === 1 && reader.wireType === WireType.BYTES) service = reader.text();
  return service;
}

export function writeHealthRequest(service: string): Buffer {
  return frameMessage(service === '' ? Buffer.alloc(0) : stringField(1, service));
}

export function writeServingStatus(status: ServingStatus): Buffer {
  return frameMessage(varintField(1, status));
}

export function readServingStatus(buffer: Buffer, start: number, end: number): ServingStatus {
  const reader = new FieldReader(buffer, start, end);
  let status = 0;
  while (reader.next()) if (reader.field === 1 && reader.wireType === WireType.VARINT) status = reader.varint;
  return (status <= 3 ? status : 0) as ServingStatus;
}

/** Reads `HealthListResponse.statuses` (1), a map from service to HealthCheckResponse. Undefined when it is malformed. */
export function readHealthList(
  buffer: Buffer,
  start: number,
  end: number,
): Map<string, ServingStatus> | undefined {
  const statuses = new Map<string, ServingStatus>();
  const reader = new FieldReader(buffer, start, end);
  while (reader.next()) {
    if (reader.field !== 1 || reader.wireType !== WireType.BYTES) continue;
    const entry = new FieldReader(buffer, reader.valueStart, reader.valueEnd);
    let service = '';
    let status: ServingStatus = ServingStatus.UNKNOWN;
    while (entry.next()) {
      if (entry.wireType !== WireType.BYTES) continue;
      if (entry.field === 1) service = entry.text();
      else if (entry.field === 2) status = readServingStatus(buffer, entry.valueStart, entry.valueEnd);
    }
    if (entry.malformed) return undefined;
    statuses.set(service, status);
  }
  return reader.malformed ? undefined : statuses;
}

export function writeHealthList(statuses: ReadonlyMap<string, ServingStatus>): Buffer {
  const entries = Array.from(statuses, ([service, status]) =>
    bytesField(1, Buffer.concat([stringField(1, service), bytesField(2, varintField(1, status))])),
  );
  return frameMessage(Buffer.concat(entries));
}

export interface AgentHealth {
  readonly healthy: boolean;
  readonly agentName: string;
  readonly version: string;
  readonly checks: Readonly<Record<string, string>>;
}

/** Reads `healthy` (1) of an `agent.HealthResponse`. */
export function readAgentHealthy(buffer: Buffer, start: number, end: number): boolean {
  const reader = new FieldReader(buffer, start, end);
  let healthy = false;
  while (reader.next())
    if (reader.field === 1 && reader.wireType === WireType.VARINT) healthy = reader.varint !== 0;
  return healthy;
}

/** Writes an `agent.HealthResponse`. */
export function writeAgentHealth(health: AgentHealth): Buffer {
  const fields = [
    varintField(1, health.healthy ? 1 : 0),
    stringField(2, health.agentName),
    stringField(3, health.version),
  ];
  for (const [key, value] of Object.entries(health.checks)) {
    fields.push(bytesField(4, Buffer.concat([stringField(1, key), stringField(2, value)])));
  }
  return frameMessage(Buffer.concat(fields));
}
