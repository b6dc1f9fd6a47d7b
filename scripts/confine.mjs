// Compiles the helper of the tool runner with the C compiler of this machine, unless that is done, and prints where it is.
import { confineHere } from './tools/confine.mjs';

try {
  console.log(await confineHere());
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
