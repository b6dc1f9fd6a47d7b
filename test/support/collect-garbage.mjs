// Loaded into a process (`--expose-gc --import`), collects its garbage all the time: the young, and now and then all of it.
setInterval(() => globalThis.gc({ type: 'minor' }), 10).unref();
setInterval(() => globalThis.gc(), 100).unref();
