import { describe, expect, test } from "bun:test";
import { expectNoFetchLimit } from "../support/fetch-limit.ts";
import { startService } from "../support/service.ts";

const root = new URL("../..", import.meta.url).pathname;
const bun = process.execPath;

/** The ways in which people start it; the binary is tested with the binary. */
const starts: Record<string, string[]> = {
  "bun src/main.ts": [bun, "src/main.ts"],
  "bun src/main.ts serve": [bun, "src/main.ts", "serve"],
  "bun run start": [bun, "run", "start"],
  "bun --watch": [bun, "--watch", "--no-clear-screen", "src/main.ts", "serve"],
};

describe("the limit of Bun's fetch is lifted", () => {
  for (const [name, command] of Object.entries(starts)) {
    test(`when started as ${name}`, async () => {
      // `bun run` looks for `bun` on the path.
      const env = { PATH: `${root}node_modules/.bin:${process.env.PATH}` };
      await expectNoFetchLimit({ command, env });
    });
  }

  test("by a restart in place: same pid, same arguments, same output, and the exit codes of the command", async () => {
    await using service = await startService({ command: [bun, "--smol", "src/main.ts", "serve"] });
    const listening = JSON.parse(service.logs[0]!) as { pid: number };
    expect(listening.pid).toBe(service.pid);
    const shown = await Bun.file(`/proc/${service.pid}/cmdline`).text();
    expect(shown.split("\0").slice(1, -1)).toEqual(["--smol", `${root}src/main.ts`, "serve"]);
    expect(await service.stop()).toBe(0);
    expect(service.logs.filter((line) => line.includes('"event":"listening"'))).toHaveLength(1);
  });

  test("and an own setting is left alone", async () => {
    await using service = await startService({ env: { BUN_CONFIG_MAX_HTTP_REQUESTS: "17" } });
    const environ = await Bun.file(`/proc/${service.pid}/environ`).text();
    expect(environ.split("\0")).toContain("BUN_CONFIG_MAX_HTTP_REQUESTS=17");
  });
});
