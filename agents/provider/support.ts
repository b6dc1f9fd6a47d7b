/** What the offline provider says as an agent of the support domain. */

const refund = /\b(refund|money back|give .* back|return(ed)?|cancel(led|ed)?|chargeback|reimburs)/i;

/** Undefined for other roles. @param role of the agent: the word after "You are a" in its instructions */
export function supportAnswer(role: string, asked: string): string | undefined {
  switch (role) {
    case 'triage':
      return refund.test(asked) ? 'refunds' : 'billing';
    case 'billing':
      return (
        'The invoice of the month lists each charge with its date; compare it with the plan in the contract. ' +
        'If a line is in neither, send its number, and it is checked within two working days.'
      );
    case 'refunds':
      return (
        'This can be a case for a refund. Needed are the number of the invoice and the day of the payment; ' +
        'then a person decides it within five working days, and the money goes back the way it came.'
      );
    default:
      return undefined;
  }
}
