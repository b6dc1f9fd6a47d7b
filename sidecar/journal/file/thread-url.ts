/** Where the thread begins, from the sources. The bundle has a file for it: `scripts/bundle.mjs` puts that in this one's place. */
export const threadUrl = (): URL => new URL('./thread.mjs', import.meta.url);
