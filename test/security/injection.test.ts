/** SQL and full-text syntax in every string of the API: it is text, finds nothing of anybody else's, breaks nothing. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import type { ChatResponse } from "../../src/chat/schema.ts";
import type { DocumentView } from "../../src/documents/schema.ts";
import type { Memory } from "../../src/users/schema.ts";
import { apiDocument, type Spec } from "../support/openapi.ts";
import { type Service, startService } from "../support/service.ts";
import { type Known, type Place, stringPlaces } from "../support/string-places.ts";

setDefaultTimeout(60_000);

/** In everything of Ada's, and in nothing of Mallory's. */
const secret = "xylophonist";

const hostile = [
  "'",
  '"',
  "\\",
  "' or 1=1 --",
  '" or ""="',
  "'); delete from turns; --",
  "' union select sql from sqlite_master --",
  "ada' /*",
  "x' || (select text from memories) || '",
  "?1 :user_id $1 @scope",
  "%",
  "_",
  "null",
  "pragma writable_schema=1",
  `${secret}*`,
  `" OR ${secret}`,
  `nothinghere OR ${secret}`,
  `NEAR(${secret} ${secret}, 10)`,
  `scope:* words:${secret}`,
  `{words scope}: ${secret}`,
  `^${secret} -${secret} NOT nothing`,
  `("${secret}`,
  "AND OR NOT NEAR",
  "*",
  "\u2028{}[]^~+-:",
];
/** Of a request each. */
const atOnce = 20;

let service: Service;
let places: Place[];
let adas: { conversation: string; document: string; memory: string };

async function makeUser(user: string, words: string): Promise<Known> {
  const chat = await service.post<ChatResponse>("/v1/chat", { user_id: user, message: `I am a ${words}.` });
  const document = await service.post<DocumentView>("/v1/documents", {
    name: `${user}.txt`,
    text: `Notes of a ${words}.`,
    user_id: user,
  });
  const memory = await service.post<Memory>(`/v1/users/${user}/memories`, { text: `Works as a ${words}.` });
  return {
    user,
    turn: chat.body.turn_id,
    conversation: chat.body.conversation_id,
    document: document.body.id,
    memory: memory.body.id,
  };
}

/** All that is kept of a user, without when it was exported. */
const exportOf = async (user: string): Promise<string> =>
  (await (await service.fetch(`/v1/users/${user}/export`)).text()).replace(/"exported_at":\d+/, "");

beforeAll(async () => {
  service = await startService();
  adas = await makeUser("ada", secret);
  const mallory = await makeUser("mallory", "plumber");
  const document = apiDocument((await service.get<Spec>("/openapi.json")).body);
  places = stringPlaces(document, mallory);
});
afterAll(() => service[Symbol.asyncDispose]());

async function faultsOf(place: Place, text: string): Promise<string[]> {
  const { path, method, headers, body } = place.request(text);
  const response = await service.fetch(path, { method, headers, ...(body !== null && { body }) });
  const answer = await response.text();
  // It may say again what it was told, and no more.
  const told = answer.replaceAll(JSON.stringify(text).slice(1, -1), "").replaceAll(text, "");
  const isFault = response.status >= 500 || /(I am|Notes of|Works as) a xylo/.test(told);
  return isFault ? [`${place.name} ${text}: ${response.status} ${answer}`] : [];
}

test("in every string of every route it is text: refused as such, stored as such, and nobody else's is found", async () => {
  expect(places.length).toBeGreaterThan(60);
  const before = await exportOf("ada");
  const faults: string[] = [];
  // Erasing a user takes a moment each time. Text by text, so that not all documents come at once.
  const erases = (place: Place): boolean => place.name.startsWith("DELETE /v1/users/{user_id} ");
  const all = hostile.flatMap((text, index) =>
    places.filter((place) => index % 12 === 0 || !erases(place)).map((place) => ({ place, text })),
  );
  const next = all.values();
  const send = async (): Promise<void> => {
    for (const { place, text } of next) faults.push(...(await faultsOf(place, text)));
  };
  await Promise.all(Array.from({ length: atOnce }, send));
  expect(faults).toEqual([]);
  expect(await exportOf("ada")).toBe(before);
});

describe("full-text syntax in a search of one's own", () => {
  test.each([
    [`nothinghere" OR "${secret}`],
    [`nothinghere OR ${secret}`],
    [`${secret} NOT nothing`],
    [`words:${secret}`],
    [`^${secret}x`],
    [`NEAR(${secret} absent)`],
  ])("is made of words like any other: q=%s", async (q) => {
    const query = new URLSearchParams({ user_id: "ada", q });
    const { status, body } = await service.get<{ conversations: object[] }>(`/v1/conversations?${query}`);
    // Each of its words must be there, `OR` and `NOT` too.
    expect([status, body.conversations]).toEqual([200, []]);
  });

  test("of what is there, it finds the words in spite of it", async () => {
    for (const q of [`"${secret}`, `(${secret})`, `${secret}*`, `'${secret}'`, `^${secret}`]) {
      const query = new URLSearchParams({ user_id: "ada", q });
      const { body } = await service.get<{ conversations: { id: string }[] }>(`/v1/conversations?${query}`);
      expect({ q, ids: body.conversations.map(({ id }) => id) }).toEqual({ q, ids: [adas.conversation] });
    }
  });
});

test("after all of it the database is whole, and its tables and indexes agree", async () => {
  expect(await service.stop()).toBe(0);
  using db = new Database(join(service.dataDir, "parley.db"));
  expect(db.query("pragma integrity_check").all()).toEqual([{ integrity_check: "ok" }]);
  expect(db.query("pragma foreign_key_check").all()).toEqual([]);
  const tables = db
    .query<{ name: string; sql: string }, []>("select name, sql from sqlite_master where type = 'table'")
    .all();
  const indexes = tables.filter(({ sql }) => /using fts5/.test(sql ?? ""));
  expect(indexes.length).toBeGreaterThanOrEqual(3);
  for (const { name } of indexes) db.run(`insert into ${name}(${name}) values ('integrity-check')`);
  const kept = db.query<{ id: string }, []>("select id from conversations where user_id = 'ada'").all();
  expect(kept.map(({ id }) => id)).toEqual([adas.conversation]);
  expect(service.logs.filter((line) => line.includes('"level":"error"'))).toEqual([]);
});
