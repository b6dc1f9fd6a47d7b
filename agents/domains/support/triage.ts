/** The triage agent: decides which of its colleagues a request is for, and passes that one's answer on. */
import { type DomainAgent, readAnswer, type TaskContext, type TaskRequest } from 'outrigger/agent';

const instructions = `You are a triage agent. Decide who answers the request: "billing" for invoices, charges, plans and
payments; "refunds" for money that a customer wants back. Answer with that one word.`;

/** The name of this service at its callers, itself included: a colleague may run in another replica. */
const service = 'support-agent';
const colleagues = ['billing', 'refunds'] as const;
type Colleague = (typeof colleagues)[number];

interface Decision {
  colleague: Colleague;
  tokens: number;
}

export const triage: DomainAgent = {
  async processTask(task, context) {
    const { colleague, tokens } = await decide(task, context);
    const startedMs = performance.now();
    const answer = await context.agents.process(service, { agent_type: colleague, input: task.input });
    const asked = {
      tool_name: colleague,
      arguments: JSON.stringify({ input: task.input }),
      result: answer.output,
      latency_ms: Math.round(performance.now() - startedMs),
    };
    return {
      output: answer.output,
      status: answer.status,
      tokens_used: tokens + answer.tokens_used,
      tool_calls: [asked, ...answer.tool_calls],
    };
  },

  async *streamProcess(task, context) {
    const { colleague } = await decide(task, context);
    const answer = context.agents.stream(service, { agent_type: colleague, input: task.input });
    for await (const { chunk } of answer) if (chunk !== '') yield chunk;
  },
};

async function decide({ input }: TaskRequest, { openai, modelOptions }: TaskContext): Promise<Decision> {
  const answer = await openai.chat.completions.create({
    ...modelOptions,
    temperature: 0,
    messages: [
      { role: 'system', content: instructions },
      { role: 'user', content: input },
    ],
  });
  // A provider may send anything: what is no answer is its failure, and not this agent's.
  const { content, tokens } = readAnswer(answer);
  return { colleague: colleagueIn(content), tokens };
}

/** The colleague that an answer names first. Billing answers what nobody is named for: it gives no money away. */
function colleagueIn(answer: string): Colleague {
  const at = (name: Colleague): number => {
    const found = answer.toLowerCase().indexOf(name);
    return found < 0 ? Number.POSITIVE_INFINITY : found;
  };
  return colleagues.reduce((first, name) => (at(name) < at(first) ? name : first));
}
