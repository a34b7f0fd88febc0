/** Uploads that wait to be processed: files of the data directory, because they are too large for a commit. */
import { mkdirSync } from "node:fs";
import { open, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { AppError } from "../../errors.ts";

export const uploadsDirectory = (dataDir: string): string => join(dataDir, "uploads");

export class Uploads {
  readonly #directory: string;

  constructor(dataDir: string) {
    this.#directory = uploadsDirectory(dataDir);
  }

  /** Resolves when the bytes are on the disk. @throws storage_unavailable */
  async keep(id: string, bytes: Uint8Array): Promise<void> {
    try {
      mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
      const file = await open(this.#pathOf(id), "wx", 0o600);
      try {
        await file.writeFile(bytes);
        await file.sync();
      } finally {
        await file.close();
      }
    } catch (cause) {
      await this.drop(id).catch(() => {});
      throw new AppError("storage_unavailable", { cause });
    }
  }

  /** Null where there is none. @throws storage_unavailable */
  async read(id: string): Promise<Uint8Array | null> {
    try {
      return await readFile(this.#pathOf(id));
    } catch (cause) {
      if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return null;
      throw new AppError("storage_unavailable", { cause });
    }
  }

  /** Drops what a process that died left between keeping an upload and beginning its revision. */
  async keepOnly(ids: readonly string[]): Promise<void> {
    const files = await readdir(this.#directory).catch(() => []);
    await Promise.all(files.filter((file) => !ids.includes(file)).map((file) => this.drop(file)));
  }

  /** @throws storage_unavailable */
  async drop(id: string): Promise<void> {
    try {
      await rm(this.#pathOf(id), { force: true });
    } catch (cause) {
      throw new AppError("storage_unavailable", { cause });
    }
  }

  #pathOf(id: string): string {
    return join(this.#directory, id);
  }
}
