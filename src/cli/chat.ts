/** parley chat: talking to a service in the terminal. */
import { userInfo } from "node:os";
import { createInterface } from "node:readline";
import { parseArgs, styleText } from "node:util";
import { serviceKey, serviceUrl } from "../config.ts";
import { type ChatClient, chatClient, type TurnDone } from "./chat-client.ts";
import { CommandError, usageError } from "./command.ts";
import { ServiceError, toUrl } from "./service-client.ts";
import { visible } from "./terminal.ts";

export const help = `parley chat [MESSAGE] [--conversation ID] [--user NAME] [--url URL]

Talks to a service and streams its replies. With a MESSAGE, or a message piped in, it says that and leaves;
otherwise it asks for one message after the other. A - in MESSAGE stands for what is piped in.
  --conversation ID   go on with a conversation
  --user NAME         who is talking; by default the conversation's user, or your name on this machine
  --url URL           where the service is; by default this machine, at PORT

Ctrl-C stops a reply; at the prompt, Ctrl-C and Ctrl-D leave. The key, where the service needs one, is the first
of PARLEY_API_KEYS. Replies go to stdout, all else to stderr; the exit status is 1 when a reply failed.
`;

const interruptedExitCode = 130;

/** Where a talk stands: who talks, and the conversation once there is one. */
interface Talk {
  readonly client: ChatClient;
  readonly user: string;
  conversationId: string | null;
}

/** @throws CommandError */
export async function run(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: { conversation: { type: "string" }, user: { type: "string" }, url: { type: "string" } },
  });
  const client = chatClient(toUrl(values.url ?? serviceUrl()), serviceKey());
  const oneShot = positionals.length > 0 || !process.stdin.isTTY;
  const message = oneShot ? await toMessage(positionals) : "";
  const goOnWith = (id: string): string => goOnCommand(id, values);
  try {
    const found = values.conversation === undefined ? null : await client.conversation(values.conversation);
    const talk: Talk = {
      client,
      user: values.user ?? found?.user_id ?? systemUser(),
      conversationId: values.conversation ?? null,
    };
    if (oneShot) {
      const { status } = await say(talk, message);
      if (talk.conversationId !== null) note(`go on with: ${goOnWith(talk.conversationId)}`);
      if (status === "stopped") process.exitCode = interruptedExitCode;
      else if (isFailure(status)) process.exitCode = 1;
      return;
    }
    note(found === null ? "A new conversation." : `Going on with: ${found.title ?? "(no title)"}`);
    note("Ctrl-C stops a reply, Ctrl-D leaves.");
    await converse(talk);
    if (talk.conversationId !== null) note(`go on with: ${goOnWith(talk.conversationId)}`);
  } catch (error) {
    if (error instanceof ServiceError) throw new CommandError(error.message);
    throw error;
  }
}

/** Asks and answers until the person leaves; a message that failed doesn't end the talk. */
async function converse(talk: Talk): Promise<void> {
  const history: string[] = [];
  for (;;) {
    const message = await ask(history);
    if (message === null) return;
    if (message.trim() === "") continue;
    try {
      await say(talk, message);
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      complain(error.message);
    }
  }
}

/** One line from the terminal; null where the person leaves. Between questions the terminal is left alone. */
function ask(history: string[]): Promise<string | null> {
  const { promise, resolve } = Promise.withResolvers<string | null>();
  const terminal = createInterface({ input: process.stdin, output: process.stderr, history: [...history] });
  let answer: string | null = null;
  terminal.once("SIGINT", () => terminal.close());
  terminal.once("close", () => {
    if (answer === null) process.stderr.write("\n");
    else if (answer.trim() !== "") history.unshift(answer);
    resolve(answer);
  });
  terminal.question(styled("bold", "> "), (line) => {
    answer = line;
    terminal.close();
  });
  return promise;
}

/**
 * Sends a message and writes the reply as it comes. Ctrl-C stops the turn, a second one leaves at once.
 * @throws ServiceError
 */
async function say(talk: Talk, message: string): Promise<TurnDone> {
  const { client, user } = talk;
  let turnId: string | null = null;
  let stopping = false;
  const stop = (): void => {
    if (turnId === null) return;
    client.stop(turnId).catch((error: Error) => complain(error.message));
  };
  const onInterrupt = (): void => {
    if (stopping) process.exit(interruptedExitCode);
    stopping = true;
    stop();
  };
  process.on("SIGINT", onInterrupt);
  let last = "\n";
  try {
    const turn = client.turn({ message, user_id: user, conversation_id: talk.conversationId });
    for await (const event of turn) {
      if (event.type === "started") {
        turnId = event.turn_id;
        talk.conversationId = event.conversation_id;
        if (stopping) stop();
      } else if (event.type === "text") {
        const text = visible(event.text);
        last = text.at(-1) ?? last;
        process.stdout.write(text);
      } else {
        if (last !== "\n") process.stdout.write("\n");
        tellEnd(event);
        return event;
      }
    }
    throw new ServiceError("the service never ended the reply");
  } catch (error) {
    if (last !== "\n") process.stdout.write("\n");
    throw error;
  } finally {
    process.off("SIGINT", onInterrupt);
  }
}

const isFailure = (status: string): boolean => status === "failed" || status === "interrupted";

function tellEnd({ status, error }: TurnDone): void {
  if (isFailure(status)) complain(`the reply ${status}: ${error ?? "no reason given"}`);
  else if (status !== "completed") note(`(${status})`);
}

// Not console.error: on a terminal Bun colours all that it writes.
const note = (line: string): void => void process.stderr.write(`${styled("dim", line)}\n`);
const complain = (line: string): void => void process.stderr.write(`${styled("red", "parley:")} ${line}\n`);

const styled = (style: Parameters<typeof styleText>[0], text: string): string =>
  process.stderr.hasColors?.() ? styleText(style, text) : text;

async function toMessage(positionals: string[]): Promise<string> {
  const piped = positionals.length === 0 || positionals.includes("-") ? await Bun.stdin.text() : "";
  const message =
    positionals.length === 0
      ? piped
      : positionals.map((word) => (word === "-" ? `\n\n${piped}\n\n` : word)).join(" ");
  if (message.trim() === "") throw usageError("there is no message to send");
  return message.trim();
}

function systemUser(): string {
  try {
    return userInfo().username || "me";
  } catch {
    // A container may run as a user that has no name.
    return "me";
  }
}

/** The command that goes on with a conversation where this one stopped. */
function goOnCommand(
  id: string,
  { user, url }: { user?: string | undefined; url?: string | undefined },
): string {
  const options = [
    ["--conversation", id],
    ["--user", user],
    ["--url", url],
  ].filter((option): option is [string, string] => option[1] !== undefined);
  return `parley chat ${options.map(([name, value]) => `${name} ${quoted(value)}`).join(" ")}`;
}

const quoted = (word: string): string =>
  /^[\w.:/@-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
