/** parley extract: the process that reads documents for a service. Not for people, and not in the list of commands. */
import { runExtractionChild } from "../documents/extraction/child.ts";
import { takesNoArguments } from "./command.ts";

export const help = `parley extract

Reads documents for a service, which starts it and talks to it over stdin and stdout.
`;

export async function run(args: string[]): Promise<void> {
  takesNoArguments(args);
  await runExtractionChild();
}
