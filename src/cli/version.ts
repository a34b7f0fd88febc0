/** parley version. */
import { version } from "../version.ts";
import { takesNoArguments } from "./command.ts";

export const help = `parley version

Prints the version.
`;

export function run(args: string[]): void {
  takesNoArguments(args);
  console.log(version);
}
