/** The log of a service, line by line. */
import { type Service, until } from "./service.ts";

export type LogLine = Record<string, unknown> & { event?: string; level: string };

/** All lines so far, each of which has to be JSON. */
export const linesOf = (service: Service): LogLine[] =>
  service.logs.map((line) => JSON.parse(line) as LogLine);

const holds = (line: LogLine, members: Record<string, unknown>): boolean =>
  Object.entries(members).every(([name, value]) => line[name] === value);

export const linesWith = (service: Service, members: Record<string, unknown>): LogLine[] =>
  linesOf(service).filter((line) => holds(line, members));

/** The first line that has these members, waited for. */
export async function loggedLine(service: Service, members: Record<string, unknown>): Promise<LogLine> {
  await until(
    `a line with ${JSON.stringify(members)} is logged`,
    () => linesWith(service, members).length > 0,
  );
  return linesWith(service, members)[0]!;
}
