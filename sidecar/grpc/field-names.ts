/** Names the header fields of gRPC whose values change with each call, for the HPACK encoder. */
import { knownNamesWith } from '../http2/hpack/field-treatment.ts';

export const GRPC_FIELD_NAMES = knownNamesWith([
  'grpc-message',
  'grpc-previous-rpc-attempts',
  'grpc-retry-pushback-ms',
  'grpc-status-details-bin',
  'grpc-timeout',
  'grpc-trace-bin',
]);
