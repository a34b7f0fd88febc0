/** What of this machine a service needs: its configuration, its data directory with SQLite, room, and open files. */
import { accessSync, constants, existsSync, statfsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import {
  type Config,
  ConfigError,
  describeTarget,
  fetchLimit,
  isLoopback,
  loadConfig,
} from "../../config.ts";
import type { StorageInspection } from "../../storage/inspection.ts";
import { descriptorsMax, withinDescriptors } from "../descriptors.ts";
import { reasonOf } from "../service-client.ts";
import { type Finding, failed, ok, skipped, warning } from "./finding.ts";

/** The configuration, where it can be used. */
export function examineConfiguration(): { config: Config | null; finding: Finding } {
  const name = "configuration";
  try {
    const config = loadConfig();
    const model = config.models.map(describeTarget).join(", then ") || "embedded";
    return { config, finding: ok(name, `model ${model}; listens on ${config.host}:${config.port}`) };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const advice = "correct these variables: parley config prints what is in force";
    return { config: null, finding: failed(name, error.faults.join("; "), advice) };
  }
}

/** Where the data is in SQLite. */
export function examineDataDirectory(config: Config, inspect: () => StorageInspection): Finding[] {
  const { dataDir } = config;
  const directory = examineDirectory(dataDir);
  const findings = [directory];
  if (directory.status === "failed") {
    findings.push(skipped("database", "the data directory can't be used"));
  } else {
    const place = nearest(dataDir);
    const inspection = inspect();
    findings.push(
      examineFileSystem(place, magicOf(place)),
      examineRoom(place),
      ...examineDatabase(dataDir, inspection),
      inspection.faults.length > 0
        ? skipped("keys", "the database can't be read")
        : examineKeys(config, inspection.hasKeys),
    );
  }
  return findings;
}

export const examineProcess = (config: Config): Finding[] => [
  examineDescriptors(config),
  examineFetchLimit(config),
];

function examineDirectory(dataDir: string): Finding {
  const name = "data directory";
  try {
    const exists = existsSync(dataDir);
    const place = nearest(dataDir);
    const { uid, mode } = statSync(place);
    if (!statSync(place).isDirectory()) {
      return failed(name, `${place} is no directory`, "set PARLEY_DATA_DIR to a directory");
    }
    accessSync(place, constants.R_OK | constants.W_OK | constants.X_OK);
    if (!exists) return ok(name, `${dataDir} will be made by the first start`);
    const own = process.getuid?.();
    if (own !== undefined && uid !== own) {
      const advice = `start the service as the user ${uid}, or give the directory to who starts it: chown -R ${own} ${dataDir}`;
      return warning(name, `${dataDir} belongs to the user ${uid}, and this is the user ${own}`, advice);
    }
    if ((mode & 0o077) !== 0) {
      const advice = `parley serve makes it private when it starts; now: chmod 700 ${dataDir}`;
      return warning(
        name,
        `${dataDir} can be entered by others (mode ${(mode & 0o777).toString(8)})`,
        advice,
      );
    }
    return ok(name, `${dataDir} is writable, and its owner's alone`);
  } catch (error) {
    const advice = `let the user ${process.getuid?.() ?? ""} of the service write there, or set PARLEY_DATA_DIR elsewhere`;
    return failed(name, `${dataDir} can't be used: ${reasonOf(error)}`, advice);
  }
}

/** The directory itself, or what it would be made in. */
function nearest(path: string): string {
  for (let at = path; ; at = dirname(at)) if (existsSync(at) || at === dirname(at)) return at;
}

/** By Linux' `statfs` magic (man 2 statfs). There SQLite's write-ahead log has no shared memory, or no locks. */
const networked = new Map([
  [0x6969, "NFS"],
  [0x517b, "SMB"],
  [0xff534d42, "CIFS"],
  [0xfe534d42, "SMB2"],
  [0x01021997, "9p"],
  [0x00c36400, "Ceph"],
  [0x0bd00bd0, "Lustre"],
  [0x5346414f, "AFS"],
]);
const fuse = 0x65735546;
const passing = new Map([
  [0x01021994, "tmpfs, which is memory"],
  [0x858458f6, "ramfs, which is memory"],
  [0x794c7630, "an overlay, which is a container's own layer"],
]);

/** @param magic what Linux' `statfs` tells of the file system of `path`; null on other systems */
export function examineFileSystem(path: string, magic: number | null): Finding {
  const name = "file system";
  const shared = networked.get(magic ?? 0);
  if (shared !== undefined) {
    const advice =
      "put PARLEY_DATA_DIR on a local disk: SQLite's write-ahead log isn't safe on a network's file system";
    return failed(name, `${path} is on ${shared}`, advice);
  }
  if (magic === fuse) {
    const advice = "make sure that it is local: SQLite's write-ahead log needs shared memory and locks";
    return warning(name, `${path} is on FUSE, which may be a network's`, advice);
  }
  const gone = passing.get(magic ?? 0);
  if (gone !== undefined) {
    return warning(
      name,
      `${path} is on ${gone}: it is lost with it`,
      "put PARLEY_DATA_DIR on a disk, or on a volume",
    );
  }
  return ok(name, `${path} is on a local file system`);
}

/** Some of these numbers have 32 bits, and come as negative ones. */
const magicOf = (path: string): number | null =>
  process.platform === "linux" ? Number(statfsSync(path).type) >>> 0 : null;

const roomMin = 64 * 1024 * 1024;
const roomWanted = 1024 * 1024 * 1024;

function examineRoom(path: string): Finding {
  const name = "disk space";
  const { bavail, bsize } = statfsSync(path);
  const bytes = bavail * bsize;
  const detail = `${Math.floor(bytes / 1024 / 1024)} MiB are free for ${path}`;
  if (bytes < roomMin) return failed(name, detail, "make room: what can't be stored is refused");
  if (bytes < roomWanted) return warning(name, detail, "make room before it runs out");
  return ok(name, detail);
}

function examineDatabase(dataDir: string, { version, newest, inUse, faults }: StorageInspection): Finding[] {
  const name = "database";
  const held = ok(
    "lock",
    inUse ? "a running service holds the data directory" : "no service holds the data directory",
  );
  if (faults.length > 0) {
    const more = faults.length > 3 ? ` and ${faults.length - 3} more` : "";
    const advice = `stop the service, keep a copy of ${dataDir}, and go back to a backup`;
    return [held, failed(name, `it is broken: ${faults.slice(0, 3).join("; ")}${more}`, advice)];
  }
  if (version === null) return [held, ok(name, "there is none yet: the first start makes it")];
  if (version > newest) {
    const advice = "use a newer Parley, or go back to the snapshot beside it";
    return [held, failed(name, `it is of version ${version}, and this Parley knows ${newest}`, advice)];
  }
  const upgraded = version < newest ? `, which the next start brings to ${newest}` : "";
  return [held, ok(name, `it is whole (quick_check), of version ${version}${upgraded}`)];
}

/** @param hasKeys whether there are any in the database */
export function examineKeys({ host, apiKeys, jwt }: Config, hasKeys: boolean): Finding {
  const name = "keys";
  const known = [
    ...(apiKeys.length > 0 ? [`${apiKeys.length} in PARLEY_API_KEYS`] : []),
    ...(hasKeys ? ["some in the database"] : []),
    ...(jwt !== null ? ["tokens of users"] : []),
  ];
  if (known.length > 0) return ok(name, known.join(", "));
  if (isLoopback(host)) return ok(name, "none: only this machine's own programs are served");
  const advice = "make one: parley keys create first --role admin";
  return failed(
    name,
    `none, though PARLEY_HOST is ${host}, which others can reach: parley serve refuses`,
    advice,
  );
}

function examineDescriptors({ limits }: Config): Finding {
  const name = "open files";
  const max = descriptorsMax();
  const { turnsRunningMax } = withinDescriptors(limits, max);
  const detail = `${max} open files are allowed: ${turnsRunningMax} turns at once`;
  if (turnsRunningMax >= limits.turnsRunningMax / 2) return ok(name, detail);
  const advice =
    "raise the limit where the service is started: ulimit -n, LimitNOFILE= of systemd, --ulimit nofile= of Docker";
  return warning(name, `${detail}, though PARLEY_TURNS_RUNNING_MAX is ${limits.turnsRunningMax}`, advice);
}

function examineFetchLimit({ limits }: Config): Finding {
  const name = "fetch limit";
  const { max, isSet } = fetchLimit();
  const detail = `${max} requests to models run at once`;
  if (max >= limits.turnsRunningMax) return ok(name, detail);
  const advice = isSet
    ? "unset BUN_CONFIG_MAX_HTTP_REQUESTS: parley serve raises it by itself"
    : `set BUN_CONFIG_MAX_HTTP_REQUESTS=${limits.turnsRunningMax}: this system doesn't let parley serve raise it`;
  return warning(name, `${detail}, and more wait silently`, advice);
}
