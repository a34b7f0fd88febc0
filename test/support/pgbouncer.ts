/** A real PgBouncer before a database. */
import { chmodSync, rmSync } from "node:fs";
import { join } from "node:path";
import { programPath, skipsWithout } from "./needs.ts";
import { freePort } from "./postgres.ts";
import { temporaryDirectory, until } from "./service.ts";

const program = programPath("pgbouncer");

/** Whether tests with PgBouncer are skipped. */
export const skipsPgBouncer = (): boolean =>
  skipsWithout("pgbouncer (apt-get install pgbouncer)", program !== null);

export interface PgBouncer extends AsyncDisposable {
  /** The database's URL, through it. */
  readonly url: string;
}

/** @param settings lines of its section `[pgbouncer]`, such as `pool_mode = session` */
export async function startPgBouncer(databaseUrl: string, ...settings: string[]): Promise<PgBouncer> {
  const directory = temporaryDirectory();
  // As root it becomes nobody, who must read these.
  chmodSync(directory, 0o755);
  const { username, password, hostname, port } = new URL(databaseUrl);
  const url = new URL(databaseUrl);
  url.port = String(await freePort());
  await Bun.write(join(directory, "users.txt"), `"${username}" "${password}"\n`);
  await Bun.write(
    join(directory, "pgbouncer.ini"),
    [
      ...["[databases]", `* = host=${hostname} port=${port || 5432}`, "[pgbouncer]"],
      ...["listen_addr = 127.0.0.1", `listen_port = ${url.port}`, "unix_socket_dir ="],
      ...["auth_type = plain", `auth_file = ${join(directory, "users.txt")}`, ...settings, ""],
    ].join("\n"),
  );
  const asNobody = process.getuid?.() === 0 ? ["-u", "nobody"] : [];
  const bouncer = Bun.spawn([program!, ...asNobody, join(directory, "pgbouncer.ini")], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
  });
  const said = new Response(bouncer.stderr).text();
  await until("PgBouncer listens", async () => {
    if (bouncer.exitCode !== null) throw new Error(`pgbouncer exited: ${await said}`);
    const socket = await Bun.connect({
      hostname: "127.0.0.1",
      port: Number(url.port),
      socket: { data() {} },
    }).catch(() => null);
    socket?.end();
    return socket !== null;
  });
  return {
    url: url.href,
    async [Symbol.asyncDispose]() {
      bouncer.kill("SIGTERM");
      await bouncer.exited;
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
