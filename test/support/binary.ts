/** The binary, built with the very flags of `bun run build`. */
import { join } from "node:path";
import packageJson from "../../package.json";

/** Builds into a directory; resolves to the path of the binary. */
export async function buildBinary(directory: string): Promise<string> {
  const path = join(directory, "parley");
  const command = packageJson.scripts.build.replace("--outfile dist/parley", `--outfile ${path}`);
  const [program, ...args] = command.split(" ");
  if (program !== "bun" || !args.includes(path)) throw new Error(`not what builds a binary: ${command}`);
  const build = Bun.spawn([process.execPath, ...args], {
    cwd: new URL("../..", import.meta.url).pathname,
    stdout: "ignore",
    stderr: "pipe",
  });
  const said = await new Response(build.stderr).text();
  if ((await build.exited) !== 0) throw new Error(said);
  return path;
}
