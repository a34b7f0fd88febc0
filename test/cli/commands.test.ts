import { describe, expect, test } from "bun:test";
import packageJson from "../../package.json";
import { runParley, startService } from "../support/service.ts";

const plain = { PATH: process.env.PATH ?? "" };
const key = "a-key-that-must-not-be-shown";

describe("the command line", () => {
  test("says what it can do, and each command what it takes", async () => {
    const { exitCode, stdout } = await runParley(["--help"], plain);
    expect(exitCode).toBe(0);
    const commands = [...stdout.matchAll(/^ {2}parley \[?(\w+)\]? /gm)].map(([, name]) => name!);
    expect(commands).toEqual([
      ...["serve", "chat", "ingest", "keys"],
      ...["backup", "restore", "export", "import", "migrate"],
      ...["health", "doctor", "config", "version"],
    ]);
    for (const name of commands) {
      const { exitCode, stdout } = await runParley([name, "--help"], plain);
      expect({ name, exitCode }).toEqual({ name, exitCode: 0 });
      expect(stdout).toStartWith(`parley ${name}`);
    }
  });

  test("prints the version", async () => {
    for (const word of ["version", "--version"]) {
      const { exitCode, stdout } = await runParley([word], plain);
      expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: `${packageJson.version}\n` });
    }
  });

  test("exits with 2 and one line where it is used wrongly", async () => {
    const wrong = [
      ["sing"],
      ["constructor"],
      ["--sing"],
      ["serve", "--port", "1"],
      ["version", "please"],
      ["config", "--all"],
      ["health", "--url"],
      ["chat", "--key", "secret", "hello"],
      ["chat", "--url", "file:///etc/passwd", "hello"],
      ["chat", ""],
      ["backup"],
      ["backup", "one", "another"],
      ["restore"],
      ["export", "one", "another"],
      ["import"],
      ["import", "file", "--force"],
    ];
    for (const args of wrong) {
      const { exitCode, stdout, stderr } = await runParley(args, plain);
      expect({ args, exitCode, stdout }).toEqual({ args, exitCode: 2, stdout: "" });
      expect(stderr).toMatch(/^parley: [^\n]+\n$/);
    }
  });

  test("config prints what is in force and no secret", async () => {
    const env = {
      ...plain,
      PORT: "8123",
      PARLEY_API_KEYS: `admin:${key},${key}-2`,
      OPENAI_API_KEY: key,
      OPENAI_BASE_URL: `http://ada:${key}@127.0.0.1:9/v1?key=${key}`,
      PARLEY_JWT_SECRET: `${key}-for-tokens-of-users`,
      PARLEY_TURN_SECONDS_MAX: "7",
    };
    const { exitCode, stdout } = await runParley(["config"], env);
    expect(exitCode).toBe(0);
    const lines = stdout.split("\n");
    expect(lines).toContain("PORT=8123");
    expect(lines).toContain("PARLEY_API_KEYS=admin:********,service:********");
    expect(lines).toContain("PARLEY_JWT_SECRET=********");
    expect(lines).toContain("PARLEY_TURN_SECONDS_MAX=7");
    expect(lines).toContain("OPENAI_BASE_URL=http://127.0.0.1:9/v1");
    expect(stdout).not.toContain(key);
  });

  test("config and serve tell every fault of the environment and exit with 1", async () => {
    const env = { ...plain, PORT: "eighty", PARLEY_JWT_SECRET: "short", PARLEY_BODY_BYTES_MAX: "-1" };
    for (const command of ["config", "serve"]) {
      const { exitCode, stdout, stderr } = await runParley([command], env);
      expect({ command, exitCode, stdout }).toEqual({ command, exitCode: 1, stdout: "" });
      const faults = stderr.trim().split("\n");
      expect(faults).toHaveLength(3);
      for (const name of ["PORT", "PARLEY_JWT_SECRET", "PARLEY_BODY_BYTES_MAX"]) {
        expect(faults.filter((fault) => fault.startsWith(`parley: ${name} `))).toHaveLength(1);
      }
    }
  });

  test("health exits with 0 where the service is healthy and with 1 where it isn't", async () => {
    await using service = await startService();
    const healthy = await runParley(["health"], { ...plain, PORT: String(service.port) });
    expect(healthy.exitCode).toBe(0);
    expect(JSON.parse(healthy.stdout)).toEqual({ status: "healthy", version: packageJson.version });
    expect((await runParley(["health", "--url", service.url], plain)).exitCode).toBe(0);

    await service.kill();
    const gone = await runParley(["health"], { ...plain, PORT: String(service.port) });
    expect(gone).toMatchObject({ exitCode: 1, stdout: "" });
    expect(gone.stderr).toMatch(/^parley: unhealthy: [^\n]+\n$/);
  });

  test("serve says which port is taken, and which data directory", async () => {
    await using service = await startService();
    const port = await runParley(["serve"], {
      ...plain,
      PORT: String(service.port),
      PARLEY_DATA_DIR: `${service.dataDir}/another`,
    });
    expect(port).toMatchObject({ exitCode: 1, stdout: "" });
    expect(port.stderr).toContain(`port ${service.port} of 127.0.0.1 is taken`);

    const directory = await runParley(["serve"], { ...plain, PORT: "0", PARLEY_DATA_DIR: service.dataDir });
    expect(directory).toMatchObject({ exitCode: 1, stdout: "" });
    expect(directory.stderr).toContain(`another parley serve is using ${service.dataDir}`);
    expect((await service.get("/health")).status).toBe(200);
  });

  test("serve says in one line why a data directory can't be used", async () => {
    const file = `${process.execPath}/data`;
    const { exitCode, stdout, stderr } = await runParley(["serve"], { ...plain, PARLEY_DATA_DIR: file });
    expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "" });
    expect(stderr).toMatch(/^parley: the data directory [^\n]+ can't be used: [^\n]+\n$/);
  });
});
