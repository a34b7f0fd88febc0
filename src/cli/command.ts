/** What all commands share. */
import { parseArgs } from "node:util";

/** A command's failure, told to the person at the terminal in one line. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  constructor(
    message: string,
    readonly exitCode = 1,
  ) {
    super(message);
  }
}

/** A wrong use of a command: exits with 2. */
export const usageError = (message: string): CommandError => new CommandError(message, 2);

/** For commands that take nothing. @throws the TypeError of `parseArgs` that `main` tells as a wrong use */
export const takesNoArguments = (args: string[]): void => void parseArgs({ args, options: {} });
