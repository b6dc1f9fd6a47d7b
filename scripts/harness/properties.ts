// fast-check with a known seed, so that a suite fails for what somebody changed and not for the numbers it drew.
// `npm run properties` draws other numbers.
import fc from 'fast-check';

/** The seed of a run. A failure prints it; PROPERTY_SEED=N runs a file with it again. */
const seed = Number(process.env['PROPERTY_SEED'] ?? 20_261_130);
if (!Number.isSafeInteger(seed))
  throw new Error('PROPERTY_SEED is not a whole number: give a number, or none');

fc.configureGlobal({ ...fc.readConfigureGlobal(), seed });

export default fc;
