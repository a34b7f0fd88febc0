/** A real nginx, configured as Debian does it, with the sites of a test. */
import { chmodSync, rmSync } from "node:fs";
import { join } from "node:path";
import { programPath, skipsWithout } from "./needs.ts";
import { temporaryDirectory, until } from "./service.ts";

const program = programPath("nginx");

/** Whether tests with nginx are skipped. */
export const skipsNginx = (): boolean => skipsWithout("nginx (apt-get install nginx)", program !== null);

/** Where sites listen: on Linux an address that nothing else takes ports of. */
const address = process.platform === "linux" ? "127.0.0.2" : "127.0.0.1";

export interface Nginx<Site extends string> {
  /** Where each site is reached, such as `http://127.0.0.2:40123`. */
  readonly urls: Record<Site, string>;
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * Starts an nginx with everything of its own under a temporary directory; resolves when it listens.
 * @param sites by name, each a function from `address:port` to its `server { … }` block
 */
export async function startNginx<Site extends string>(
  sites: Record<Site, (listen: string) => string>,
): Promise<Nginx<Site>> {
  const directory = temporaryDirectory();
  // Started by root, its workers are `nobody`, who must reach the bodies that it puts aside.
  chmodSync(directory, 0o755);
  const names = Object.keys(sites) as Site[];
  const listens = freePorts(names.length).map((port) => `${address}:${port}`);
  await Bun.write(
    join(directory, "nginx.conf"),
    configuration(
      directory,
      names.map((name, index) => sites[name](listens[index]!)),
    ),
  );
  const nginx = Bun.spawn([program!, "-p", directory, "-e", "stderr", "-c", join(directory, "nginx.conf")], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
  });
  const said = new Response(nginx.stderr).text();
  const dispose = async (): Promise<void> => {
    nginx.kill("SIGTERM");
    await nginx.exited;
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    await until("nginx listens", async () => {
      if (nginx.exitCode !== null) throw new Error(`nginx exited: ${await said}`);
      return await accepts(listens[0]!);
    });
  } catch (error) {
    await dispose();
    throw error;
  }
  return {
    urls: Object.fromEntries(names.map((name, index) => [name, `http://${listens[index]}`])) as Record<
      Site,
      string
    >,
    [Symbol.asyncDispose]: dispose,
  };
}

/** Debian's nginx.conf, but for its paths; nothing in it is about proxying. */
const configuration = (directory: string, servers: string[]): string => `
daemon off;
pid ${directory}/nginx.pid;
error_log stderr warn;
events {
  worker_connections 768;
}
http {
  sendfile on;
  tcp_nopush on;
  types_hash_max_size 2048;
  default_type application/octet-stream;
  gzip on;
  access_log off;
  ${["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((kind) => `${kind}_temp_path ${directory}/${kind};`).join("\n  ")}
  ${servers.join("\n")}
}
`;

function freePorts(count: number): number[] {
  const taken = Array.from({ length: count }, () =>
    Bun.listen({ hostname: address, port: 0, socket: { data() {} } }),
  );
  const ports = taken.map(({ port }) => port);
  for (const listener of taken) listener.stop(true);
  return ports;
}

async function accepts(listen: string): Promise<boolean> {
  const [hostname, port] = listen.split(":");
  try {
    const socket = await Bun.connect({ hostname: hostname!, port: Number(port), socket: { data() {} } });
    socket.end();
    return true;
  } catch {
    return false;
  }
}
