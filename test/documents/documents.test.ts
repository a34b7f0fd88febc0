/** Documents over HTTP: added, versioned, listed, searched, deleted. */
import { Database } from "bun:sqlite";
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { DocumentView } from "../../src/documents/schema.ts";
import type { Problem } from "../../src/http/problem.ts";
import { endlessDocument } from "../support/documents.ts";
import { addDocument, type SearchResult, search, settled, textOf, upload } from "../support/library.ts";
import { rawRequest } from "../support/raw-client.ts";
import { type Service, startService, testMsMax, until } from "../support/service.ts";

setDefaultTimeout(testMsMax);

const guide = `# Guide 😀

Read this first.

## Install

### Linux

Run \`./install.sh\` as root. It takes two minutes.

### macOS

Use Homebrew.

## Refunds

Devices may be returned within thirty days.
`;

let service: Service;
beforeAll(async () => {
  service = await startService();
});
afterAll(() => service[Symbol.asyncDispose]());

describe("a document", () => {
  test("is added, read, listed and deleted", async () => {
    const added = await service.post<DocumentView>("/v1/documents", {
      name: "guide.md",
      text: guide,
      collection: "first",
      metadata: { team: "support" },
    });
    expect(added.status).toBe(201);
    expect(added.headers.get("location")).toBe(`/v1/documents/${added.body.id}`);
    expect(added.body).toEqual({
      id: expect.stringMatching(/^doc_/),
      object: "document",
      name: "guide.md",
      collection: "first",
      user_id: null,
      status: "ready",
      progress: 1,
      error: null,
      version: 1,
      media_type: "text/markdown",
      metadata: { team: "support" },
      bytes: Buffer.byteLength(guide),
      length: guide.length,
      passage_count: 4,
      created_at: expect.any(Number),
      updated_at: expect.any(Number),
    });
    const { id } = added.body;
    expect((await service.get(`/v1/documents/${id}`)).body).toEqual(added.body);
    expect(await textOf(service, id)).toBe(guide);
    const list = await service.get<unknown>("/v1/documents?collection=first");
    expect(list.body).toEqual({ documents: [added.body], has_more: false, next_after: null });
    const gone = await service.send("DELETE", `/v1/documents/${id}`);
    expect([gone.status, gone.body]).toEqual([
      200,
      { status: "deleted", id, object: "document.deleted", deleted: true },
    ]);
    for (const path of [`/v1/documents/${id}`, `/v1/documents/${id}/text`]) {
      expect((await service.get<Problem>(path)).body.code).toBe("not_found");
    }
    expect((await service.send("DELETE", `/v1/documents/${id}`)).status).toBe(404);
    expect(await search(service, "install linux", { collections: ["first"] })).toEqual([]);
  });

  test("is found by its passages, whose quotes are exactly its text from start to end", async () => {
    const { id } = await addDocument(service, { name: "quotes.md", text: guide, collection: "quotes" });
    const results = await search(service, "How do I install it on Linux?", { collections: ["quotes"] });
    expect(results[0]).toMatchObject({
      document_id: id,
      name: "quotes.md",
      heading: expect.stringContaining("Linux"),
    });
    expect(results[0]!.quote).toContain("./install.sh");
    const text = await textOf(service, id);
    for (const { quote, start, end } of results) expect(quote).toBe(text.slice(start, end));
    expect(results.map(({ score }) => score)).toEqual(
      results.map(({ score }) => score).toSorted((a, b) => b - a),
    );
  });

  test("of the same content changes nothing; other content is a new version under the same id", async () => {
    const first = await addDocument(service, {
      name: "v.md",
      text: "The code word is apple.",
      collection: "v",
    });
    const again = await service.post<DocumentView>("/v1/documents", {
      name: "v.md",
      text: "The code word is apple.",
      collection: "v",
    });
    expect([again.status, again.body]).toEqual([200, first]);
    const second = await service.post<DocumentView>("/v1/documents", {
      name: "v.md",
      text: "The code word is banana.",
      collection: "v",
    });
    expect([second.status, second.body.id, second.body.version]).toEqual([200, first.id, 2]);
    const found = await search(service, "code word", { collections: ["v"] });
    expect(found.map(({ quote }) => quote)).toEqual(["The code word is banana."]);
    expect(await textOf(service, first.id)).toBe("The code word is banana.");
    const other = await addDocument(service, {
      name: "v.md",
      text: "The code word is apple.",
      collection: "w",
    });
    expect(other.id).not.toBe(first.id);
  });

  test("with other metadata is a new version too, which the filter finds", async () => {
    const about = { name: "m.md", text: "Opening hours are nine to five.", collection: "m" };
    await addDocument(service, { ...about, metadata: { year: "2025" } });
    const next = await addDocument(service, {
      ...about,
      metadata: { year: "2026", "odd key \"*'": "a:b OR c" },
    });
    expect(next.version).toBe(2);
    const hours = (filter: Record<string, string>) =>
      search(service, "opening hours", { collections: ["m"], filter });
    expect(await hours({ year: "2026" })).toHaveLength(1);
    expect(await hours({ year: "2026", "odd key \"*'": "a:b OR c" })).toHaveLength(1);
    expect(await hours({ year: "2025" })).toEqual([]);
    expect(await hours({ year: "2026", other: "x" })).toEqual([]);
  });

  test("of one user is no other's: neither found nor taken for the same", async () => {
    const secret = { name: "diary.txt", text: "Ada hid the treasure under the oak.", collection: "d" };
    const hers = await addDocument(service, { ...secret, user_id: "ada" });
    expect(hers.user_id).toBe("ada");
    const his = await addDocument(service, { ...secret, text: "Bob likes tea.", user_id: "bob" });
    expect(his.id).not.toBe(hers.id);
    const treasure = (user_id?: string) => search(service, "treasure oak", { collections: ["d"], user_id });
    expect((await treasure("ada")).map(({ document_id }) => document_id)).toEqual([hers.id]);
    expect(await treasure("bob")).toEqual([]);
    expect(await treasure()).toEqual([]);
    const listed = await service.get<{ documents: DocumentView[] }>("/v1/documents?user_id=bob");
    expect(listed.body.documents.map(({ id }) => id)).toEqual([his.id]);
  });
});

test("the list goes on in pages, last changed first", async () => {
  const ids: string[] = [];
  for (let index = 0; index < 5; index++) {
    ids.push(
      (await addDocument(service, { name: `${index}.txt`, text: `Page ${index}`, collection: "p" })).id,
    );
  }
  const seen: string[] = [];
  let after = "";
  for (;;) {
    const { body } = await service.get<{ documents: DocumentView[]; next_after: string | null }>(
      `/v1/documents?collection=p&limit=2${after}`,
    );
    seen.push(...body.documents.map(({ id }) => id));
    if (body.next_after === null) break;
    after = `&after=${body.next_after}`;
  }
  expect(seen).toEqual(ids.toReversed());
});

describe("while a new version comes", () => {
  /** A document of many passages, each of which says which version it is of. */
  const versionOf = (word: string): string =>
    Array.from({ length: 400 }, (_, index) => `## Part ${index}\n\nThe marker of this one is ${word}.`).join(
      "\n\n",
    );

  test("no search sees two, or half of one", async () => {
    const about = { name: "long.md", collection: "long" };
    await addDocument(service, { ...about, text: versionOf("amber") });
    let changing = true;
    const seen = new Set<string>();
    const looking = (async () => {
      while (changing) {
        const found = await search(service, "marker amber violet indigo", {
          collections: ["long"],
          limit: 50,
        });
        const words = new Set(found.map(({ quote }) => /is (\w+)\.$/.exec(quote)![1]!));
        expect([found.length, words.size]).toEqual([50, 1]);
        seen.add([...words][0]!);
      }
    })();
    for (const word of ["violet", "indigo"]) await addDocument(service, { ...about, text: versionOf(word) });
    changing = false;
    await looking;
    expect([...seen].length).toBeGreaterThan(1);
    const last = await search(service, "marker", { collections: ["long"], limit: 50 });
    expect(last.every(({ quote }) => quote.includes("indigo"))).toBe(true);
  });

  test("of two at once one stands, whole", async () => {
    const about = { name: "race.md", collection: "race" };
    const words = ["one", "two", "three", "four"];
    const answers = await Promise.all(
      words.map((word) => service.post<DocumentView>("/v1/documents", { ...about, text: versionOf(word) })),
    );
    expect(answers.every(({ status }) => status <= 202)).toBe(true);
    const document = await settled(service, answers[0]!.body);
    expect(document.status).toBe("ready");
    const found = await search(service, "marker", { collections: ["race"], limit: 50 });
    expect(new Set(found.map(({ quote }) => /is (\w+)\.$/.exec(quote)![1]))).toHaveProperty("size", 1);
    expect(document.passage_count).toBe(400);
  });
});

describe("in the background", () => {
  const big = Array.from({ length: 6_000 }, (_, index) => `Entry ${index}: the ferry leaves at noon.`).join(
    "\n\n",
  );

  test("a document is taken with 202, and its progress can be read until it is ready", async () => {
    await using own = await startService({ env: { PARLEY_DOCUMENT_WAIT_SECONDS: "0" } });
    const answer = await own.post<DocumentView>("/v1/documents", { name: "big.txt", text: big });
    expect([answer.status, answer.body.status]).toEqual([202, "processing"]);
    expect(answer.headers.get("location")).toBe(`/v1/documents/${answer.body.id}`);
    expect(await textOf(own, answer.body.id)).toBe("");
    const ready = await settled(own, answer.body);
    expect(ready).toMatchObject({ status: "ready", progress: 1, length: big.length });
    expect(ready.passage_count).toBeGreaterThan(100);
    expect(await textOf(own, ready.id)).toBe(big);
  });

  test("a failure is told by its status, and the version before it stays", async () => {
    await using own = await startService({ env: { PARLEY_DOCUMENT_WAIT_SECONDS: "0" } });
    const { body } = await upload(own, "a.pdf", "%PDF-1.7\nbroken", { name: "report" });
    const failed = await settled(own, body);
    expect(failed).toMatchObject({ status: "failed", error: { code: "document_unreadable" } });
    const good = await settled(own, (await upload(own, "a.txt", "A good one.", { name: "report" })).body);
    expect([good.id, good.status, good.error]).toEqual([failed.id, "ready", null]);
    const worse = await settled(
      own,
      (await upload(own, "a.pdf", "%PDF-1.7\nworse", { name: "report" })).body,
    );
    expect([worse.id, worse.status]).toEqual([failed.id, "failed"]);
    expect((await search(own, "good")).map(({ quote }) => quote)).toEqual(["A good one."]);
  });

  test("one that is deleted or replaced before it is read leaves no upload", async () => {
    await using own = await startService({ env: { PARLEY_DOCUMENT_WAIT_SECONDS: "0" } });
    const uploads = (): string[] => readdirSync(join(own.dataDir, "uploads"));
    const { name, bytes } = endlessDocument();
    const text = Buffer.from(bytes).toString();
    const first = await upload(own, name, text);
    expect([first.body.status, uploads().length]).toEqual(["processing", 1]);
    await addDocument(own, { name, text: "Short.", media_type: "text/plain" });
    await until("the first upload is gone", () => uploads().length === 0);
    const second = await upload(own, "other.html", text);
    expect(uploads().length).toBe(1);
    expect((await own.send("DELETE", `/v1/documents/${second.body.id}`)).status).toBe(200);
    expect(uploads()).toEqual([]);
  });

  test("what a kill interrupts is taken up again, and stored once", async () => {
    await using own = await startService({ env: { PARLEY_DOCUMENT_WAIT_SECONDS: "0" } });
    const { body } = await own.post<DocumentView>("/v1/documents", { name: "big.txt", text: big });
    await until("some of it is stored", async () => {
      const { progress } = (await own.get<DocumentView>(`/v1/documents/${body.id}`)).body;
      return progress > 0.2;
    });
    await own.kill();
    await own.restart();
    const ready = await settled(own, body);
    expect(ready).toMatchObject({ status: "ready", version: 1, length: big.length });
    expect(await textOf(own, ready.id)).toBe(big);
    const { results } = (
      await own.post<{ results: SearchResult[] }>("/v1/documents/search", { query: "Entry 4321", limit: 50 })
    ).body;
    expect(results.filter(({ quote }) => quote.includes("Entry 4321:"))).toHaveLength(1);
    expect(readdirSync(join(own.dataDir, "uploads"))).toEqual([]);
  });
});

test("nothing of a deleted or replaced document is left in the files", async () => {
  await using own = await startService();
  const words = ["wordofoldtext", "wordofnewtext", "wordofname", "wordofmetadata", "wordofheading"];
  const [old, present, name, metadata, heading] = words;
  const about = { name: `${name}.md`, metadata: { key: metadata! } };
  const text = (word: string): string => `# ${heading}\n\n${`The ${word} is here. `.repeat(500)}`;
  await addDocument(own, { ...about, text: text(old!) });
  const { id } = await addDocument(own, { ...about, text: text(present!) });
  expect((await own.send("DELETE", `/v1/documents/${id}`)).status).toBe(200);
  await own.stop();
  // The last connection that closes moves the WAL into the database.
  using db = new Database(join(own.dataDir, "parley.db"));
  expect(db.query<{ busy: number }, []>("pragma wal_checkpoint(truncate)").get()?.busy).toBe(0);
  for (const file of readdirSync(own.dataDir, { recursive: true, withFileTypes: true })) {
    if (!file.isFile()) continue;
    const bytes = Buffer.from(await Bun.file(join(file.parentPath, file.name)).arrayBuffer());
    for (const word of words)
      expect([file.name, word, bytes.includes(word)]).toEqual([file.name, word, false]);
  }
});

describe("an upload", () => {
  test("is a file with fields beside it", async () => {
    const answer = await upload(
      service,
      "C:\\files\\notes.csv",
      "city,country\nBern,Switzerland\nOslo,Norway\n",
      {
        collection: "up",
        metadata: '{"source":"crm"}',
      },
    );
    expect(answer.status).toBe(201);
    expect(answer.body).toMatchObject({
      name: "notes.csv",
      collection: "up",
      media_type: "text/csv",
      metadata: { source: "crm" },
    });
    const [found] = await search(service, "Which country is Oslo in?", { collections: ["up"] });
    expect(found!.quote).toContain("Norway");
  });

  test.each<[string, (form: FormData) => void, string[]]>([
    ["without a file", (form) => form.set("name", "a"), ["body.file is required"]],
    ["with a text as file", (form) => form.set("file", "text"), ["body.file must be a file"]],
    [
      "with two files",
      (form) => {
        form.append("file", new Blob(["a"]), "a.txt");
        form.append("file", new Blob(["b"]), "b.txt");
      },
      ["body.file must be given once"],
    ],
    [
      "with a file as a field",
      (form) => {
        form.set("file", new Blob(["a"]), "a.txt");
        form.set("collection", new Blob(["a"]), "c.txt");
      },
      ["body.collection must be a field, not a file"],
    ],
    [
      "with unknown and wrong fields",
      (form) => {
        form.set("file", new Blob(["a"]), "a.txt");
        form.set("colour", "red");
        form.set("metadata", "[1]");
        form.set("collection", " ");
      },
      [
        "body.collection must not be blank",
        "body.colour is not a known property",
        "body.metadata must be an object",
      ],
    ],
    [
      "with a name that is none",
      (form) => form.set("file", new Blob(["a"]), ".."),
      ["body.name is not the name of a file"],
    ],
  ])("%s is refused, with every fault", async (_case, fill, faults) => {
    const form = new FormData();
    fill(form);
    const response = await service.fetch("/v1/documents", { method: "POST", body: form });
    const problem = (await response.json()) as Problem;
    expect([response.status, problem.code]).toEqual([400, "invalid_request"]);
    expect(problem.errors?.map(({ path, message }) => `${path} ${message}`).toSorted()).toEqual(faults);
  });

  const multipart = "multipart/form-data; boundary=b";
  test.each<[string, string, string, number, string]>([
    [
      "of many parts",
      multipart,
      `${"--b\r\ncontent-disposition: form-data; name=a\r\n\r\nx\r\n".repeat(100_000)}--b--\r\n`,
      400,
      "invalid_request",
    ],
    ["without a boundary", "multipart/form-data; charset=utf-8", "x", 400, "invalid_request"],
    ["that is no multipart", multipart, "nothing of the kind", 400, "invalid_request"],
    ["that is empty", multipart, "", 400, "invalid_request"],
    ["as a form", "application/x-www-form-urlencoded", "name=a&text=b", 415, "unsupported_media_type"],
    ["as plain text", "text/plain", "text", 415, "unsupported_media_type"],
    ["as broken JSON", "application/json", '{"name":', 400, "malformed_json"],
  ])("%s is refused", async (_case, type, body, status, code) => {
    const response = await service.fetch("/v1/documents", {
      method: "POST",
      headers: { "content-type": type },
      body,
    });
    expect([response.status, ((await response.json()) as Problem).code]).toEqual([status, code]);
  });

  test("larger than may be is refused before it is read, and JSON sooner than a file", async () => {
    const head = (type: string, length: number): string =>
      `POST /v1/documents HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: ${type}\r\ncontent-length: ${length}\r\n\r\n`;
    for (const request of [head("application/json", 5 * 1024 * 1024), head(multipart, 33 * 1024 * 1024)]) {
      const answer = await rawRequest(service.port, request);
      expect([answer.status, (JSON.parse(answer.body) as Problem).code]).toEqual([413, "payload_too_large"]);
    }
    const text = "x".repeat(2 * 1024 * 1024);
    expect((await addDocument(service, { name: "two-mebibytes.txt", text })).length).toBe(text.length);
  });
});

describe("a search", () => {
  test("takes everything as words, whatever syntax it looks like", async () => {
    await addDocument(service, {
      name: "plain.md",
      text: "The walnut desk is in room nine.",
      collection: "syntax",
    });
    for (const query of [
      'walnut"',
      "walnut AND",
      "NOT walnut",
      "(walnut",
      "walnut*",
      "{scope}: walnut",
      "scope : walnut",
      'walnut" OR scope:"shared',
      "NEAR(walnut desk)",
      "walnut -desk ^room",
      "'; drop table documents; -- walnut",
    ]) {
      const found = await search(service, query, { collections: ["syntax"] });
      expect([query, found.length]).toEqual([query, 1]);
    }
    for (const query of ["shared", "u1", "the", "?!", "…"]) {
      const found = await search(service, query, { collections: ["syntax"] });
      expect([query, found.map(({ name }) => name).filter((name) => name !== "plain.md")]).toEqual([
        query,
        [],
      ]);
    }
  });

  test("finds inflected words, and words of scripts without spaces", async () => {
    const collection = "languages";
    await addDocument(service, {
      name: "en.md",
      text: "Deployments are rolled back automatically.",
      collection,
    });
    await addDocument(service, { name: "zh.md", text: "会议在星期四举行。", collection });
    await addDocument(service, {
      name: "de.md",
      text: "Rückgaben sind innerhalb von dreißig Tagen möglich.",
      collection,
    });
    const best = async (query: string) =>
      (await search(service, query, { collections: [collection] }))[0]?.name;
    expect(await best("How is a deployment rolled back?")).toBe("en.md");
    expect(await best("会议是哪天")).toBe("zh.md");
    expect(await best("ruckgaben moglich")).toBe("de.md");
  });
});
