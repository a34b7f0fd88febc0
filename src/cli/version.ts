/** parley version. */
import { version } from "../version.ts";

export const help = `parley version

Prints the version.
`;

export function run(): void {
  console.log(version);
}
