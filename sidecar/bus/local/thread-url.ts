/** Where the code of the thread is. The bundle has another file of it: `scripts/bundle.mjs` puts that in this one's place. */
export const threadUrl = (): URL => new URL('./thread.ts', import.meta.url);
