// As fast as it goes: small tasks at three shapes of concurrency, with new header values in each call, large messages, chunks.
import type { Section } from '../measuring/procedure.ts';
import { chunk, paths } from '../traffic/answers.ts';

const MIB = 1 << 20;
/** Of one stream: long enough that its beginning and its end don't matter. */
const CHUNKS = 2_000;

const everyone = [
  'direct',
  'envoy',
  'haproxy',
  'nginx',
  'node:http2',
  'grpc-js',
  'outrigger inbound',
  'outrigger outbound',
] as const;
/** A short run has one row of them. */
const ownPeers: readonly string[] = ['node:http2', 'grpc-js'];
const withoutNode = everyone.filter((name) => !ownPeers.includes(name));
const main = ['direct', 'envoy', 'haproxy', 'outrigger inbound', 'outrigger outbound'] as const;

export const calls: Section = {
  name: 'calls',
  title: 'Unary calls',
  about: 'A closed loop at full speed: 4 connections with 25 streams each, 64 with one, 10 with 100.',
  targets: everyone,
  measures: {
    wide: { title: 'calls/s, 4 x 25', better: 'more' },
    wideCpu: { title: 'CPU µs a call there', better: 'less' },
    many: { title: 'calls/s, 64 x 1', better: 'more' },
    thousand: { title: 'calls/s, 10 x 100', better: 'more' },
    share: { title: 'share of its core, 4 x 25', better: 'more', digits: 2, aside: true },
    load: { title: "the load's share of the other, 4 x 25", better: 'less', digits: 2, aside: true },
    manyLoad: { title: '64 x 1', better: 'less', digits: 2, aside: true },
  },
  measure: async ({ traffic, record, target, quick }) => {
    const wide = await traffic({ connections: 4, streams: 25 });
    record('wide', wide.callsPerSecond);
    if (target.pids.length > 0) {
      record('wideCpu', wide.cpuMicroseconds / wide.calls);
      record('share', wide.cpuShare);
    }
    record('load', wide.loadCpuShare);
    if (quick && ownPeers.includes(target.name)) return;
    const many = await traffic({ connections: 64, streams: 1 });
    record('many', many.callsPerSecond);
    record('manyLoad', many.loadCpuShare);
    record('thousand', (await traffic({ connections: 10, streams: 100 })).callsPerSecond);
  },
};

export const uniqueHeaders: Section = {
  name: 'unique-headers',
  title: 'New header values in each call',
  about:
    'Each call has a traceparent and an x-request-id of its own, Huffman-coded, as clients that trace send them: as ' +
    'literals, or with incremental indexing, which changes the table in each call. 4 connections with 25 streams.',
  targets: withoutNode,
  quickTargets: main,
  measures: {
    literal: { title: 'calls/s, literal', better: 'more' },
    literalCpu: { title: 'CPU µs a call there', better: 'less' },
    indexed: { title: 'calls/s, indexed', better: 'more' },
    indexedCpu: { title: 'CPU µs a call there', better: 'less' },
  },
  measure: async ({ traffic, record, target, quick }) => {
    for (const uniqueHeaders of quick ? (['literal'] as const) : (['literal', 'indexed'] as const)) {
      const result = await traffic({ connections: 4, streams: 25, uniqueHeaders });
      record(uniqueHeaders, result.callsPerSecond);
      if (target.pids.length > 0) record(`${uniqueHeaders}Cpu`, result.cpuMicroseconds / result.calls);
    }
  },
};

export const large: Section = {
  name: 'large',
  title: 'Messages of 1 MiB',
  about: '4 connections with 4 streams each; small requests with answers of 1 MiB, and requests of 1 MiB.',
  targets: everyone,
  quickTargets: main,
  measures: {
    answers: { title: 'answers, MiB/s', better: 'more' },
    requests: { title: 'requests, MiB/s', better: 'more' },
  },
  measure: async ({ traffic, record, quick }) => {
    const shape = { connections: 4, streams: 4 };
    record('answers', (await traffic({ ...shape, path: paths.large })).callsPerSecond);
    if (!quick) record('requests', (await traffic({ ...shape, inputBytes: MIB })).callsPerSecond);
  },
};

export const chunks: Section = {
  name: 'chunks',
  title: 'Chunks of streams',
  about:
    '100 streams, 25 on each of 4 connections, whose chunks arrive as fast as the load reads them: a message of ' +
    `${chunk.length} bytes in a DATA frame of its own, as tokens come, of each stream in turn.`,
  targets: everyone,
  quickTargets: main,
  measures: {
    chunks: { title: 'chunks/s', better: 'more' },
    chunkCpu: { title: 'CPU µs a chunk', better: 'less' },
  },
  measure: async ({ traffic, record, target }) => {
    const result = await traffic({ connections: 4, streams: 25, path: paths.stream, chunks: CHUNKS });
    const perSecond = result.bytesPerSecond / chunk.length;
    record('chunks', perSecond);
    if (target.pids.length > 0) record('chunkCpu', (result.cpuShare * 1e6) / perSecond);
  },
};
