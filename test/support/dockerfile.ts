/** A Dockerfile, step by step, in directories of a bare Debian: for machines without a builder, or its base images. */
import { copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { run } from "./debian.ts";

export interface Instruction {
  name: string;
  args: string;
}

/** The instructions of a Dockerfile: without comments, continued lines as one. */
export function readDockerfile(text: string): Instruction[] {
  const lines = text
    .replace(/^\s*#.*\n/gm, "")
    .replaceAll("\\\n", "")
    .split("\n")
    .filter((line) => line.trim() !== "");
  return lines.map((line) => {
    const [, name, args] = /^([A-Z]+)\s+(.*)$/.exec(line) ?? [];
    if (name === undefined) throw new Error(`no instruction: ${line}`);
    return { name, args: args!.trim() };
  });
}

export interface Image {
  /** Its files. */
  readonly root: string;
  readonly env: Record<string, string>;
  user: string;
  workdir: string;
  readonly volumes: string[];
  readonly ports: number[];
  stopSignal: string;
  healthcheck: string[];
  entrypoint: string[];
  cmd: string[];
}

/** Makes the files of a base image in a directory that isn't there yet. */
export type BaseImages = Readonly<Record<string, (root: string) => Promise<void>>>;

/**
 * Carries out the steps; resolves to the last stage.
 * @param context the directory of the Dockerfile, of which `.dockerignore` leaves something
 * @param directory where the stages' roots are made
 * @throws for a step that fails, or that no step here knows
 */
export async function buildImage(context: string, directory: string, bases: BaseImages): Promise<Image> {
  const stages = new Map<string, Image>();
  let image: Image | undefined;
  for (const { name, args } of readDockerfile(readFileSync(join(context, "Dockerfile"), "utf8"))) {
    if (name === "FROM") {
      const [base = "", , stage = `stage-${stages.size}`] = args.split(/\s+/);
      image = emptyImage(join(directory, stage));
      const make = bases[base];
      if (make === undefined) throw new Error(`no base image ${base} here`);
      await make(image.root);
      stages.set(stage, image);
    } else if (image === undefined) throw new Error(`${name} before FROM`);
    else if (name === "RUN") await runIn(image, args);
    else if (name === "COPY") copyInto(image, args, context, stages);
    else configure(image, name, args);
  }
  if (image === undefined) throw new Error("no FROM");
  return image;
}

const emptyImage = (root: string): Image => ({
  root,
  env: { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" },
  user: "0:0",
  workdir: "/",
  volumes: [],
  ports: [],
  stopSignal: "SIGTERM",
  healthcheck: [],
  entrypoint: [],
  cmd: [],
});

function configure(image: Image, name: string, args: string): void {
  switch (name) {
    case "ENV":
      for (const pair of args.split(/\s+/)) image.env[pair.split("=")[0]!] = pair.split("=")[1]!;
      break;
    case "USER":
      image.user = args;
      break;
    case "WORKDIR":
      image.workdir = resolve(image.workdir, args);
      mkdirSync(image.root + image.workdir, { recursive: true });
      break;
    case "VOLUME":
      image.volumes.push(args);
      break;
    case "EXPOSE":
      image.ports.push(Number(args));
      break;
    case "STOPSIGNAL":
      image.stopSignal = args;
      break;
    case "HEALTHCHECK":
      image.healthcheck = JSON.parse(args.slice(args.indexOf("CMD ") + 4)) as string[];
      break;
    case "ENTRYPOINT":
      image.entrypoint = JSON.parse(args) as string[];
      break;
    case "CMD":
      image.cmd = JSON.parse(args) as string[];
      break;
    default:
      throw new Error(`no step here knows ${name}`);
  }
}

/** What a builder lends a step of this machine: names in the network, and whom to trust there. */
const lent = [
  "/etc/resolv.conf",
  "/etc/hosts",
  ...(process.env.NODE_EXTRA_CA_CERTS ? [process.env.NODE_EXTRA_CA_CERTS] : []),
];

async function runIn({ root, env, workdir }: Image, command: string): Promise<void> {
  for (const path of lent.filter((path) => existsSync(path))) {
    mkdirSync(root + dirname(path), { recursive: true });
    copyFileSync(path, root + path);
  }
  const certificates = process.env.NODE_EXTRA_CA_CERTS;
  const all = { ...env, HOME: "/root", ...(certificates && { NODE_EXTRA_CA_CERTS: certificates }) };
  await run([
    ...["unshare", "--mount", "--pid", "--fork", "--kill-child", `--root=${root}`, `--wd=${workdir}`],
    ...["--mount-proc", "/usr/bin/env", "-i", ...Object.entries(all).map((pair) => pair.join("="))],
    ...["/bin/sh", "-c", command],
  ]);
}

function copyInto(image: Image, args: string, context: string, stages: ReadonlyMap<string, Image>): void {
  const [, from, rest = args] = /^--from=(\S+)\s+(.*)$/.exec(args) ?? [];
  const paths = rest.split(/\s+/);
  const target = paths.pop()!;
  const source = (path: string): string => {
    if (from !== undefined) return join(stages.get(from)!.root, path);
    if (isIgnored(context, path)) throw new Error(`.dockerignore leaves no ${path}`);
    return join(context, path);
  };
  const to = join(image.root, resolve(image.workdir, target));
  for (const path of paths.map(source)) {
    const intoDirectory = target.endsWith("/") && !statSync(path).isDirectory();
    cpSync(path, intoDirectory ? join(to, basename(path)) : to, { recursive: true });
  }
}

/** Of the syntax of .dockerignore all that ours has: names, `*`, and exceptions. */
function isIgnored(context: string, path: string): boolean {
  let ignored = false;
  for (const line of readFileSync(join(context, ".dockerignore"), "utf8").split("\n")) {
    const name = line.replace(/^!/, "");
    if (name === "*" || name === path) ignored = !line.startsWith("!");
  }
  return ignored;
}
