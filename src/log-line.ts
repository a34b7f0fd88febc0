/**
 * How a line of the log is written: as JSON for machines, or for people at a terminal. Either way what others wrote (a
 * user's id, a model's name) begins no line of its own and moves no cursor.
 */

export type LineForm = (json: string) => string;

/**
 * What JSON lets through: DEL, C1 (a terminal may take U+009B for the start of a command), what reads as the end of a
 * line, and what is unseen or turns the direction of the text around it.
 */
const unseen = /[\x7f-\x9f\u2028\u2029\ufff9-\uffff\p{Cf}]/gu;

const escaped = (json: string): string =>
  json.replace(unseen, (character) =>
    character.replace(/./gs, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`),
  );

/** The line as it is, still the same JSON. */
export const jsonLine: LineForm = escaped;

const colours: Record<string, number> = { info: 32, warn: 33, error: 31 };

/** `14:03:09.123 INFO  turn ended turn_id=turn_… status=completed`; below it, indented, where an error came from. */
export function prettyLine(coloured: boolean): LineForm {
  const paint = (text: string, colour: number): string =>
    coloured ? `\u001b[${colour}m${text}\u001b[0m` : text;
  return (json) => {
    const { level, time, event, msg, err, ...members } = JSON.parse(json) as Record<string, unknown>;
    const name = String(level);
    const told = Object.entries(members).map(([key, value]) => `${paint(`${key}=`, 90)}${shown(value)}`);
    const { stack, message } = asError(err);
    const words = [
      paint(timeOf(time), 90),
      paint(name.toUpperCase().padEnd(5), colours[name] ?? 0),
      lineOf(String(msg ?? event)),
      ...told,
      ...(message === undefined ? [] : [`${paint("err=", 90)}${shown(message)}`]),
    ];
    const trace = (stack ?? "")
      .split("\n")
      .slice(1)
      .map((line) => `    ${lineOf(line.trim())}\n`);
    return `${words.join(" ")}\n${trace.join("")}`;
  };
}

/** An error as pino writes it; what was thrown and is none, in words. */
function asError(err: unknown): { stack?: string; message?: string } {
  if (err === undefined) return {};
  if (typeof err !== "object" || err === null) return { message: String(err) };
  const { stack, message } = err as Record<string, unknown>;
  return {
    message: String(message ?? JSON.stringify(err)),
    ...(stack !== undefined && { stack: String(stack) }),
  };
}

const plain = /^[\w.:/@+-]+$/;

const shown = (value: unknown): string =>
  typeof value === "string" && plain.test(value) ? value : escaped(JSON.stringify(value));

/** Text without its quotes, as part of a line. */
const lineOf = (text: string): string => escaped(JSON.stringify(text)).slice(1, -1).replaceAll('\\"', '"');

function timeOf(time: unknown): string {
  const at = new Date(String(time));
  const two = (part: number): string => String(part).padStart(2, "0");
  const clock = [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":");
  return `${clock}.${String(at.getMilliseconds()).padStart(3, "0")}`;
}
