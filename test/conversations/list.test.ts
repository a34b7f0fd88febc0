/** The list of conversations: last active first, by cursor; and the search in it. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import type { Conversation } from "../../src/conversations/schema.ts";
import { type ModelServer, startModelServer } from "../support/model-server.ts";
import { type Service, startService, testMsMax } from "../support/service.ts";
import { wholeTurn } from "../support/turns.ts";

setDefaultTimeout(testMsMax);

interface Page {
  conversations: Conversation[];
  has_more: boolean;
  next_after: string | null;
}

let model: ModelServer;
let service: Service;

beforeAll(async () => {
  model = startModelServer();
  service = await startService({ model });
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await model.close();
});

const list = async (query: Record<string, string>, prefix = "/v1"): Promise<Page> => {
  const { status, body } = await service.get<Page>(`${prefix}/conversations?${new URLSearchParams(query)}`);
  expect(status).toBe(200);
  return body;
};

/** All pages from a cursor on. */
async function all(query: Record<string, string>): Promise<Conversation[]> {
  const found: Conversation[] = [];
  for (let after: string | null = query.after ?? ""; after !== null; ) {
    const { conversations, has_more, next_after }: Page = await list({
      ...query,
      ...(after !== "" && { after }),
    });
    expect(has_more).toBe(next_after !== null);
    if (has_more) expect(conversations.length).toBe(Number(query.limit ?? 20));
    found.push(...conversations);
    after = next_after;
  }
  return found;
}

describe("250 conversations", () => {
  const user_id = "paging";
  let ids: string[];
  beforeAll(async () => {
    const created = [];
    // Many at the same millisecond: the id decides among them.
    for (let batch = 0; batch < 10; batch++) {
      created.push(
        ...(await Promise.all(
          Array.from({ length: 25 }, (_, index) =>
            service.post<Conversation>("/v1/conversations", {
              user_id,
              title: `Number ${batch * 25 + index}`,
            }),
          ),
        )),
      );
    }
    ids = created.map(({ body }) => body.id).toSorted();
  });

  test.each(["1", "7", "20", "100"])("in pages of %s: each once", async (limit) => {
    const found = await all({ user_id, limit });
    expect(found.map(({ id }) => id).toSorted()).toEqual(ids);
  });

  test("last active first", async () => {
    const found = await all({ user_id, limit: "100" });
    const times = found.map(({ last_message_at }) => last_message_at);
    expect(times).toEqual(times.toSorted((a, b) => b - a));
    const some = found[200]!.id;
    await wholeTurn(service, model, ["x"], { user_id, conversation_id: some });
    expect((await list({ user_id, limit: "1" })).conversations[0]!.id).toBe(some);
    expect((await list({ user_id, limit: "1" }, "")).conversations[0]!.id).toBe(some);
  });

  test("a page is 20 where no limit is given", async () => {
    expect((await list({ user_id })).conversations.length).toBe(20);
  });

  test("the pages stay stable while others become active: what was not seen yet and stays is seen once", async () => {
    const first = await list({ user_id, limit: "50" });
    const seen = first.conversations.map(({ id }) => id);
    const unseen = ids.filter((id) => !seen.includes(id));
    await wholeTurn(service, model, ["x"], { user_id, conversation_id: seen[3] });
    const moved = unseen[10]!;
    await wholeTurn(service, model, ["x"], { user_id, conversation_id: moved });
    await service.post("/v1/conversations", { user_id, title: "A new one" });
    const rest = await all({ user_id, limit: "50", after: first.next_after! });
    expect(rest.map(({ id }) => id).toSorted()).toEqual(unseen.filter((id) => id !== moved));
  });

  test("a cursor outlives its conversation", async () => {
    const { conversations, next_after } = await list({ user_id, limit: "30" });
    await service.send("DELETE", `/v1/conversations/${conversations.at(-1)!.id}`);
    const next = await list({ user_id, limit: "30", after: next_after! });
    expect(next.conversations.length).toBe(30);
    for (const { id } of conversations) expect(next.conversations.map(({ id }) => id)).not.toContain(id);
  });

  test("an unknown user has none", async () => {
    expect(await list({ user_id: "nobody" })).toEqual({
      conversations: [],
      has_more: false,
      next_after: null,
    });
  });
});

describe("the search", () => {
  const user_id = "searcher";
  const ids: Record<string, string> = {};
  const texts = {
    english: ["Planning the garden", "Tomatoes need sunlight and warmth."],
    chinese: ["我想学习中文语法", "北京是中国的首都。"],
    japanese: ["東京タワーに行きました", "これは機械学習の教科書です。"],
    thai: ["ภาษาไทยไม่มีช่องว่าง", "กรุงเทพเป็นเมืองหลวงของประเทศไทย"],
    arabic: ["مرحبا بالعالم", "القاهرة عاصمة مصر"],
    cyrillic: ["Привет, мир", "Москва слезам не верит"],
    accents: ["Déjà vu à la crème brûlée", "Größe und Übergrößen; Ångström"],
    korean: ["한국어 문법을 배워요", "서울은 대한민국의 수도입니다"],
    greek: ["Καλημέρα κόσμε", "Η Αθήνα είναι πρωτεύουσα"],
    hindi: ["नमस्ते दुनिया", "दिल्ली भारत की राजधानी है"],
    emoji: ["Party 🎉🎂 time", "Bring a 🎁 please"],
    code: ["How does foo_bar(baz) work in C++?", "user@example.com wrote snake_case-kebab 3.14"],
  };
  beforeAll(async () => {
    for (const [name, [message, reply]] of Object.entries(texts)) {
      ids[name] = (await wholeTurn(service, model, [reply!], { user_id, message: message! })).conversation_id;
    }
    const titled = await service.post<Conversation>("/v1/conversations", {
      user_id,
      title: "Quarterly zebra report",
    });
    ids.titled = titled.body.id;
  });
  const search = async (q: string): Promise<string[]> =>
    (await all({ user_id, q }))
      .map(({ id }) => Object.keys(ids).find((name) => ids[name] === id)!)
      .toSorted();

  const found: [q: string, ...names: string[]][] = [
    ["garden", "english"],
    ["GARDEN", "english"],
    ["tomatoes", "english"],
    ["sunlight tomatoes", "english"],
    ["tom", "english"],
    ["planning gar", "english"],
    ["zebra", "titled"],
    ["quarterly rep", "titled"],
    ["中文", "chinese"],
    ["学习", "chinese"],
    ["北京", "chinese"],
    ["首都", "chinese"],
    ["東京", "japanese"],
    ["機械", "japanese"],
    ["教科書", "japanese"],
    ["กรุงเทพ", "thai"],
    ["เมืองหลวง", "thai"],
    ["القاهرة", "arabic"],
    ["عاصمة مصر", "arabic"],
    ["москва", "cyrillic"],
    ["Привет", "cyrillic"],
    ["МИР", "cyrillic"],
    ["deja", "accents"],
    ["déjà", "accents"],
    ["brulee", "accents"],
    ["BRÛLÉE", "accents"],
    ["ubergro", "accents"],
    ["angstrom", "accents"],
    ["한국어", "korean"],
    ["서울", "korean"],
    ["αθηνα", "greek"],
    ["दिल्ली", "hindi"],
    ["नमस्ते", "hindi"],
    ["party", "emoji"],
    ["foo_bar", "code"],
    ["baz", "code"],
    ["example.com", "code"],
    ["user@example.com", "code"],
    ["3.14", "code"],
  ];
  test.each(found)("%p finds %s", async (q, ...names) => {
    expect(await search(q)).toEqual(names.toSorted());
  });

  test.each(["omatoes", "garden zebra", "tom planned", "nosuchword", "sunligh tomatoes", "東京 北京"])(
    "%p finds nothing: all words count, only the last one as a prefix",
    async (q) => {
      expect(await search(q)).toEqual([]);
    },
  );

  test.each(["", " ", "\t\n"])("%p is no filter", async (q) => {
    expect((await search(q)).length).toBe(Object.keys(ids).length);
  });

  const syntax = [
    '"',
    "'",
    '"garden',
    'garden"',
    '"garden tomatoes"',
    "'; drop table conversations; --",
    "garden AND zebra",
    "garden OR zebra",
    "NOT garden",
    "garden NOT tomatoes",
    "NEAR(garden tomatoes)",
    "NEAR(garden tomatoes, 5)",
    "garden*",
    "*",
    "* *",
    "^garden",
    "words:garden",
    "words : garden",
    "{words}: garden",
    "- garden",
    "-garden",
    "garden + tomatoes",
    "(garden",
    "garden)",
    "((",
    "garden\\",
    "%",
    "_",
    "$match",
    "?1",
    ":user_id",
    "@x",
    "garden\u0001tomatoes",
    "\ufeff",
    "\u200b",
    "🎉",
    "🎂🎂",
    "\u0301",
    "ﷺ",
    "𝒳",
    "İ",
    "ß",
    "_".repeat(500),
    '"'.repeat(500),
    "a ".repeat(250),
    "NEAR ".repeat(100),
  ];
  test.each(syntax)("%p is text like any other: 200, no syntax", async (q) => {
    const names = await search(q);
    for (const name of names) expect(Object.keys(ids)).toContain(name);
  });

  test("what looks like an operator is a word that must be there", async () => {
    expect(await search("garden OR zebra")).toEqual([]);
    expect(await search("NOT zebra")).toEqual([]);
    expect(await search("*garden*")).toEqual(["english"]);
    expect(await search('"garden" (tomatoes)')).toEqual([]);
    expect(await search('"tomatoes" (sunlight)')).toEqual(["english"]);
    expect(await search("C++")).toEqual(expect.arrayContaining(["code"]));
  });

  test("pages by cursor, in the order of activity", async () => {
    const created: string[] = [];
    for (let index = 0; index < 12; index++) {
      const { body } = await service.post<Conversation>("/v1/conversations", {
        user_id: "deep",
        title: `xylophone ${index}`,
      });
      created.unshift(body.id);
      // Within one millisecond ids decide, and ids made one after another are in order too.
    }
    const found = await all({ user_id: "deep", q: "xylophone", limit: "5" });
    expect(found.map(({ id }) => id)).toEqual(created);
  });

  test("follows changes: a new title is found, the old one is not, and nothing of a deleted conversation is", async () => {
    const chat = await wholeTurn(service, model, ["Of flamingos."], {
      user_id: "changer",
      message: "Of pelicans?",
    });
    const path = `/v1/conversations/${chat.conversation_id}`;
    const count = async (q: string): Promise<number> => (await all({ user_id: "changer", q })).length;
    expect([await count("pelicans"), await count("flamingos")]).toEqual([1, 1]);
    await service.send("PATCH", path, { title: "About ostriches" });
    expect([await count("ostriches"), await count("pelicans")]).toEqual([1, 1]);
    await service.send("PATCH", path, { title: "About emus" });
    expect([await count("ostriches"), await count("emus")]).toEqual([0, 1]);
    await service.send("DELETE", path);
    for (const q of ["emus", "pelicans", "flamingos"]) expect(await count(q)).toBe(0);
  });

  test("a partial reply is found too, when its turn has ended", async () => {
    model.failAfter(3, "end");
    await service.post("/v1/chat", { user_id: "partial", message: "Hello" });
    expect((await all({ user_id: "partial", q: "word2" })).length).toBe(1);
  });
});
