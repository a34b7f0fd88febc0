/** Searches in PostgreSQL where there is so much text that not all of it is looked at. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { messageLexemes, passageLexemes } from "../../src/storage/postgres/indexed.ts";
import { openPostgresStore } from "../../src/storage/postgres/store.ts";
import type { ConversationCursor, Store } from "../../src/storage/store.ts";
import { databasesOfFile } from "../support/postgres.ts";
import { testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

const messages = 30_000;
const perConversation = 20;
const scope = { workspace_id: "default", user_id: null };

const newDatabase = databasesOfFile();
let store: Store;
let sql: Bun.SQL;

/**
 * Conversations of two users in turn, the newest with the highest numbers. Of their messages all say `all`, half say
 * `half`, a few `few`; `early` are those of the beginning, and one says `lone`.
 */
beforeAll(async () => {
  const url = await newDatabase();
  store = await openPostgresStore(url);
  sql = new Bun.SQL(url, { max: 1 });
  await sql.unsafe(`
    select user_row('default', user_id, 1) from unnest(array['mia', 'eve']) user_id;
    insert into conversations (n, id, workspace_id, user_id, user_n, metadata, message_count, created_at, updated_at, last_active_ms)
      select c, 'conv_' || c, 'default', u.user_id, u.n, '{}', ${perConversation}, 1, 1, c
      from generate_series(1, ${messages / perConversation}) c join users u on u.user_id = (array['mia', 'eve'])[1 + c % 2];
    insert into messages (n, id, conversation_n, turn_id, seq, role, content, status, tokens, created_at)
      select m, 'msg_' || m, 1 + (m - 1) / ${perConversation}, '', 1 + (m - 1) % ${perConversation}, 'user', concat_ws(' ', 'all',
        case when m % 2 = 0 then 'half' end, case when m % 97 = 0 then 'few' end, case when m < 3000 then 'early' end,
        case when m = 12345 then 'lone' end), 'completed', 1, 1
      from generate_series(1, ${messages}) m;
    select count(index_message(n, true, content, content)) from messages;
  `);
});
afterAll(async () => {
  await sql.close();
  await store.close();
});

describe("the newest rows that hold something", () => {
  const newest = (from: string, matching: string) =>
    sql.unsafe<{ rows: string[] }[]>(
      `select array(select n from ${from} order by n desc limit 400) as rows from (select $1::text) m (matching)`,
      [matching],
    );
  const user = "11";
  const cases = {
    "that all hold": `'${user}all'`,
    "that half hold": `'${user}half'`,
    "that few hold": `'${user}few'`,
    "that only old ones hold": `'${user}early'`,
    "that one holds": `'${user}lone'`,
    "that none holds": `'${user}none'`,
    "that two together are": `'${user}half' & '${user}few'`,
    "that one of two is": `('${user}few' | '${user}lone')`,
  };
  for (const [name, matching] of Object.entries(cases)) {
    test(`${name} are found without going through all`, async () => {
      const [all] = await newest(
        "(select n from message_index where terms @@ matching::tsquery) h",
        matching,
      );
      for (const total of [null, messages / 2]) {
        const [found] = await newest(
          `unnest(newest_in_message_index(matching, array['${user}'], ${messages}, ${total}, null)) n`,
          matching,
        );
        expect(found!.rows).toEqual(all!.rows);
      }
    });
  }
});

describe("a search for conversations", () => {
  /** All that is found, page by page. */
  async function search(q: string, user_id: string | null): Promise<string[]> {
    const ids: string[] = [];
    let after: ConversationCursor | null = null;
    do {
      const page = await store.conversations(scope, { user_id, limit: 150, after, q });
      ids.push(...page.conversations.map(({ id }) => id));
      after = page.next;
    } while (after !== null);
    return ids;
  }
  const idsWhere = (holds: (message: number) => boolean, user: number | null): string[] => {
    const numbers = new Set<number>();
    for (let message = 1; message <= messages; message++) {
      const conversation = 1 + Math.floor((message - 1) / perConversation);
      if (holds(message) && (user === null || conversation % 2 === user)) numbers.add(conversation);
    }
    return [...numbers].sort((a, b) => b - a).map((number) => `conv_${number}`);
  };

  test("of many walks through them, of few looks them up, and finds the same, last active first", async () => {
    const cases: [q: string, holds: (message: number) => boolean][] = [
      ["all", () => true],
      ["half al", (message) => message % 2 === 0],
      ["few", (message) => message % 97 === 0],
      ["earl", (message) => message < 3000],
      ["lone", (message) => message === 12345],
      ["all none", () => false],
    ];
    for (const [q, holds] of cases) {
      expect(await search(q, null)).toEqual(idsWhere(holds, null));
      expect(await search(q, "mia")).toEqual(idsWhere(holds, 0));
      expect(await search(q, "eve")).toEqual(idsWhere(holds, 1));
      expect(await search(q, "nobody")).toEqual([]);
    }
  });

  test("tells apart what has very many matches", async () => {
    const decided = async (word: string, user_id: string | null) => {
      const [row] = await sql.unsafe<{ conversations: string[] | null }[]>(
        "select conversations from conversations_holding('default', $1, array[$2])",
        [user_id, word],
      );
      return row!.conversations === null ? "many" : "few";
    };
    expect(await decided("all", null)).toBe("many");
    expect(await decided("all", "mia")).toBe("many");
    expect(await decided("few", null)).toBe("few");
    expect(await decided("early", null)).toBe("few");
  });
});

test("recall in a very long history finds what is old and rare, of the user's own", async () => {
  const ask = async (user_id: string, q: string) =>
    (
      await store.recall({
        workspace_id: "default",
        user_id,
        q,
        vector: null,
        conversation_id: "",
        shown_from_seq: 1,
        limit: 5,
        now: 1,
      })
    ).map(({ message }) => message.content);
  expect((await ask("mia", "lone"))[0]).toBe("all lone");
  expect(await ask("eve", "lone")).toEqual([]);
  expect((await ask("eve", "early half few"))[0]).toBe("all half few early");
});

describe("what is more than a tsvector holds", () => {
  /** Whether a message's words are all there, as they are indexed: PostgreSQL says nothing where they have no room. */
  const isWhole = async (words: string): Promise<boolean> => {
    const [row] = await sql.unsafe<{ whole: boolean }[]>(
      `with given as (
           select with_code(scope_code(999999999999), $1) || with_code(workspace_code('x'), $1) as words),
         kept as (select tsvector_to_array(array_to_tsvector(words)) as words from given)
       select not exists (select unnest(words) from given except select unnest(words) from kept) as whole`,
      [words],
    );
    return row!.whole;
  };

  test("is cut: texts of a million characters, of long words and of nothing but different ones", async () => {
    const different = (count: number, word: (index: number) => string): string =>
      Array.from({ length: count }, (_, index) => word(index)).join(" ");
    const texts = [
      "x".repeat(1_000_000),
      different(150_000, (index) => `word${index}`),
      // Three bytes each in UTF-8.
      different(5_000, (index) => `${"ა".repeat(190)}${index}`),
    ];
    for (const text of texts) {
      for (const words of [
        messageLexemes(text).words,
        messageLexemes(text).terms,
        passageLexemes("", text),
      ]) {
        expect(words).not.toBe("");
        expect(await isWhole(words)).toBe(true);
      }
    }
  });
});
