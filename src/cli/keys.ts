/** parley keys: who may use a service. */
import { parseArgs } from "node:util";
import { prefixOf } from "../auth/key-text.ts";
import { faultsOfWish, type KeyWish, makeKey } from "../auth/keys.ts";
import { defaultWorkspace } from "../auth/principal.ts";
import { isWorkspace, workspaceFault } from "../auth/workspace.ts";
import { dataDirOf, loadConfig } from "../config.ts";
import { AppError } from "../errors.ts";
import type { KeyRecord, Role } from "../storage/key-store.ts";
import { StorageUnusableError } from "../storage/unusable.ts";
import { CommandError, usageError } from "./command.ts";
import { visibleLine } from "./terminal.ts";

export const help = `parley keys create NAME [--role ROLE] [--workspace NAME] [--user ID] [--expires-in TIME]
parley keys list
parley keys revoke ID

Makes, lists and revokes the keys of a service, in its PARLEY_DATA_DIR or the database of its DATABASE_URL, while it runs
too: within 2 seconds all its instances know.
create prints the key, this once: only a hash of it is kept. NAME tells it from others.
  --role ROLE         admin (manages keys too), service (acts for any user; the default) or user (bound to one)
  --workspace NAME    what it is for; "default" if left out. A new name makes a new workspace
  --user ID           whom a key of the role user is bound to
  --expires-in TIME   how long it works, such as 12h or 90d; for ever if left out
list shows the keys of all workspaces, without their secrets.
revoke ends a key and its open streams; the turns that they watch run on.
`;

const nameCharsMax = 100;
const userIdCharsMax = 256;
const pageSize = 100;
const secondsOf = { s: 1, m: 60, h: 3_600, d: 86_400 };

/** @throws CommandError */
export async function run(args: string[]): Promise<void> {
  const { values, positionals } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      role: { type: "string" },
      workspace: { type: "string" },
      user: { type: "string" },
      "expires-in": { type: "string" },
    },
  });
  const [action, ...operands] = positionals;
  const [operand] = operands;
  const hasOptions = Object.keys(values).length > 0;
  try {
    if (action === "create" && operands.length === 1) return await create(toWish(operand!, values));
    if (action === "list" && operands.length === 0 && !hasOptions) return await list();
    if (action === "revoke" && operands.length === 1 && !hasOptions) return await revoke(operand!);
  } catch (error) {
    if (error instanceof StorageUnusableError) throw new CommandError(error.message);
    if (error instanceof AppError) throw new CommandError(error.detail);
    if (error instanceof Error && "syscall" in error) {
      throw new CommandError(`the data directory ${dataDirOf()} can't be used: ${error.message}`);
    }
    throw error;
  }
  throw usageError("create NAME, list or revoke ID? see parley keys --help");
}

interface Options {
  role?: string | undefined;
  workspace?: string | undefined;
  user?: string | undefined;
  "expires-in"?: string | undefined;
}

function toWish(name: string, options: Options): KeyWish {
  const { role = "service", workspace = defaultWorkspace, user = null } = options;
  const isText = (text: string, charsMax: number): boolean =>
    text.trim() !== "" && text.length <= charsMax && text.isWellFormed();
  if (!isText(name, nameCharsMax)) throw usageError(`NAME must have 1 to ${nameCharsMax} characters`);
  if (!isRole(role)) throw usageError("--role must be admin, service or user");
  if (!isWorkspace(workspace)) throw usageError(`--workspace ${workspaceFault}`);
  if (user !== null && !isText(user, userIdCharsMax)) {
    throw usageError(`--user must have 1 to ${userIdCharsMax} characters`);
  }
  const now = Math.floor(Date.now() / 1000);
  const lifetime = options["expires-in"];
  const wish: KeyWish = {
    name,
    role,
    workspace_id: workspace,
    user_id: user,
    expires_at: lifetime === undefined ? null : now + toSeconds(lifetime),
  };
  if (faultsOfWish(wish, now).length > 0) throw usageError("--user belongs to --role user, and only to it");
  return wish;
}

const isRole = (role: string): role is Role => ["admin", "service", "user"].includes(role);

function toSeconds(lifetime: string): number {
  const [, count = "", unit = ""] = /^([1-9]\d{0,5})([smhd])$/.exec(lifetime) ?? [];
  if (unit === "") throw usageError("--expires-in must be a number and s, m, h or d, such as 90d");
  return Number(count) * secondsOf[unit as keyof typeof secondsOf];
}

/** Loaded when it is needed: what is wrong with a command is told at once. */
async function openKeys() {
  const { openKeyStore } = await import("../services.ts");
  const { dataDir, databaseUrl } = loadConfig();
  return await openKeyStore(dataDir, databaseUrl);
}

async function create(wish: KeyWish): Promise<void> {
  const store = await openKeys();
  try {
    const { text, key } = makeKey(wish, Date.now());
    const { id, role, workspace_id } = await store.createKey(key);
    console.log(text);
    if (process.stdout.isTTY) {
      process.stderr.write(`${id}: role ${role}, workspace ${workspace_id}. It is shown this once.\n`);
    }
  } finally {
    await store.close();
  }
}

async function list(): Promise<void> {
  const store = await openKeys();
  try {
    const rows = [["ID", "KEY", "NAME", "WORKSPACE", "ROLE", "USER", "CREATED", "LAST USED", "WORKS"]];
    for (let after: string | null = null; ; ) {
      const page = await store.keys(null, { limit: pageSize, after });
      rows.push(...page.keys.map(toRow));
      after = page.next;
      if (after === null) break;
    }
    const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
    for (const row of rows) {
      console.log(
        row
          .map((cell, column) => cell.padEnd(widths[column]!))
          .join("  ")
          .trimEnd(),
      );
    }
  } finally {
    await store.close();
  }
}

function toRow(key: KeyRecord): string[] {
  const { id, name, workspace_id, role, user_id, created_at, last_used_at } = key;
  return [
    id,
    `${prefixOf(id)}_…`,
    visibleLine(name),
    workspace_id,
    role,
    visibleLine(user_id ?? "-"),
    toTime(created_at),
    last_used_at === null ? "never" : toTime(last_used_at),
    stateOf(key),
  ];
}

function stateOf({ revoked_at, expires_at }: KeyRecord): string {
  if (revoked_at !== null) return `revoked ${toTime(revoked_at)}`;
  if (expires_at === null) return "yes";
  return `${expires_at * 1000 <= Date.now() ? "expired" : "until"} ${toTime(expires_at)}`;
}

const toTime = (seconds: number): string => new Date(seconds * 1000).toISOString().slice(0, 16);

async function revoke(id: string): Promise<void> {
  const store = await openKeys();
  try {
    const revoked = await store.revokeKey(null, id, Date.now());
    if (revoked === null) throw new CommandError("there is no such key: see parley keys list");
    console.log(`revoked ${visibleLine(revoked.name)} (${revoked.id})`);
  } finally {
    await store.close();
  }
}
