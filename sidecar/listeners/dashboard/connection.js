// Receives the sidecar's live stream. It closes while the page is hidden, and reconnects by itself.
//
//     connecting ──first snapshot──▶ live ──nothing for 5 s──▶ silent ──still nothing──▶ lost (the page connects again)
//          ▲                          │                                                      │
//          └──────── paused ◀─hidden──┴───────────── error ──▶ lost ──the browser tries again┘

const SILENT_AFTER_MS = 5000;
const REOPEN_AFTER_MS = 15_000;
/** The browser does not reconnect after an HTTP error (503: too many readers), so we retry. */
const RETRY_MS = 3000;

/**
 * @param listener onHello(instance), onSnapshot(value), onEvents(list), onCalls(list), onState(state, sinceMs)
 */
export function connect(listener) {
  let source;
  let state = 'connecting';
  let sinceMs = Date.now();
  let heardMs = Date.now();
  let retry;

  const become = (next, nowMs = Date.now()) => {
    if (next !== state) sinceMs = nowMs;
    state = next;
    listener.onState(state, sinceMs);
  };

  const open = () => {
    clearTimeout(retry);
    source?.close();
    heardMs = Date.now();
    source = new EventSource('/live');
    const on = (name, then) =>
      source.addEventListener(name, ({ data }) => {
        heardMs = Date.now();
        then(JSON.parse(data));
      });
    on('hello', ({ instance }) => listener.onHello(instance));
    on('events', listener.onEvents);
    on('calls', listener.onCalls);
    on('snapshot', (value) => {
      become('live');
      listener.onSnapshot(value);
    });
    source.addEventListener('error', () => {
      become('lost');
      if (source.readyState === EventSource.CLOSED) retry = setTimeout(open, RETRY_MS);
    });
  };

  setInterval(() => {
    if (state === 'paused') return;
    const silentMs = Date.now() - heardMs;
    if (state === 'live' && silentMs > SILENT_AFTER_MS) become('silent', heardMs);
    else if (state === 'silent' && silentMs > REOPEN_AFTER_MS) {
      become('lost', sinceMs);
      open();
    } else become(state);
  }, 1000);

  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState === 'hidden') {
      clearTimeout(retry);
      source?.close();
      become('paused');
    } else {
      become('connecting');
      open();
    }
  });
  // A page in the browser's back/forward cache keeps no connection.
  window.addEventListener('pagehide', () => source?.close());
  window.addEventListener('pageshow', ({ persisted }) => {
    if (persisted) open();
  });
  open();
}
