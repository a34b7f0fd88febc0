/** What the README shows is what happens. */
import { describe, expect, test } from "bun:test";
import { rmSync } from "node:fs";
import { join } from "node:path";
import packageJson from "../package.json";
import { Exposition } from "./support/exposition.ts";
import { startInstances } from "./support/instances.ts";
import { programPath, skipsWithout } from "./support/needs.ts";
import { databasesOfFile } from "./support/postgres.ts";
import { runParley, type Service, startService, temporaryDirectory } from "./support/service.ts";

const root = new URL("..", import.meta.url).pathname;
const readme = await Bun.file(join(root, "README.md")).text();

const newDatabase = databasesOfFile();

const section = (title: string): string =>
  readme.split(/^## /m).find((text) => text.startsWith(`${title}\n`)) ?? "";

interface Example {
  script: string;
  language: string;
  output: string;
}

/** Each shell block and the block after it, which shows what it prints. */
const examplesIn = (text: string): Example[] =>
  [...text.matchAll(/```sh\n(.*?)```\n```(\w+)\n(.*?)```/gs)].map(([, script, language, output]) => ({
    script: script!,
    language: language!,
    output: output!,
  }));

/** Without what differs each time: the ids. */
const withoutIds = (text: string): string => text.replace(/\b(conv|turn|msg)_[0-9a-f-]{36}/g, "$1_…");

/** The events of a stream in their order, and the text of its tokens, however they were cut. */
function streamIn(text: string) {
  const frames = withoutIds(text).trim().replaceAll("\n…\n", "\n\n").split("\n\n");
  const tokens = frames.filter((frame) => frame.includes('data: {"token":'));
  const text_ = tokens.map((frame) => (JSON.parse(frame.split("data: ")[1]!) as { token: string }).token);
  return { others: frames.filter((frame) => !tokens.includes(frame)), text: text_.join("") };
}

const shellTools = ["bash", "curl", "cut", "grep", "head"];
const skipsShell = (): boolean =>
  skipsWithout(
    shellTools.join(", "),
    shellTools.every((program) => programPath(program) !== null),
  );

/** What examples print, one after the other in one shell, with a service where they expect one. */
async function printedBy(examples: readonly Example[], service: Service): Promise<string[]> {
  const directory = temporaryDirectory();
  const address = new URL(service.url).host;
  const script = examples
    .map(
      ({ script }, index) =>
        `{\n${script.replaceAll("localhost:8000", address)}} >${join(directory, `out-${index}`)}`,
    )
    .join("\n");
  try {
    const env = {
      PATH: `${join(root, "node_modules/.bin")}:${process.env.PATH}`,
      PORT: String(service.port),
      PARLEY_DATA_DIR: service.dataDir,
    };
    const shell = Bun.spawn(["bash", "-euo", "pipefail", "-c", script], { cwd: root, env, stderr: "pipe" });
    expect(await new Response(shell.stderr).text()).toBe("");
    expect(await shell.exited).toBe(0);
    return await Promise.all(examples.map((_, index) => Bun.file(join(directory, `out-${index}`)).text()));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

describe("the README", () => {
  test("begins with the two commands, each for npm and for bun", () => {
    const [install, tests] = readme.split("\n").slice(3);
    expect(install).toMatch(/^npm install && npm start +# bun install && bun start$/);
    expect(tests).toMatch(/^npm install && npm test +# bun install && bun run test$/);
    expect(Object.keys(packageJson.scripts)).toEqual(
      expect.arrayContaining(["start", "test", "dev", "check", "build", "bench"]),
    );
  });

  test.skipIf(skipsShell())("shows a first conversation that goes so, chat, stream and resume", async () => {
    await using service = await startService();
    const examples = examplesIn(section("A first conversation"));
    expect(examples.map(({ language }) => language)).toEqual(["json", "text", "text"]);
    for (const [index, printed] of (await printedBy(examples, service)).entries()) {
      const { language, output } = examples[index]!;
      if (language === "json") {
        expect(JSON.parse(withoutIds(printed))).toEqual(JSON.parse(withoutIds(output)));
      } else {
        const [shown, actual] = [streamIn(output), streamIn(printed)];
        expect(actual.others).toEqual(shown.others);
        expect(actual.text).toStartWith(shown.text);
      }
    }
  });

  test
    .skipIf(skipsShell())
    .each([
      ...["Memory", "Documents", "Who may do what", "Usage, limits and budgets"],
      ...["Keeping the data", "Operations"],
    ])("shows commands that do as shown: %s", async (title) => {
    const env = title === "Who may do what" ? { PARLEY_JWT_SECRET: "0123456789abcdef".repeat(4) } : {};
    await using service = await startService({ env });
    const examples = examplesIn(section(title));
    expect(examples.length).toBeGreaterThan(0);
    expect(await printedBy(examples, service)).toEqual(examples.map(({ output }) => output));
  });

  test.skipIf(skipsShell())("shows a turn that three instances share", async () => {
    await using instances = await startInstances(3, await newDatabase());
    const [example, ...others] = examplesIn(section("Many instances"));
    expect(others).toEqual([]);
    const [, second, third] = instances.all.map(({ url }) => new URL(url).host);
    expect(example!.script).toContain("localhost:8000");
    const script = example!.script.replace("localhost:8001", second!).replace("localhost:8002", third!);
    expect(await printedBy([{ ...example!, script }], instances.all[0]!)).toEqual([example!.output]);
  });

  test("lists every variable with its default", async () => {
    const rows = new Map(
      [...section("Configuration").matchAll(/^\| `([A-Z_]+)` \| (?:`([^`]*)`)? *\|/gm)].map(
        ([, name, value]) => [name!, value ?? ""] as const,
      ),
    );
    const { stdout } = await runParley(["config"], {
      PATH: process.env.PATH ?? "",
      OPENAI_API_KEY: "sk-test",
    });
    const defaults = stdout
      .trim()
      .split("\n")
      .map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)] as const);
    for (const [name, value] of defaults) {
      const shown = rows.get(name);
      const own = value === "(unset)" || name === "OPENAI_API_KEY" ? "" : value;
      expect({ name, shown }).toEqual({ name, shown: own.replace(join(root, "data"), "./data") });
    }
    expect([...rows.keys()].toSorted()).toEqual(defaults.map(([name]) => name).toSorted());
  });

  test("lists every metric, with its labels", async () => {
    await using service = await startService();
    await service.post("/v1/chat", { user_id: "ada", message: "Hello" });
    const { families } = new Exposition(await (await service.fetch("/metrics")).text());
    const rows = section("Operations").match(/^\| `(parley|process)_.*$/gm) ?? [];
    const listed = rows.flatMap((row) => {
      const [, names = "", labels = ""] = row.split("|");
      const inCode = (text: string): string[] => [...text.matchAll(/`([a-z_]+)`/g)].map(([, word]) => word!);
      return inCode(names).map((name) => ({ name, labels: inCode(labels.replace(/\(.*?\)/g, "")) }));
    });
    expect(listed.map(({ name }) => name).toSorted()).toEqual([...families.keys()].toSorted());
    for (const { name, labels } of listed) {
      const [sample] = families.get(name)!.samples;
      if (sample === undefined) continue;
      const { le: _, ...own } = sample.labels;
      expect({ name, labels: labels.toSorted() }).toEqual({ name, labels: Object.keys(own).toSorted() });
    }
  });

  test("lists every route that the service documents, and no other", async () => {
    await using service = await startService();
    const { body } = await service.get<{ paths: Record<string, Record<string, unknown>> }>("/openapi.json");
    const documented = Object.entries(body.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    const table = section("The API").match(/^\| `.*$/gm) ?? [];
    const listed = table.flatMap((row) =>
      [...row.split("|")[1]!.matchAll(/`([A-Z]+ [^`]+)`/g)].map(([, it]) => it!),
    );
    expect(listed.toSorted()).toEqual(documented.toSorted());
  });

  test("links only to files that are there", async () => {
    const links = [...readme.matchAll(/\]\(([^)#]+)\)/g)].map(([, path]) => path!);
    expect(links.length).toBeGreaterThan(1);
    for (const path of links) {
      expect({
        path,
        exists: await Bun.file(join(root, path.endsWith("/") ? `${path}README.md` : path)).exists(),
      }).toEqual({ path, exists: true });
    }
  });
});
