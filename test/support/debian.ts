/** A bare Debian in a directory, and programs in namespaces of their own in it, as containers have them. */
import { mkdirSync, readdirSync, readFileSync, rmdirSync } from "node:fs";
import { programPath, skipsWithout } from "./needs.ts";
import { childrenOf, type Outcome, outcomeOf, pidWithin } from "./processes.ts";
import { until } from "./service.ts";

const programs = ["mmdebstrap", "unshare", "nsenter", "ip", "curl"];

/** Whether tests in a bare Debian are skipped. */
export const skipsDebian = (): boolean =>
  skipsWithout(
    `root on Linux, with ${programs.join(", ")}`,
    process.getuid?.() === 0 && programs.every((program) => programPath(program) !== null),
  );

/** Less than there is in the image `debian:bookworm-slim`: no apt, and of the essential packages not all. */
const barest =
  "base-files,base-passwd,dash,coreutils,dpkg,sed,grep,tar,libc-bin,debianutils,diffutils,perl-base";

/**
 * Makes a Debian, of packages from the mirror that this machine's apt is set to.
 * @param root where; it must not exist yet
 * @param packages beside the barest
 */
export async function makeDebian(root: string, packages: readonly string[] = []): Promise<void> {
  await run([
    ...["mmdebstrap", "--quiet", "--variant=custom", "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"],
    ...["--dpkgopt=force-unsafe-io", `--include=${[barest, "usr-is-merged", ...packages].join(",")}`],
    ...["bookworm", root],
  ]);
}

/** Runs a command to its end. @throws with what it said where it fails */
export async function run(command: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await outcomeOf(command);
  if (exitCode !== 0) throw new Error(`${command.join(" ")} exited with ${exitCode}:\n${stderr || stdout}`);
  return stdout;
}

/** Processes in namespaces of their own: files, pids and network, in which there is only loopback. */
export interface Container {
  /** Of its process 1, as this machine counts. */
  readonly pid: number;
  /** What its process 1 has written so far. */
  readonly output: string;
  /** Resolves to the exit code of its process 1. */
  readonly exited: Promise<number>;
  /** Runs a command in it, as root. */
  exec(command: string[]): Promise<Outcome>;
  /** Runs a program of this machine in its network alone. */
  fromOutside(command: string[]): Promise<Outcome>;
  /** Sends a signal to its process 1. */
  signal(signal: NodeJS.Signals): void;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface ContainerOptions {
  /** Its files. */
  root: string;
  /** Shell commands that run before the root is changed, such as mounts; the root is `$1`. */
  setUp: string;
  /** Shell words that become its process 1: `chroot "$1" …` as a rule. */
  command: string;
  /** A control group that it alone is in. */
  cgroup?: string;
}

/** Starts a container; resolves when its process 1 is there. */
export async function startContainer({ root, setUp, command, cgroup }: ContainerOptions): Promise<Container> {
  for (const place of ["proc", "sys", "run", "tmp"]) mkdirSync(`${root}/${place}`, { recursive: true });
  const script = `
    mount --bind "$1" "$1"
    mount -t proc proc "$1/proc"
    mount --bind "$1/proc/sys" "$1/proc/sys" && mount -o remount,bind,ro "$1/proc/sys"
    ip link set lo up
    ${setUp}
    exec ${command}`;
  const enterGroup = cgroup === undefined ? "" : `mkdir ${cgroup} && echo 0 > ${cgroup}/cgroup.procs`;
  const unshareAll = `${enterGroup}
    exec setpriv --pdeathsig=KILL unshare --mount --pid --net --ipc --uts --cgroup --propagation=private --fork --kill-child \
      sh -euc "$1" sh "$2"`;
  const unshare = Bun.spawn(["sh", "-euc", unshareAll, "sh", script, root], {
    env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  let output = "";
  const follow = async (stream: ReadableStream<Uint8Array>): Promise<void> => {
    const decoder = new TextDecoder();
    for await (const chunk of stream) output += decoder.decode(chunk, { stream: true });
  };
  const outputs = Promise.all([follow(unshare.stdout), follow(unshare.stderr)]);
  const exited = unshare.exited.then(async (code) => {
    await outputs;
    return code;
  });
  let pid: number | undefined;
  await until("a container has its process 1", () => {
    if (unshare.exitCode !== null) throw new Error(`no container:\n${output}`);
    pid = childrenOf(unshare.pid).find((child) => pidWithin(child) === 1);
    return pid !== undefined;
  });
  const enter = (namespaces: string[], command: string[]): Promise<Outcome> =>
    outcomeOf(["nsenter", `--target=${pid}`, ...namespaces, "--", ...command]);
  return {
    pid: pid!,
    get output() {
      return output;
    },
    exited,
    exec: (command) => enter(["--all", "--root", "--wd"], command),
    fromOutside: (command) => enter(["--net"], command),
    signal: (signal) => void process.kill(pid!, signal),
    async [Symbol.asyncDispose]() {
      // A process that has changed its user isn't ended by --kill-child.
      if (pidWithin(pid!) === 1) process.kill(pid!, "SIGKILL");
      unshare.kill("SIGKILL");
      await exited;
      if (cgroup !== undefined) await removeGroup(cgroup);
    },
  };
}

/** Where the control groups of version 2 are, for programs that make groups of their own; null where they aren't. */
export const cgroupsAt = (): string | null =>
  /^\S+ (\S+) cgroup2 rw/m.exec(readFileSync("/proc/mounts", "utf8"))?.[1] ?? null;

/** Removes a control group and those in it, once what was in them has ended. */
async function removeGroup(group: string): Promise<void> {
  await until("a control group is empty", () =>
    readFileSync(`${group}/cgroup.events`, "utf8").includes("populated 0"),
  );
  for (const entry of readdirSync(group, { withFileTypes: true })) {
    if (entry.isDirectory()) await removeGroup(`${group}/${entry.name}`);
  }
  rmdirSync(group);
}
