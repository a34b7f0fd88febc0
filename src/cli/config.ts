/** parley config: what is in force. */
import { describeConfig, loadConfig } from "../config.ts";
import { takesNoArguments } from "./command.ts";

export const help = `parley config

Prints the configuration that is in force, one VARIABLE=value a line, with secrets masked.
Every fault of the environment is reported, and the exit status is then 1.
`;

export function run(args: string[]): void {
  takesNoArguments(args);
  for (const [name, value] of describeConfig(loadConfig())) console.log(`${name}=${value}`);
}
