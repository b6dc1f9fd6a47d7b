/**
 * Marks a function that lives as long as one request and is assigned to a property: `reply.onGone = shortLived(() => …)`.
 *
 * V8 allocates a function on the right of an assignment to a property in the old generation, because most of them stay.
 * The collector would keep and move everything that it refers to until it collects the whole heap: with one such function
 * for each request, a third of all that the requests allocate.
 */
export function shortLived<Listener>(listener: Listener): Listener {
  return listener;
}

/** Does nothing. */
export function ignore(): void {}
