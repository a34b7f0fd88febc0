/** Directories that a test file works in. */
import { afterAll } from "bun:test";
import { rmSync } from "node:fs";
import { temporaryDirectory } from "./service.ts";

/** Makes new directories for the file that calls this, which are removed after its last test. */
export function directoriesOfFile(): () => string {
  const made: string[] = [];
  afterAll(() => {
    for (const directory of made) rmSync(directory, { recursive: true, force: true });
  });
  return () => {
    const directory = temporaryDirectory();
    made.push(directory);
    return directory;
  };
}
