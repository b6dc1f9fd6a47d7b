/** Names the file in which the thread begins. The bundle has one of its own: `scripts/bundle.mjs` puts that in this one's place. */
export const threadUrl = (): URL => new URL('./thread.mjs', import.meta.url);
