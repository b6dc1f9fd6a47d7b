// `npm run bench:micro -- [hpack] [framing] [breaker] [balancer] [calls] [kept]`: measures the time of single parts of the data path, in nanoseconds.
//
// Each figure is the best of many short rounds in one process: it tells two versions of a part apart, and is no figure of
// the whole, where caches are shared with everything else.
const parts = ['hpack', 'framing', 'breaker', 'balancer', 'calls', 'kept'] as const;

const wanted = process.argv.slice(2);
for (const name of wanted) {
  if (parts.some((part) => part === name)) continue;
  console.error(`${name}: there is ${parts.join(', ')}`);
  process.exit(64);
}
for (const part of parts)
  if (wanted.length === 0 || wanted.includes(part)) await import(`./micro/${part}.ts`);
