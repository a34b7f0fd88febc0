/** parley ingest, against the real service. */
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { DocumentView } from "../../src/documents/schema.ts";
import { runParley, type Service, startService, temporaryDirectory, testMsMax } from "../support/service.ts";

setDefaultTimeout(testMsMax);

const folder = temporaryDirectory();
const key = "a-key-for-the-tests-of-ingest";
let service: Service;

beforeAll(async () => {
  service = await startService({ env: { PARLEY_API_KEYS: key } });
  mkdirSync(join(folder, "guide", "linux"), { recursive: true });
  mkdirSync(join(folder, ".git"));
  for (const [path, content] of Object.entries({
    "readme.md": "# Kestrel\n\nThe kestrel hovers.",
    "guide/install.md": "Install the kestrel with care.",
    "guide/linux/install.md": "On Linux the kestrel needs root.",
    "prices.csv": "bird,price\nkestrel,12\nosprey,40\n",
    ".git/secret.md": "hidden kestrel",
    "picture.png": "no document",
  }))
    writeFileSync(join(folder, path), content);
});
afterAll(async () => {
  await service[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

const ingest = (...args: string[]) =>
  runParley(["ingest", ...args, "--url", service.url], {
    PATH: process.env.PATH ?? "",
    PARLEY_API_KEYS: key,
  });

const documents = async (): Promise<DocumentView[]> => {
  const headers = { authorization: `Bearer ${key}` };
  return (await service.get<{ documents: DocumentView[] }>("/v1/documents?limit=100", headers)).body
    .documents;
};

test("takes what is in a folder and below it, names it by its path, and skips what is there already", async () => {
  const first = await ingest(folder, "--collection", "birds");
  expect([first.exitCode, first.stderr, first.stdout]).toEqual([
    0,
    "",
    "4 added, 0 updated, 0 unchanged, 0 failed\n",
  ]);
  const added = await documents();
  expect(added.map(({ name }) => name).toSorted()).toEqual([
    "guide > install.md",
    "guide > linux > install.md",
    "prices.csv",
    "readme.md",
  ]);
  expect(added.every(({ collection, status }) => collection === "birds" && status === "ready")).toBe(true);
  writeFileSync(join(folder, "prices.csv"), "bird,price\nkestrel,13\n");
  const second = await ingest(folder, "--collection", "birds");
  expect(second.stdout).toBe("0 added, 1 updated, 3 unchanged, 0 failed\n");
  expect((await documents()).find(({ name }) => name === "prices.csv")!.version).toBe(2);
});

test("goes on past what can't be read, lists it, and fails then", async () => {
  const broken = join(folder, "broken.pdf");
  writeFileSync(broken, "%PDF-1.7\nnothing more");
  const gone = join(folder, "gone.md");
  const { exitCode, stdout, stderr } = await ingest(broken, gone, join(folder, "readme.md"));
  rmSync(broken);
  expect([exitCode, stdout]).toEqual([1, "1 added, 0 updated, 0 unchanged, 2 failed\n"]);
  const lines = stderr.trim().split("\n");
  expect(lines).toHaveLength(2);
  expect(lines[0]).toStartWith(`parley: ${broken}: `);
  expect(lines[1]).toStartWith(`parley: ${gone}: ENOENT`);
});

test("takes no two files under one name", async () => {
  const two = [join(folder, "guide", "install.md"), join(folder, "guide", "linux", "install.md")];
  const { exitCode, stdout, stderr } = await ingest(...two, ...two, "--collection", "two");
  expect([exitCode, stdout]).toEqual([1, "1 added, 0 updated, 0 unchanged, 2 failed\n"]);
  expect(stderr).toContain(`parley: ${two[1]}: has the name of ${two[0]}\n`);
});

test("gives documents to a user", async () => {
  expect((await ingest(join(folder, "readme.md"), "--user", "ada", "--collection", "hers")).exitCode).toBe(0);
  const [own] = (await documents()).filter(({ collection }) => collection === "hers");
  expect(own!.user_id).toBe("ada");
});

test("says in a line what is wrong with its arguments or the service", async () => {
  const nowhere = await runParley(["ingest", folder, "--url", "http://127.0.0.1:1"], {
    PATH: process.env.PATH ?? "",
  });
  expect([nowhere.exitCode, nowhere.stdout]).toEqual([1, ""]);
  expect(nowhere.stderr).toMatch(/^parley: can't reach http:\/\/127\.0\.0\.1:1: .*\n$/);
  const wrongKey = await runParley(["ingest", folder, "--url", service.url], {
    PATH: process.env.PATH ?? "",
    PARLEY_API_KEYS: "another-key-than-it-has",
  });
  expect([wrongKey.exitCode, wrongKey.stderr]).toEqual([1, expect.stringContaining("Authorization: Bearer")]);
  const nothing = await runParley(["ingest"], { PATH: process.env.PATH ?? "" });
  expect([nothing.exitCode, nothing.stderr]).toEqual([2, expect.stringContaining("which files or folders?")]);
});
