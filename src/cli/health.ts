/** parley health: for container health checks. */
import { parseArgs } from "node:util";
import { serviceUrl } from "../config.ts";
import { CommandError } from "./command.ts";

const secondsMax = 5;

export const help = `parley health [--url URL]

Asks the service for /health; exit status 0 when it is healthy, 1 when it isn't.
  --url URL   where the service is; by default this machine, at PORT
`;

/** @throws CommandError where the service isn't healthy */
export async function run(args: string[]): Promise<void> {
  const { values } = parseArgs({ args, options: { url: { type: "string" } } });
  const url = new URL("/health", values.url ?? serviceUrl());
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(secondsMax * 1000) });
    if (!response.ok) throw new CommandError(`unhealthy: status ${response.status}`);
    console.log(await response.text());
  } catch (error) {
    if (error instanceof CommandError) throw error;
    throw new CommandError(`unhealthy: ${error instanceof Error ? error.message : String(error)}`);
  }
}
