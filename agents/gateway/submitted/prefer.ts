/** Whether a client wants its answer later: `Prefer: respond-async` (RFC 7240, 4.1). */
export function prefersAsync(prefer: string | readonly string[] | undefined): boolean {
  const preferences = (typeof prefer === 'string' ? prefer : (prefer ?? []).join(',')).split(',');
  return preferences.some((one) => one.split(/[;=]/, 1)[0]!.trim().toLowerCase() === 'respond-async');
}
