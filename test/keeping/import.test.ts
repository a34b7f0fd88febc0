/** Imports of what no export would hold: refused line by line, in plain words, and nothing is changed. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { newId } from "../../src/ids.ts";
import { importArchive } from "../../src/keeping/import.ts";
import type {
  ArchivedBudget,
  ArchivedConversation,
  ArchivedCounter,
  ArchivedDocument,
  ArchivedEntry,
  ArchivedMemory,
  ArchivedTurn,
  ArchivedUser,
  Keeping,
} from "../../src/storage/archive-store.ts";
import { postgresKeeping } from "../../src/storage/postgres/archive/keeping.ts";
import { sqliteKeeping } from "../../src/storage/sqlite/keeping.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { memoryOf } from "../support/processes.ts";
import { runParley, serviceEnv, temporaryDirectory } from "../support/service.ts";

setDefaultTimeout(60_000);

const directory = temporaryDirectory();
const file = join(directory, "import.jsonl");
const newDatabase = databasesOfFile();

/** Where data may be: what of the environment says so, and who keeps it there. */
interface Place {
  env: Record<string, string>;
  keeping: Keeping;
}

const places: Record<string, () => Promise<Place>> = {
  async SQLite() {
    const dataDir = mkdtempSync(join(directory, "data-"));
    return { env: { PARLEY_DATA_DIR: dataDir }, keeping: sqliteKeeping(dataDir) };
  },
  async PostgreSQL() {
    const url = await newDatabase();
    return { env: { DATABASE_URL: url }, keeping: postgresKeeping(url) };
  },
};

const envOf = ({ env }: Place): Record<string, string> => ({ ...serviceEnv(directory, {}), ...env });
const keep = (place: Place, args: string[]) => runParley(args, envOf(place));

/** All data of a place as `parley export` writes it. */
async function exported(place: Place): Promise<string> {
  const { exitCode, stdout, stderr } = await keep(place, ["export"]);
  if (exitCode !== 0) throw new Error(`not exported: ${stderr}`);
  return stdout;
}

afterAll(() => rmSync(directory, { recursive: true, force: true }));

const user: ArchivedUser = {
  type: "user",
  workspace_id: "default",
  user_id: "ada",
  display_name: null,
  language: null,
  timezone: null,
  instructions: null,
  metadata: { plan: "gold" },
  created_at: 1_700_000_000,
  updated_at: 1_700_000_000,
};

const conversation = (changes: Partial<ArchivedConversation> = {}): ArchivedConversation => ({
  type: "conversation",
  id: newId("conversation"),
  workspace_id: "default",
  user_id: "ada",
  title: "A title",
  title_given: true,
  metadata: {},
  summary: { text: "", tokens: 0, through_seq: 0 },
  created_at: 1_700_000_000,
  updated_at: 1_700_000_000,
  last_active_ms: 1_700_000_000_500,
  ...changes,
});

const turn = (conversation_id: string, changes: Partial<ArchivedTurn> = {}): ArchivedTurn => ({
  type: "turn",
  id: newId("turn"),
  conversation_id,
  status: "completed",
  model: "test-model",
  finish_reason: "stop",
  message: { id: newId("message"), content: "Hello", tokens: 1 },
  reply: { id: newId("message"), content: "Hi!", tokens: 2, sources: [], citations: [], recallable: true },
  memories_used: [],
  usage: { prompt_tokens: 5, completion_tokens: 2, total_tokens: 7, estimated: false },
  spent: { cached_tokens: 3, reasoning_tokens: 1, cost_nano_usd: 9, first_token_ms: 20, duration_ms: 40 },
  key_id: "open",
  error: null,
  receipt: null,
  use_memory: true,
  to_remember: false,
  created_at: 1_700_000_000,
  ended_at: 1_700_000_001,
  ...changes,
});

const memory = (changes: Partial<ArchivedMemory> = {}): ArchivedMemory => ({
  type: "memory",
  workspace_id: "default",
  user_id: "ada",
  id: newId("memory"),
  text: "Ada likes tea.",
  kind: "fact",
  slot: null,
  tokens: 4,
  source_message_id: null,
  superseded_by: null,
  uses: 0,
  used_at: null,
  created_at: 1_700_000_000,
  updated_at: 1_700_000_000,
  ...changes,
});

const document = (changes: Partial<ArchivedDocument> = {}): ArchivedDocument => ({
  type: "document",
  id: newId("document"),
  workspace_id: "default",
  user_id: null,
  collection: "default",
  name: `${newId("document")}.txt`,
  created_at: 1_700_000_000,
  updated_at: 1_700_000_000,
  revision: {
    id: newId("revision"),
    version: 1,
    status: "ready",
    media_type: "text/plain",
    metadata: {},
    content_hash: "0".repeat(64),
    bytes: 3,
    error: null,
    created_at: 1_700_000_000,
    ended_at: 1_700_000_000,
  },
  ...changes,
});

const entry = (changes: Partial<ArchivedEntry> = {}): ArchivedEntry => ({
  type: "ledger_entry",
  kind: "turn",
  workspace_id: "default",
  user_id: "ada",
  key_id: null,
  conversation_id: newId("conversation"),
  model: "test-model",
  status: "completed",
  prompt_tokens: 5,
  completion_tokens: 2,
  total_tokens: 7,
  estimated: false,
  cached_tokens: 0,
  reasoning_tokens: 0,
  cost_nano_usd: null,
  first_token_ms: null,
  duration_ms: null,
  created_at: 1_700_000_000,
  ...changes,
});

const budget = (changes: Partial<ArchivedBudget> = {}): ArchivedBudget => ({
  type: "budget",
  workspace_id: "default",
  scope: "user",
  subject: "ada",
  limits: { tokens_day: 1000, nano_usd_month: null },
  created_at: 1_700_000_000,
  updated_at: 1_700_000_000,
  ...changes,
});

const counter = (changes: Partial<ArchivedCounter> = {}): ArchivedCounter => ({
  type: "budget_counter",
  scope: "a".repeat(22),
  period: "2026-11",
  used_tokens: 7,
  used_nano_usd: 9,
  ...changes,
});

const one = conversation();
const first = turn(one.id);
const book = document({ name: "handbook.txt" });
const good = [
  user,
  one,
  first,
  memory(),
  book,
  { type: "document_text", document_id: book.id, start: 0, text: "abc" },
  entry(),
  budget(),
  counter(),
];

const header = { type: "parley.export", version: 1 };
const lineOf = (line: unknown): string => (typeof line === "string" ? line : JSON.stringify(line));

/** An export of lines, of which strings are taken as they are. */
const whole = (lines: unknown[]): string =>
  [header, ...lines, { type: "end", records: lines.length }].map((line) => `${lineOf(line)}\n`).join("");

describe.each(Object.entries(places))("into %s", (_, newPlace) => {
  let place: Place;
  let before: string;

  beforeAll(async () => {
    place = await newPlace();
    expect((await importing([...good])).exitCode).toBe(0);
    before = await exported(place);
  });

  function importing(lines: unknown[]) {
    writeFileSync(file, whole(lines));
    return keep(place, ["import", file]);
  }

  /** Imports a text, which is to be refused for this reason alone. */
  async function expectFault(text: string, fault: string): Promise<void> {
    const archive = await place.keeping.import();
    try {
      const { faults } = await importArchive(new Blob([text]).stream(), archive);
      const told = faults.map(({ line, message }) => `line ${line}: ${message}`);
      expect(told).toEqual([expect.stringContaining(fault)]);
    } finally {
      await archive.close();
    }
  }

  /** The same by the command, where every reason is told in a line. */
  async function expectRefused(text: string | Uint8Array, faults: string[]): Promise<void> {
    writeFileSync(file, text);
    const { exitCode, stdout, stderr } = await keep(place, ["import", file]);
    const said = stderr.trimEnd().split("\n");
    expect({ exitCode, stdout, last: said.pop() }).toEqual({
      exitCode: 1,
      stdout: "",
      last: "parley: nothing was imported",
    });
    expect(said).toHaveLength(faults.length);
    for (const [index, fault] of faults.entries()) {
      expect(said[index]).toBe(`parley: ${fault}`);
    }
  }

  describe("no export", () => {
    const foreign = "line 1: it isn't the beginning of an export";
    const cases: [what: string, text: string | Uint8Array, faults: string[]][] = [
      ["an empty file", "", ["line 0: the file ends here, in the middle of an export"]],
      ["another JSONL file", '{"name":"soup"}\n{"name":"tea"}\n', [foreign]],
      ["a list", "[]\n", [foreign]],
      ["a picture", new Uint8Array([0x89, 0x50, 0x4e, 0x47, 0x0a, 0xff]), ["line 1: it is no JSON in UTF-8"]],
      [
        "one of a later form",
        `${JSON.stringify({ ...header, version: 2 })}\n{"type":"unheard-of"}\n`,
        ["line 1: it is an export of form 2, this Parley knows 1: use a newer one"],
      ],
      ["one of a form that is none", `${JSON.stringify({ ...header, version: "1" })}\n`, [foreign]],
    ];
    for (const [what, text, faults] of cases) {
      test(`${what} is refused`, () => expectRefused(text, faults));
    }

    test("a file that isn't there is told in a line", async () => {
      const { exitCode, stderr } = await keep(place, ["import", join(directory, "missing")]);
      expect([exitCode, stderr.startsWith("parley: ENOENT")]).toEqual([1, true]);
    });
  });

  describe("half an export is refused", () => {
    const text = whole([conversation(), memory()]);
    const counted = "it counts other records than there are: some are missing, or there too often";
    const cases: [what: string, text: string, faults: string[]][] = [
      [
        "that ends after a line",
        text.slice(0, text.lastIndexOf("{")),
        ["line 3: the file ends here, in the middle of an export"],
      ],
      [
        "that ends within a line",
        text.slice(0, text.lastIndexOf("{") - 30),
        ["line 3: it is no JSON in UTF-8", "line 3: the file ends here, in the middle of an export"],
      ],
      [
        "that lacks a line",
        [header, memory(), { type: "end", records: 2 }].map(lineOf).join("\n"),
        [`line 3: ${counted}`],
      ],
      ["that goes on after its end", `${text}${lineOf(memory())}\n`, ["line 5: there is more after the end"]],
    ];
    for (const [what, text, faults] of cases) test(what, () => expectRefused(text, faults));
  });

  describe("a line is refused", () => {
    const other = conversation();
    const turned = turn(other.id);
    const failed = document({ revision: { ...document().revision, status: "failed" } });
    const text = (document_id: string, start: number, text: string) => ({
      type: "document_text",
      document_id,
      start,
      text,
    });
    const withProto = (record: object, member: string): string =>
      JSON.stringify(record).replace(`"${member}":{`, `"${member}":{"__proto__":"x",`);
    const cases: [what: string, lines: unknown[], fault: string][] = [
      ["that is no JSON", ['{"type":"user"'], "line 2: it is no JSON in UTF-8"],
      ["that is deeper than anybody reads", [`${"[".repeat(200_000)}${"]".repeat(200_000)}`], "line 2: "],
      ["that is no object", ['"user"'], "line 2: it is no JSON object"],
      ["that is empty", [""], "line 2: it is no JSON in UTF-8"],
      ["of an unknown kind", [{ type: "key", secret: "x" }], "line 2: its type is no kind of record"],
      ["of a kind that objects have", [{ type: "constructor" }], "line 2: its type is no kind of record"],
      ["that lacks a member", [{ ...memory(), text: undefined }], "line 2: memory.text is required"],
      ["with a member too many", [{ ...memory(), sql: "x" }], "line 2: memory.sql is not a known property"],
      [
        "with one too many further in",
        [other, { ...turned, reply: { ...turned.reply, extra: 1 } }],
        "line 3: turn.reply.extra is not a known property",
      ],
      [
        "with __proto__",
        [`{"__proto__":{"a":1},${lineOf(memory()).slice(1)}`],
        "line 2: memory.__proto__ is not a known property",
      ],
      [
        "with __proto__ in metadata",
        [withProto({ ...user, user_id: "eve" }, "metadata")],
        "line 2: user.metadata.__proto__ ",
      ],
      [
        "of wrong types",
        [{ ...memory(), tokens: "4", kind: "rumour" }],
        "line 2: memory.kind must be one of: fact, preference, instruction, event; memory.tokens must be a whole number",
      ],
      [
        "with a negative time",
        [{ ...memory(), created_at: -1 }],
        "line 2: memory.created_at must be at least 0",
      ],
      ["with half a number", [{ ...memory(), uses: 0.5 }], "line 2: memory.uses must be a whole number"],
      [
        "with NUL",
        [memory({ text: "a\0b" })],
        "line 2: memory.text must not contain NUL or unpaired surrogates",
      ],
      [
        "with half a character",
        [memory({ text: "a\ud800" })],
        "line 2: memory.text must not contain NUL or unpaired surrogates",
      ],
      [
        "with an id of another kind",
        [memory({ id: newId("turn") })],
        "line 2: memory.id has a form that is not allowed",
      ],
      [
        "with a path for an id",
        [conversation({ id: "../../etc/passwd" })],
        "line 2: conversation.id has a form that is not allowed",
      ],
      [
        "whose user is unknown",
        [memory({ user_id: "nobody" })],
        "line 2: its user is neither in the file before it nor in the database",
      ],
      [
        "whose user is another workspace's",
        [conversation({ workspace_id: "other" })],
        "line 2: its user is neither in the file before it nor in the database",
      ],
      [
        "whose workspace is unknown",
        [{ ...user, workspace_id: "other" }],
        "line 2: its workspace is neither in the file before it nor in the database",
      ],
      [
        "whose document's user is unknown",
        [document({ user_id: "nobody" })],
        "line 2: its user is neither in the file before it nor in the database",
      ],
      ["of a turn without its conversation", [turned], "line 2: it doesn't follow its conversation"],
      [
        "of a turn after another conversation",
        [other, conversation(), turned],
        "line 4: it doesn't follow its conversation",
      ],
      [
        "of a turn that is there in another conversation",
        [other, { ...turned, id: first.id }],
        "line 3: there is another turn of its id",
      ],
      [
        "of a turn that comes twice",
        [other, turned, { ...turned, message: { ...turned.message, id: newId("message") } }],
        "line 4: there is another turn of its id",
      ],
      [
        "of a message that comes twice",
        [other, { ...turned, message: { ...turned.message, id: turned.reply.id } }],
        "line 3: the id of a message was in the file before",
      ],
      ["of a conversation that comes twice", [other, other], "line 3: its id was in the file before"],
      [
        "of a memory that comes twice",
        ((once) => [once, once])(memory()),
        "line 3: its id was in the file before",
      ],
      [
        "of a user who comes twice",
        ((once) => [once, once])({ ...user, user_id: "eve" }),
        "line 3: its id was in the file before",
      ],
      [
        "of a turn after one that runs",
        [other, turn(other.id, { status: "running", ended_at: null }), turned],
        "line 4: the turn before it is still running",
      ],
      [
        "of a turn that runs and has ended",
        [other, turn(other.id, { status: "running" })],
        "line 3: a turn has an ended_at if, and only if, it has ended",
      ],
      [
        "after a summary of more than there is",
        [conversation({ id: other.id, summary: { text: "x", tokens: 1, through_seq: 3 } }), turned, memory()],
        `line 4: before it, the summary of ${other.id} covers more messages than there are`,
      ],
      [
        "of a document whose name is taken",
        [document({ name: "handbook.txt" })],
        "line 2: there is another document of its name",
      ],
      [
        "of a revision that is there",
        [document({ revision: book.revision })],
        "line 2: there is another revision of its id",
      ],
      ["of text without its document", [text(book.id, 3, "def")], "line 2: it doesn't follow its document"],
      [
        "of text with a gap",
        [document({ id: failed.id }), text(failed.id, 0, "abc"), text(failed.id, 4, "e")],
        "line 4: it doesn't begin where the text before it ends",
      ],
      [
        "of text of a document that failed",
        [failed, text(failed.id, 0, "abc")],
        "line 3: a document that has failed has no text",
      ],
      [
        "of a passage beyond the text",
        [
          document({ id: failed.id }),
          text(failed.id, 0, "abc"),
          {
            type: "document_passages",
            document_id: failed.id,
            passages: [{ start: 1, end: 4, heading: "", tokens: 1 }],
          },
        ],
        "line 4: a passage lies outside of the document's text",
      ],
      [
        "with more than a whole number holds",
        [memory({ tokens: 1e300 })],
        "line 2: memory.tokens must be at most 9007199254740991",
      ],
      [
        "with a time beyond all time",
        [memory({ created_at: 2 ** 53 })],
        "line 2: memory.created_at must be at most 9007199254740991",
      ],
      [
        "of a turn without what it took",
        [other, { ...turned, spent: undefined }],
        "line 3: turn.spent is required",
      ],
      [
        "of a turn that earned something",
        [other, turn(other.id, { spent: { ...turned.spent, cost_nano_usd: -1 } })],
        "line 3: turn.spent.cost_nano_usd must be at least 0",
      ],
      [
        "of a ledger entry of an unknown kind",
        [{ ...entry(), kind: "gift" }],
        "line 2: ledger_entry.kind must be one of: turn, memory, summary",
      ],
      [
        "of a ledger entry that runs, which nobody would end",
        [{ ...entry(), status: "running" }],
        "line 2: ledger_entry.status must be one of: completed, ",
      ],
      [
        "of a ledger entry that reserves",
        [{ ...entry(), reserved_tokens: 5 }],
        "line 2: ledger_entry.reserved_tokens is not a known property",
      ],
      [
        "of a ledger entry whose user is unknown",
        [entry({ user_id: "nobody" })],
        "line 2: its user is neither in the file before it nor in the database",
      ],
      [
        "of a ledger entry whose workspace is unknown",
        [entry({ workspace_id: "other", user_id: null })],
        "line 2: its workspace is neither in the file before it nor in the database",
      ],
      [
        "of a budget whose workspace is unknown",
        [budget({ workspace_id: "other" })],
        "line 2: its workspace is neither in the file before it nor in the database",
      ],
      [
        "of a budget of nobody",
        [{ ...budget(), scope: "world" }],
        "line 2: budget.scope must be one of: user, key, workspace",
      ],
      [
        "of a budget with an unknown limit",
        [{ ...budget(), limits: { euros_day: 1 } }],
        "line 2: budget.limits.euros_day is not a known property",
      ],
      [
        "of a budget with a limit below nothing",
        [budget({ limits: { tokens_day: -1 } })],
        "line 2: budget.limits.tokens_day must be at least 0",
      ],
      [
        "of a budget that comes twice",
        [budget({ subject: "eve" }), budget({ subject: "eve", limits: {} })],
        "line 3: it was in the file before",
      ],
      [
        "of a counter that reserves",
        [{ ...counter(), reserved_tokens: 5 }],
        "line 2: budget_counter.reserved_tokens is not a known property",
      ],
      [
        "of a counter with a name for its scope",
        [counter({ scope: "ada" })],
        "line 2: budget_counter.scope has a form that is not allowed",
      ],
      [
        "of a counter of no month",
        [counter({ period: "2026-13" })],
        "line 2: budget_counter.period has a form that is not allowed",
      ],
      [
        "of a counter that comes twice",
        [counter({ period: "2026-10" }), counter({ period: "2026-10" })],
        "line 3: it was in the file before",
      ],
    ];
    for (const [what, lines, fault] of cases) {
      test(what, () => expectFault(whole(lines), fault));
    }

    test("that is longer than any record, which isn't held in memory", async () => {
      const long = { ...memory(), text: "x".repeat(70 * 2 ** 20) };
      await expectRefused(whole([long, memory()]), ["line 2: it is longer than 64 MiB"]);
      // Nor is a line that never ends.
      const endless = Bun.spawn([process.execPath, "src/main.ts", "import", "-"], {
        env: envOf(place),
        stdin: "pipe",
        stdout: "ignore",
        stderr: "pipe",
      });
      endless.stdin.write(`${lineOf(header)}\n{"type":"`);
      const piece = "x".repeat(2 ** 20);
      for (let mebibyte = 0; mebibyte < 400; mebibyte++) {
        endless.stdin.write(piece);
        await endless.stdin.flush();
      }
      expect(memoryOf(endless.pid)).toBeLessThan(400 * 2 ** 20);
      endless.stdin.end();
      expect(await new Response(endless.stderr).text()).toContain("line 2: it is longer than 64 MiB");
    });
  });

  describe("faults", () => {
    test("are told for all lines, and once for what hangs together", async () => {
      const faulty = conversation({ title: 5 as unknown as string });
      const dangling = conversation({ user_id: "nobody" });
      const lines = [
        faulty,
        turn(faulty.id),
        turn(faulty.id),
        dangling,
        turn(dangling.id),
        memory(),
        memory({ text: "\0" }),
      ];
      await expectRefused(whole(lines), [
        "line 2: conversation.title must be a string",
        "line 5: its user is neither in the file before it nor in the database",
        "line 8: memory.text must not contain NUL or unpaired surrogates",
      ]);
    });

    test("are told up to a number", async () => {
      const faults = Array.from({ length: 64 }, (_, index) => `line ${index + 2}: it is no JSON object`);
      await expectRefused(whole(Array(1_000).fill("0")), faults);
    });

    test("hold no text of a record, and no terminal's control characters", async () => {
      const secret = "\x1b]0;secret\x07";
      await expectRefused(whole([{ ...memory(), [secret]: secret }]), [
        "line 2: memory.(unnamed) is not a known property",
      ]);
    });
  });

  test("nothing of all that was imported", async () => {
    expect(await exported(place)).toBe(before);
  });

  test("equal entries of the ledger are as many as the file with most of them has", async () => {
    const other = await newPlace();
    const request = entry({ kind: "summary", duration_ms: 5 });
    const nobodys = entry({ kind: "memory", user_id: null, conversation_id: null, cost_nano_usd: 0 });
    const entriesAfter = async (lines: unknown[]) => {
      writeFileSync(file, whole([user, ...lines]));
      expect((await keep(other, ["import", file])).exitCode).toBe(0);
      return (await exported(other))
        .split("\n")
        .filter((line) => line.startsWith('{"type":"ledger_entry"'))
        .map((line) => JSON.parse(line) as ArchivedEntry);
    };
    const two = [request, request, nobodys];
    expect(await entriesAfter(two)).toEqual(two);
    expect(await entriesAfter(two)).toEqual(two);
    const more = [nobodys, request, { ...request, first_token_ms: 0 }, request, request];
    const all = [...two, more[2]!, request];
    expect(await entriesAfter(more)).toEqual(all);
    expect(await entriesAfter([request])).toEqual(all);
  });

  test("budgets and what was spent of them stay as they are where they are", async () => {
    const other = await newPlace();
    const [mine, theirs] = [1, 2].map((amount) => [
      budget({ limits: { tokens_day: amount } }),
      counter({ used_tokens: amount }),
    ]);
    for (const lines of [mine!, [...theirs!, budget({ scope: "key", subject: "ada" })]]) {
      writeFileSync(file, whole(lines));
      expect((await keep(other, ["import", file])).exitCode).toBe(0);
    }
    const records = (await exported(other)).trimEnd().split("\n").slice(2, -1);
    expect(records.map((line) => JSON.parse(line))).toEqual([
      budget({ scope: "key", subject: "ada" }),
      ...mine!,
    ]);
  });

  test("what is whole goes in, whatever it says", async () => {
    const other = await newPlace();
    const talk = conversation({ user_id: "bobby'); drop table users; --", title: '"NEAR(" OR *' });
    const lines = [
      { ...user, user_id: talk.user_id, metadata: { constructor: "x", toString: "y" } },
      talk,
      turn(talk.id, {
        message: { id: newId("message"), content: "\u202e\u2028<script> 😀 \r\n", tokens: 1 },
      }),
    ];
    writeFileSync(file, whole(lines));
    expect((await keep(other, ["import", file])).exitCode).toBe(0);
    const records = (await exported(other)).trimEnd().split("\n").slice(2, -1);
    expect(records.map((line) => JSON.parse(line))).toEqual(lines);
  });
});
