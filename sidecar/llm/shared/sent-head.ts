/** Frees the text of a head that has been sent, which Node would keep for as long as the message goes on. */
/** A longer text of a head is not kept beside its message. */
const MAX_KEPT = 4_096;

/**
 * Node keeps the text of a head for as long as its message goes on, though once it is sent it only asks whether there was one.
 *
 * @param message a request or a response of Node's
 */
export function forgetSentHead(message: object): void {
  const sent = message as { _header?: unknown; _headerSent?: unknown };
  const { _header: text, _headerSent: isSent } = sent;
  if (isSent === true && typeof text === 'string' && text.length > MAX_KEPT) sent._header = '-';
}
