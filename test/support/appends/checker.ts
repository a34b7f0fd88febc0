/**
 * Compares what clients were told with what is stored, in the manner of Jepsen's append workload: each message is unique,
 * so that one look at the end tells what was lost, doubled or put in another order.
 */
import { tellingOf } from "../telling-model.ts";
import type { Append, End, LedgerEntry, Read, Stored, StoredMessage, StoredTurn } from "./history.ts";

export type ViolationKind =
  | "lost"
  | "stored twice"
  | "two turns"
  | "two conversations"
  | "refused but stored"
  | "nobody's"
  | "another conversation"
  | "sequence"
  | "order"
  | "still running"
  | "end"
  | "reply"
  | "read"
  | "read too far"
  | "ledger"
  | "counters";

export interface Violation {
  kind: ViolationKind;
  detail: string;
}

export interface CheckOptions {
  /**
   * So many milliseconds of text, at the model's pace, a reader may have seen beyond what is kept of a turn whose instance
   * died; by when the last of it came.
   */
  lostMsMax: (lastMs: number) => number;
}

/** What `Stored` says of one message, by its text. */
interface Kept {
  turn: StoredTurn;
  question: StoredMessage;
  reply: StoredMessage;
}

/** Everything that isn't as it should be; nothing where all is well. */
export function checkAppends(
  appends: readonly Append[],
  stored: Stored,
  options: CheckOptions = { lostMsMax: () => 1_000 },
): Violation[] {
  const found: Violation[] = [];
  const report = (kind: ViolationKind, detail: string): void => void found.push({ kind, detail });
  const kept = keptByMessage(stored, report);
  const byMessage = new Map(appends.map((append) => [append.message, append]));
  for (const message of kept.keys()) {
    if (!byMessage.has(message)) report("nobody's", `"${message}" is stored, and nobody sent it`);
  }
  for (const append of appends) checkAppend(append, kept.get(append.message) ?? null, options, report);
  checkConversations(stored, report);
  checkOrder(stored, byMessage, report);
  checkLedger(stored, report);
  return found;
}

/** Violations by kind, each with some examples: what a failed test prints. */
export function byKind(violations: readonly Violation[], examplesMax = 5): string[] {
  return [...Map.groupBy(violations, ({ kind }) => kind)].flatMap(([kind, all]) => [
    `${kind}: ${all.length}`,
    ...all.slice(0, examplesMax).map(({ detail }) => `  ${detail}`),
  ]);
}

type Report = (kind: ViolationKind, detail: string) => void;

/** The turns by what was asked; messages that don't belong to one another are reported. */
function keptByMessage({ messages, turns }: Stored, report: Report): Map<string, Kept> {
  const kept = new Map<string, Kept>();
  const byTurn = Map.groupBy(messages, ({ turn_id }) => turn_id);
  for (const turn of turns) {
    const [question, reply, ...more] = (byTurn.get(turn.id) ?? []).toSorted((a, b) => a.seq - b.seq);
    byTurn.delete(turn.id);
    if (question?.role !== "user" || reply?.role !== "assistant" || more.length > 0) {
      report("sequence", `${turn.id} hasn't a question and a reply, but ${2 + more.length} messages`);
    } else if (kept.has(question.content)) {
      report("stored twice", `"${question.content}" in ${kept.get(question.content)!.turn.id}, ${turn.id}`);
    } else kept.set(question.content, { turn, question, reply });
  }
  for (const id of byTurn.keys()) report("sequence", `messages of ${id}, which is no turn`);
  return kept;
}

function checkAppend(append: Append, kept: Kept | null, options: CheckOptions, report: Report): void {
  const named = `"${append.message}"`;
  const turnIds = new Set(append.told.map(({ turn_id }) => turn_id));
  if (turnIds.size > 1) report("two turns", `${named} was told ${[...turnIds].join(", ")}`);
  if (kept === null) {
    if (turnIds.size > 0) report("lost", `${named}, told as ${[...turnIds].join(", ")}`);
    return;
  }
  const { turn, question, reply } = kept;
  if (append.outcome === "refused") report("refused but stored", `${named} as ${turn.id}`);
  if (turnIds.size > 0 && !turnIds.has(turn.id)) {
    report("lost", `${named}, told as ${[...turnIds].join(", ")}, is stored as ${turn.id}`);
  }
  const conversations = new Set(append.told.flatMap(({ conversation_id }) => conversation_id ?? []));
  if (append.conversation_id !== null) conversations.add(append.conversation_id);
  if (conversations.size > 1) {
    report("two conversations", `${named} was told ${[...conversations].join(", ")}`);
  }
  if (conversations.size > 0 && !conversations.has(question.conversation_id)) {
    report("another conversation", `${named} is in ${question.conversation_id}`);
  }
  checkReply(append, turn, reply, report);
  for (const end of append.ends) checkEnd(append, end, turn, reply, report);
  for (const read of append.reads) checkRead(append, read, turn, reply, options, report);
}

/** What is kept is what the model said, all of it where it is told as whole. */
function checkReply({ message, stopped }: Append, turn: StoredTurn, reply: StoredMessage, report: Report) {
  const { text, usage } = tellingOf(message);
  const isWhole = reply.content === text;
  if (turn.status !== reply.status)
    report("reply", `${turn.id} is ${turn.status}, its reply ${reply.status}`);
  if (!text.startsWith(reply.content)) report("reply", `${turn.id} holds what its model didn't say`);
  if (turn.status === "completed") {
    if (!isWhole) report("reply", `${turn.id} is completed, with ${reply.content.length} of ${text.length}`);
    if (turn.total_tokens !== usage.total_tokens) {
      report("reply", `${turn.id} took ${turn.total_tokens} tokens, not ${usage.total_tokens}`);
    }
  } else if (turn.status === "stopped") {
    if (!stopped) report("reply", `${turn.id} was stopped by nobody`);
  } else if (turn.status !== "running" && !isFault(turn)) {
    report("reply", `${turn.id} ended as ${turn.status}, ${turn.error_code}`);
  }
}

/** Ends that faults of instances and of the database lead to. */
const isFault = ({ status, error_code }: StoredTurn): boolean =>
  (status === "interrupted" && ["turn_interrupted", "shutting_down"].includes(error_code ?? "")) ||
  (["interrupted", "failed"].includes(status) && error_code === "storage_unavailable");

function checkEnd(
  { message }: Append,
  end: End,
  turn: StoredTurn,
  reply: StoredMessage,
  report: Report,
): void {
  const is: Required<End> = {
    status: turn.status,
    error_code: turn.error_code,
    length: reply.content.length,
    text: reply.content,
    total_tokens: turn.total_tokens,
  };
  for (const name of Object.keys(end) as (keyof End)[]) {
    if (end[name] === is[name]) continue;
    report("end", `"${message}" was told ${name} ${end[name]}, ${turn.id} has ${is[name]}`);
  }
}

/** A read is a part of what is kept, or goes on beyond it where the instance died, by as little as is promised. */
function checkRead(
  { message }: Append,
  { from, text, lastMs }: Read,
  turn: StoredTurn,
  { content }: StoredMessage,
  { lostMsMax }: CheckOptions,
  report: Report,
): void {
  const said = tellingOf(message);
  const to = from + text.length;
  if (text !== "" && said.text.slice(from, to) !== text) {
    report("read", `"${message}" was read from ${from} to ${to} as what its model didn't say`);
    return;
  }
  if (text === "" || to <= content.length) return;
  if (turn.error_code !== "turn_interrupted") {
    report("read too far", `${turn.id} was read to ${to}, and ended as ${turn.status} at ${content.length}`);
    return;
  }
  const lostMs = piecesBetween(said.pieces, content.length, to) * said.delayMs;
  if (lostMs <= lostMsMax(lastMs)) return;
  const when = `at ${Math.round(lastMs)} ms`;
  report(
    "read too far",
    `${turn.id} was read to ${to} ${when}: ${lostMs} ms more than the ${content.length} kept`,
  );
}

/** How many pieces end within a range of the text. */
export function piecesBetween(pieces: readonly string[], from: number, to: number): number {
  let end = 0;
  let count = 0;
  for (const piece of pieces) {
    end += piece.length;
    if (end > from && end <= to) count++;
  }
  return count;
}

/** Messages are numbered from 1, without gaps; nothing runs any more. */
function checkConversations({ conversations, messages, turns }: Stored, report: Report): void {
  const byConversation = Map.groupBy(messages, ({ conversation_id }) => conversation_id);
  for (const { id, message_count, active_turn_id } of conversations) {
    const numbers = (byConversation.get(id) ?? []).map(({ seq }) => seq).toSorted((a, b) => a - b);
    byConversation.delete(id);
    if (numbers.some((seq, index) => seq !== index + 1) || numbers.length !== message_count) {
      report("sequence", `${id} has ${message_count} messages, with the numbers ${numbers.join(" ")}`);
    }
    if (active_turn_id !== null) report("still running", `${id} has the active turn ${active_turn_id}`);
  }
  for (const id of byConversation.keys()) report("sequence", `messages in ${id}, which is no conversation`);
  for (const { id, status } of turns) {
    if (status === "running") report("still running", `${id}`);
  }
}

/** What was seen as ended before another was sent is before it in their conversation. */
function checkOrder({ messages }: Stored, byMessage: ReadonlyMap<string, Append>, report: Report): void {
  const questions = messages.filter(({ role }) => role === "user");
  for (const [id, asked] of Map.groupBy(questions, ({ conversation_id }) => conversation_id)) {
    /** Of those that come later, the one that had ended first. */
    let first: { message: string; endedMs: number } | null = null;
    for (const { content } of asked.toSorted((a, b) => b.seq - a.seq)) {
      const append = byMessage.get(content);
      if (append === undefined) continue;
      if (first !== null && first.endedMs < append.sentMs) {
        report(
          "order",
          `"${first.message}" had ended when "${content}" was sent, and comes after it in ${id}`,
        );
      }
      const { endedMs, message } = append;
      if (endedMs !== null && (first === null || endedMs < first.endedMs)) first = { message, endedMs };
    }
  }
}

/** An entry for each turn, with its sums; the counters hold the sums of the entries. */
function checkLedger({ conversations, messages, turns, ledger, counters }: Stored, report: Report): void {
  const entries = new Map(ledger.map((entry) => [entry.n, entry]));
  if (entries.size !== ledger.length) report("ledger", "two entries have the same number");
  for (const { id, usage_n, status, total_tokens } of turns) {
    const entry = entries.get(usage_n);
    entries.delete(usage_n);
    if (entry?.status === status && entry.total_tokens === total_tokens) continue;
    report("ledger", `${id} is ${status} with ${total_tokens} tokens, its entry ${JSON.stringify(entry)}`);
  }
  for (const { n } of entries.values())
    report("ledger", `the entry ${n} is of no turn, or of one that has another`);
  const conversationOf = new Map(messages.map(({ turn_id, conversation_id }) => [turn_id, conversation_id]));
  const tokens = sums(turns.map(({ id, total_tokens }) => [conversationOf.get(id) ?? null, total_tokens]));
  for (const { id, tokens_used } of conversations) {
    const sum = tokens.get(id) ?? 0;
    if (sum !== tokens_used) report("ledger", `${id} says ${tokens_used} tokens, its turns ${sum}`);
  }
  const counted = counters.map(({ used_tokens }) => used_tokens).filter((used) => used > 0);
  const due = payersOf(ledger).filter((used) => used > 0);
  if (String(counted.toSorted(byNumber)) !== String(due.toSorted(byNumber))) {
    report("counters", `${counted.length} hold ${total(counted)}, the ledger's ${due.length} ${total(due)}`);
  }
  for (const { reserved_tokens, reserved_nano_usd } of counters) {
    if (reserved_tokens === 0 && reserved_nano_usd === 0) continue;
    report("counters", `${reserved_tokens} tokens and ${reserved_nano_usd} nano-dollars are still reserved`);
  }
}

/** What each user, key and workspace is to have used. */
function payersOf(ledger: readonly LedgerEntry[]): number[] {
  const by = (of: (entry: LedgerEntry) => string | null): number[] => [
    ...sums(ledger.map((entry) => [of(entry), entry.total_tokens])).values(),
  ];
  return [...by(({ user }) => user), ...by(({ key }) => key), ...by(({ workspace }) => workspace)];
}

function sums(amounts: [of: string | null, amount: number][]): Map<string, number> {
  const all = new Map<string, number>();
  for (const [of, amount] of amounts) {
    if (of !== null) all.set(of, (all.get(of) ?? 0) + amount);
  }
  return all;
}

const byNumber = (a: number, b: number): number => a - b;
const total = (amounts: readonly number[]): number => amounts.reduce((sum, amount) => sum + amount, 0);
