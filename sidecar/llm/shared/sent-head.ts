/** Frees the text of a head that was sent. */

/** A shorter text is not worth the work. */
const MAX_KEPT = 4_096;

/**
 * Frees the text of a head that was sent: Node keeps it until the message ends, though it then only needs to know that
 * there was one.
 *
 * @param message a request or a response of Node's
 */
export function forgetSentHead(message: object): void {
  const sent = message as { _header?: unknown; _headerSent?: unknown };
  const { _header: text, _headerSent: isSent } = sent;
  if (isSent === true && typeof text === 'string' && text.length > MAX_KEPT) sent._header = '-';
}
