/** The unit for systemd, and the README's way to install it: under a real systemd, in a Debian of its own. */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { cpSync, mkdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import type { ChatResponse } from "../../src/chat/schema.ts";
import { buildBinary } from "../support/binary.ts";
import { type Container, cgroupsAt, makeDebian, skipsDebian, startContainer } from "../support/debian.ts";
import { programPath, skipsWithout } from "../support/needs.ts";
import { childrenOf, outcomeOf, pidWithin } from "../support/processes.ts";
import { shellBlocks } from "../support/readme.ts";
import { temporaryDirectory, until } from "../support/service.ts";

setDefaultTimeout(180_000);

const repository = new URL("../..", import.meta.url).pathname;
const unit = join(repository, "deploy/parley.service");
const cgroups = cgroupsAt();
const skipped = skipsDebian() || skipsWithout("control groups of version 2, to write to", cgroups !== null);

let root: string;
let directory: string;
let machine: Container;

beforeAll(async () => {
  if (skipped) return;
  directory = temporaryDirectory();
  root = join(directory, "debian");
  await makeDebian(root, ["init-system-helpers", "systemd", "openssl"]);
  // What the README's commands start from: the repository, built.
  mkdirSync(join(root, "srv/dist"));
  cpSync(join(repository, "deploy"), join(root, "srv/deploy"), { recursive: true });
  await buildBinary(join(root, "srv/dist"));
  machine = await boot();
});
afterAll(async () => {
  if (skipped) return;
  await machine[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

/** Boots the Debian; resolves when systemd has started all that it starts by itself. */
async function boot(): Promise<Container> {
  const booting = await startContainer({
    root,
    cgroup: `${cgroups}/parley-test-${crypto.randomUUID()}`,
    setUp: `
      mount -t sysfs -o ro sysfs "$1/sys"
      mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
      mount -t tmpfs -o mode=755 tmpfs "$1/run"`,
    command: `chroot "$1" /usr/bin/env -i PATH=/usr/sbin:/usr/bin container=test \
      /lib/systemd/systemd --unit=multi-user.target --show-status=no --log-target=null`,
  });
  await until(
    "systemd has started everything",
    async () => /^(running|degraded)$/m.test((await booting.exec(["systemctl", "is-system-running"])).stdout),
    60_000,
  );
  return booting;
}

const stateOf = async (): Promise<Record<string, string>> => {
  const { stdout } = await machine.exec([
    ...["systemctl", "show", "parley", "--property"],
    "ActiveState,Result,MainPID,ExecMainStatus,NRestarts",
  ]);
  return Object.fromEntries(
    stdout
      .trim()
      .split("\n")
      .map((line) => line.split("=") as [string, string]),
  );
};

async function ask<Body>(path: string, body?: object): Promise<Body> {
  const key = readFileSync(join(root, "etc/parley/env"), "utf8").trim().split("=")[1];
  const post = body === undefined ? [] : ["-H", "content-type: application/json", "-d", JSON.stringify(body)];
  const { stdout } = await machine.fromOutside([
    ...["curl", "-sS", "--retry", "20", "--retry-connrefused", "--retry-delay", "1"],
    ...[`http://127.0.0.1:8000${path}`, "-H", `Authorization: Bearer ${key}`, ...post],
  ]);
  return JSON.parse(stdout) as Body;
}

describe.skipIf(skipped)("the unit for systemd", () => {
  test("is installed by the README's commands", async () => {
    const [block] = await shellBlocks("Deploying");
    const commands = block!.trim().split("\n");
    const curl = commands.pop()!;
    for (const command of commands) {
      const { exitCode, stderr } = await machine.exec(["sh", "-euc", `cd /srv && ${command}`]);
      // `enable` tells of the link that it makes.
      const said = stderr.replace(/^Created symlink .*\n/m, "");
      expect({ command, exitCode, said }).toEqual({ command, exitCode: 0, said: "" });
    }
    expect(statSync(join(root, "etc/parley/env")).mode & 0o777).toBe(0o600);
    expect(await ask("/health")).toMatchObject({ status: "healthy" });
    const shown = await machine.fromOutside([
      ...["sh", "-euc", curl.replaceAll("/etc/parley", `${root}/etc/parley`)],
    ]);
    expect(JSON.parse(shown.stdout)).toEqual({ conversations: [], has_more: false, next_after: null });
  });

  test("runs it without privileges; it sees and writes little more than its own directory", async () => {
    const { MainPID } = await stateOf();
    const pid = childrenOf(machine.pid).find((child) => pidWithin(child) === Number(MainPID));
    const status = readFileSync(`/proc/${pid}/status`, "utf8");
    const [, uid] = /^Uid:\t(\d+)/m.exec(status)!;
    // DynamicUser's range.
    expect(Number(uid)).toBeGreaterThanOrEqual(61_184);
    expect(Number(uid)).toBeLessThanOrEqual(65_519);
    expect(status).toMatch(/^CapBnd:\t0+$/m);
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect(status).toMatch(/^Seccomp:\t2$/m);
    // Memory of the compiler: without it all JavaScript would be interpreted.
    expect(readFileSync(`/proc/${pid}/maps`, "utf8")).toMatch(/ rwxp /);
    // A machine may allow less.
    const most = /^Max open files +\d+ +(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))![1];
    const files = Math.min(65_536, Number(most));
    const limits = readFileSync(`/proc/${pid}/limits`, "utf8");
    expect(limits).toMatch(new RegExp(`^Max open files +${files} `, "m"));

    // Through its eyes: its own namespace of files, and its user.
    const eyes = ["--mount", "--root", "--wd=/", "--setuid", uid!, "--setgid", uid!];
    const asService = async (command: string): Promise<boolean> => {
      const { exitCode } = await outcomeOf(["nsenter", `--target=${pid}`, ...eyes, "sh", "-c", command]);
      return exitCode === 0;
    };
    expect(await asService("touch /var/lib/parley/probe && rm /var/lib/parley/probe")).toBe(true);
    for (const place of ["/usr/local/bin", "/etc", "/var/lib", "/home", "/srv", "/run", "/var/log"]) {
      expect({ place, taken: await asService(`touch ${place}/probe`) }).toEqual({ place, taken: false });
    }
    expect(await asService("cat /etc/debian_version")).toBe(true);
    expect(await asService("cat /etc/parley/env")).toBe(false);
  });

  test("lets it read documents, in a process of its own, also where all of it has a low priority", async () => {
    const more = "/etc/systemd/system/parley.service.d";
    const nice = `mkdir ${more} && echo '[Service]\nNice=10' > ${more}/nice.conf && systemctl daemon-reload`;
    expect(await machine.exec(["sh", "-c", `${nice} && systemctl restart parley`])).toMatchObject({
      exitCode: 0,
      stderr: "",
    });
    const text = "# Dogs\n\nBello likes to swim in the lake.\n";
    const added = await ask("/v1/documents", { name: "handbook.md", text });
    expect(added).toMatchObject({ status: "ready", passage_count: 1 });
  });

  test("stops it with success, and starts it with the machine; what was said is kept", async () => {
    const said = { user_id: "ada", message: "My dog is called Bello." };
    const answer = await ask<ChatResponse>("/v1/chat", said);
    expect(answer).toMatchObject({ status: "completed", model: "embedded" });
    expect((await machine.exec(["systemctl", "stop", "parley"])).exitCode).toBe(0);
    const stopped = { ActiveState: "inactive", Result: "success", ExecMainStatus: "0" };
    expect(await stateOf()).toMatchObject(stopped);

    await machine[Symbol.asyncDispose]();
    machine = await boot();
    const { conversation_id } = answer;
    const question = { user_id: "ada", message: "What is my dog called?", conversation_id };
    expect((await ask<ChatResponse>("/v1/chat", question)).response).toContain("Bello");
  });

  test("starts nothing without its key file, and nothing that others can reach without a key", async () => {
    await machine.exec(["systemctl", "stop", "parley"]);
    await machine.exec(["mv", "/etc/parley/env", "/etc/parley/aside"]);
    expect((await machine.exec(["systemctl", "start", "parley"])).exitCode).not.toBe(0);
    expect((await stateOf()).ActiveState).not.toBe("active");
    await machine.exec(["sh", "-c", "echo PARLEY_HOST=0.0.0.0 > /etc/parley/env"]);
    await machine.exec(["systemctl", "restart", "parley"]);
    await until("it has given up", async () => (await stateOf()).ExecMainStatus === "1");
    const refused = await machine.fromOutside(["curl", "-sS", "http://127.0.0.1:8000/health"]);
    // There is no connection.
    expect(refused.exitCode).toBe(7);
  });
});

const analyze = programPath("systemd-analyze");

describe.skipIf(skipsWithout("systemd-analyze (apt-get install systemd)", analyze !== null))(
  "the unit, as systemd-analyze sees it",
  () => {
    test("has no fault but the program that isn't installed here", async () => {
      const { stderr } = await outcomeOf([analyze!, "verify", unit]);
      const faults = stderr
        .split("\n")
        .filter((line) => line !== "" && !line.includes("/usr/local/bin/parley"));
      expect(faults).toEqual([]);
    });

    test("is exposed little: 1.5 of 10 at most", async () => {
      const command = [analyze!, "security", "--offline=true", "--no-pager", "--threshold=15", unit];
      const { exitCode, stdout } = await outcomeOf(command);
      expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout });
      expect(stdout).toContain("Overall exposure level");
    });
  },
);
