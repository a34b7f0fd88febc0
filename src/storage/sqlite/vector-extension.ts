/** sqlite-vec, the extension that compares vectors. It is loaded only where an embedding model is configured. */
import { Database } from "bun:sqlite";
import { closeSync, fsyncSync, openSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { StorageUnusableError } from "../unusable.ts";

/** The library for this platform. The build keeps the one that it is for, because it knows the conditions' values. */
async function libraryPath(): Promise<string> {
  if (process.platform === "linux" && process.arch === "x64") {
    return (await import("sqlite-vec-linux-x64/vec0.so", { with: { type: "file" } })).default;
  }
  if (process.platform === "linux" && process.arch === "arm64") {
    return (await import("sqlite-vec-linux-arm64/vec0.so", { with: { type: "file" } })).default;
  }
  throw new Error(`it is there for Linux on x64 and arm64, not for ${process.platform} on ${process.arch}`);
}

/**
 * The path from which connections load the extension, seen to work.
 * @param dataDir takes the library where it is inside the binary: the system loads none from there
 * @throws StorageUnusableError
 */
export async function vectorExtension(dataDir: string): Promise<string> {
  try {
    const carried = await libraryPath();
    const path = Bun.isStandaloneExecutable ? await writtenOut(carried, dataDir) : carried;
    using db = new Database(":memory:");
    db.loadExtension(path);
    return path;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new StorageUnusableError(
      `PARLEY_EMBEDDING_MODEL needs sqlite-vec, which can't be loaded (${why}): without that variable, search is by words alone`,
      { cause },
    );
  }
}

/** SQLite takes the name of the extension's entry point from that of the file. */
async function writtenOut(carried: string, dataDir: string): Promise<string> {
  const path = join(dataDir, "vec0.so");
  const part = `${path}.part`;
  const bytes = new Uint8Array(await Bun.file(carried).arrayBuffer());
  const file = openSync(part, "w", 0o600);
  try {
    writeFileSync(file, bytes);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(part, path);
  return path;
}
