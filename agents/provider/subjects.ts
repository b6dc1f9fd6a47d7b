/** The offline provider's knowledge: the subjects that people ask this system about, each in a few true sentences. */

export interface Subject {
  readonly match: RegExp;
  /** With its article, as the subject of a sentence in the singular. */
  readonly name: string;
  readonly title: string;
  /** Completes "NAME …". */
  readonly does: string;
  /** Completes "This helps because …". */
  readonly why: string;
  /** Completes "The risk is that …". */
  readonly risk: string;
  /** A sentence that begins with a verb: how to see whether it works. */
  readonly check: string;
  /** Completes "It fits where …". */
  readonly fits: string;
  /** A question that experience has to answer. */
  readonly open: string;
  readonly haiku: readonly [string, string, string];
}

export const subjects: readonly Subject[] = [
  {
    match: /circuit[\s-]*break/i,
    name: 'a circuit breaker',
    title: 'Circuit breakers',
    does: 'stops sending calls to a service that keeps failing, and lets a few probes through after a pause',
    why: 'callers no longer wait for answers that will not come, and the failing service gets time to recover',
    risk: 'a threshold that is too low turns a short burst of errors into an outage of its own',
    check: 'Count the calls that it rejects, and compare them with the errors before it opened.',
    fits: 'failures last for seconds or longer, so that the next call would probably fail, too',
    open: 'how long the pause should be for a service whose normal answers take a minute',
    haiku: ['Five calls fail in turn;', 'the breaker opens, waits, tries.', 'One good answer: shut.'],
  },
  {
    match: /\bhedg/i,
    name: 'a hedge',
    title: 'Hedging',
    does: 'sends the same request to a second replica when the first one is slow, and takes the answer that comes first',
    why: 'one slow replica then no longer decides how long the slowest callers wait',
    risk: 'every hedge costs a second request, which is a second bill when a model answers it',
    check:
      'Compare the p99 with and without hedges, and the number of requests that the provider charges for.',
    fits: 'requests may run twice without harm and slowness is rare',
    open: 'after which delay a hedge pays off when answers vary between two seconds and twenty',
    haiku: ['The first call is slow.', 'Send another down the road:', 'the quicker one wins.'],
  },
  {
    match: /\bretr(y|ies|ied|ying)\b|back-?off/i,
    name: 'a retry',
    title: 'Retries',
    does: 'sends a failed request again, after a short and random pause, to another replica if there is one',
    why: 'most failures of one replica are brief, and the caller then never notices them',
    risk: 'retries multiply the load just when a service is weakest, so they need a budget',
    check: 'Count the calls that only a retry saved, and the retries that the budget refused.',
    fits: 'a request is known to be unprocessed, or may safely run twice',
    open: 'who should retry when several layers of a system all could',
    haiku: ['It failed once, so wait;', 'a short pause, a second try,', 'and the answer comes.'],
  },
  {
    match: /\bdrain|graceful(ly)? (shut|stop)|shutdown/i,
    name: 'a drain',
    title: 'Draining',
    does: 'takes a server out of service in order: it accepts no new calls, and finishes those that it has',
    why: 'a deployment then loses no work, and no caller has to ask twice',
    risk: 'a task that runs for minutes outlives every grace period that is shorter',
    check: 'Restart a replica under load, and count the calls that end with an error.',
    fits: 'replicas come and go while callers expect answers',
    open: 'how long to wait for a stream that may never end by itself',
    haiku: ['No new guests tonight.', 'The last ones finish their tea;', 'then the lights go out.'],
  },
  {
    match: /deadline|time-?outs?|time limit/i,
    name: 'a deadline',
    title: 'Deadlines',
    does: 'travels with a request, and tells every service on its way how much time is left',
    why: 'nobody goes on with work whose answer no caller still awaits',
    risk: 'a deadline that is shorter than a usual answer fails healthy calls and wastes what they cost',
    check: 'Compare the deadlines of callers with the p99 of the answers.',
    fits: 'a late answer is worth no more than none',
    open: 'which deadline suits a task whose length nobody can predict',
    haiku: ['The clock sets the rule:', 'when the last second has gone,', 'nobody waits on.'],
  },
  {
    match: /load.?balanc|balancer|round.?robin/i,
    name: 'a load balancer',
    title: 'Load balancing',
    does: 'chooses a replica for each request, by turns, by the number of calls in flight, or by the time that answers take',
    why: 'no replica is overloaded while another one has nothing to do',
    risk: 'a replica that fails quickly looks idle, and attracts calls unless failures count as slow',
    check: 'Compare the calls in flight and the p95 of the replicas with each other.',
    fits: 'several replicas give the same answers',
    open: 'how to compare requests of which one costs a hundred times as much as another',
    haiku: ['Three doors, one long line.', 'Each guest takes the shortest queue;', 'nobody stands long.'],
  },
  {
    match: /eject|outlier/i,
    name: 'an outlier ejection',
    title: 'Outlier ejection',
    does: 'takes a replica out of service when it fails or is slow while its peers are well, and lets it return on probation',
    why: 'calls then go where they are answered, before anybody has looked at a dashboard',
    risk: 'too many ejections at once leave too few replicas for the load',
    check:
      'Kill one replica under load: it should be ejected within a few calls, and no caller should see an error.',
    fits: 'replicas fail one by one, and not all for the same reason',
    open: 'how to tell a slow replica from one that got the hard questions',
    haiku: ['One voice out of tune', 'steps back from the group a while,', 'then sings soft again.'],
  },
  {
    match: /idempot|de-?dup|exactly.?once|\btwice\b/i,
    name: 'de-duplication',
    title: 'De-duplication',
    does: 'recognises a request that has come before, and gives the repeat the answer of the first run',
    why: 'a retry after a lost connection then costs no second run and no second bill',
    risk: 'two requests that only look alike must never share an answer',
    check: 'Send one task twice at the same moment, and count the runs.',
    fits: 'a run costs money or changes something',
    open: 'how long an answer should be kept for a caller that may come back',
    haiku: ['Asked the same thing twice,', 'the house has answered just once.', 'The bill comes one time.'],
  },
  {
    match: /back.?pressure|rate.?limit|overload|throttl|\bqueues?\b/i,
    name: 'back-pressure',
    title: 'Back-pressure',
    does: 'tells callers to wait when a service has as much work as it can do, instead of accepting more',
    why: 'accepted work is finished in time, and memory stays bounded',
    risk: 'callers that ignore the signal fill the queue of somebody else',
    check: 'Send twice the usual load, and see whether accepted calls keep their latency.',
    fits: 'load can exceed capacity for longer than a moment',
    open: 'which callers should wait first when not all can be served',
    haiku: ['The cup is not full;', 'it says when to stop pouring,', 'so no drop is lost.'],
  },
  {
    match: /sidecar|service mesh|outrigger/i,
    name: 'a sidecar',
    title: 'Sidecars',
    does: 'runs beside an application and handles its network: balancing, retries, deadlines, certificates and traces',
    why: 'every application gets these the same way, in whatever language it is written',
    risk: 'it is one more process on the path of every call, so it has to be fast and must not fail',
    check: 'Measure the latency with and without it, and kill it once to see who notices.',
    fits: 'many services need the same care and few teams want to write it again',
    open: 'how much of its work the platform should do one day',
    haiku: ['Beside each agent', 'a small boat keeps the balance;', 'the big waves pass by.'],
  },
  {
    match: /\btrac(e|es|ing)\b|observab|metrics|monitor/i,
    name: 'a trace',
    title: 'Tracing',
    does: 'follows one request through every service, with the time that each of them took',
    why: 'a slow answer then has an address: the one step that took the time',
    risk: 'recording everything costs more than it tells, and recording too little misses the rare failure',
    check: 'Take the slowest request of yesterday, and see whether its trace explains it.',
    fits: 'a request passes more services than one person knows',
    open: 'which requests to keep when nobody knows yet which will matter',
    haiku: ['One thread through the house:', 'each room it passes has light,', 'and the slow one shows.'],
  },
  {
    match: /\b(agents?|llms?|language models?|tokens?|prompts?)\b/i,
    name: 'an agent',
    title: 'Agents',
    does: 'answers a task with the help of a model, and sometimes of tools and of other agents',
    why: 'a question in plain words then reaches what no form or query had foreseen',
    risk: 'its answers take seconds to minutes, cost money, and differ from run to run',
    check: 'Keep a set of tasks with known good answers, and run it after every change.',
    fits: 'a task needs judgement more than speed',
    open: 'how to test what is never the same twice',
    haiku: ['It thinks for a while;', 'each word it says has its price.', 'Ask it only once.'],
  },
];

/** The subjects of a text, in the order in which it names them. */
export function subjectsOf(text: string): readonly Subject[] {
  return subjects
    .map((subject) => ({ subject, at: text.search(subject.match) }))
    .filter(({ at }) => at >= 0)
    .sort((one, other) => one.at - other.at)
    .map(({ subject }) => subject);
}
