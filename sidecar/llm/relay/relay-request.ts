/** Describes the request that one attempt sends to a provider. */
import type { Agent } from 'node:http';
import type { Body } from '../shared/body.ts';
import type { HttpHeaders } from '../shared/headers.ts';

export interface RelayRequest {
  readonly method: string;
  readonly protocol: 'http:' | 'https:';
  readonly hostname: string;
  readonly port: number;
  /** The path with its query. */
  readonly path: string;
  readonly agent: Agent;
  /** Without hop-by-hop fields. */
  readonly headers: HttpHeaders;
  readonly body: Body;
}
