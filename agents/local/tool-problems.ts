/** Asks the tool runners of a running system why they run nothing, where that is so: agents answer without tools then. */
import { Metadata } from '@grpc/grpc-js';
import type { ToolList } from '../protocol/tool-messages.ts';
import { connectTools } from '../protocol/tools-client.ts';
import type { LocalSystem } from './system.ts';

const limitMs = 2_000;

/** A line for each runner that is not ready. */
export async function toolProblems({ agents }: LocalSystem): Promise<string[]> {
  const runners = agents.filter(({ needsSandbox }) => needsSandbox === true);
  const lists = await Promise.all(runners.map(({ port }) => listOf(port)));
  return lists.flatMap((list, at) =>
    list?.tools.length === 0
      ? [`${runners[at]!.name} runs no tools: ${list.sandbox?.problems.join('; ')}.`]
      : [],
  );
}

/** Undefined where it does not answer in time. */
function listOf(port: number): Promise<ToolList | undefined> {
  const client = connectTools(`127.0.0.1:${port}`, 'tools-agent');
  return new Promise((resolve) => {
    client.List({}, new Metadata(), { deadline: Date.now() + limitMs }, (_error, list) => {
      client.close();
      resolve(list);
    });
  });
}
