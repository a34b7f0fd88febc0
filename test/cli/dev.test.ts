import { describe, expect, test } from "bun:test";
import { appendFileSync, cpSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import packageJson from "../../package.json";
import { type Service, startService, temporaryDirectory, until } from "../support/service.ts";

const root = new URL("../..", import.meta.url).pathname;

const listeningLines = ({ logs }: Service): string[] =>
  logs.filter((line) => line.includes('"event":"listening"'));

/** Where the service listens after its n-th start. */
async function listening(service: Service, starts: number): Promise<{ url: string; pid: number }> {
  await until(`it listens for the ${starts}. time`, () => listeningLines(service).length >= starts);
  return JSON.parse(listeningLines(service)[starts - 1]!) as { url: string; pid: number };
}

describe("bun dev", () => {
  test("starts again when a source or a migration changes, on the same data", async () => {
    const copy = temporaryDirectory();
    for (const name of ["src", "package.json", "tsconfig.json"]) {
      cpSync(join(root, name), join(copy, name), { recursive: true });
    }
    symlinkSync(join(root, "node_modules"), join(copy, "node_modules"));
    const [program, ...args] = packageJson.scripts.dev.split(" ");
    expect(program).toBe("bun");
    try {
      await using service = await startService({ command: [process.execPath, ...args], cwd: copy });
      const { body } = await service.post<{ conversation_id: string }>("/v1/chat", {
        user_id: "ada",
        message: "Will this last?",
      });
      for (const [index, file] of [
        "chat/context.ts",
        "app.ts",
        "storage/migrations/sqlite/0001_turns.sql",
      ].entries()) {
        appendFileSync(join(copy, "src", file), "\n// changed\n");
        const { url, pid } = await listening(service, index + 2);
        expect(pid).toBe(service.pid);
        const kept = await fetch(`${url}/v1/conversations/${body.conversation_id}`);
        expect(kept.status).toBe(200);
        expect(await kept.json()).toMatchObject({ user_id: "ada", message_count: 2 });
        const more = await fetch(`${url}/v1/chat`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ user_id: "eve", message: "Hello" }),
        });
        expect(more.status).toBe(200);
      }
      expect(await service.stop()).toBe(0);
    } finally {
      rmSync(copy, { recursive: true, force: true });
    }
  });
});
