/** A file system of a few mebibytes, which a test can fill. Mounting one takes root and Linux. */
import { mkdirSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { skipsWithout } from "./needs.ts";
import { temporaryDirectory } from "./service.ts";

export interface SmallDisk {
  /** A directory on it. */
  readonly path: string;
  /** Takes all of its room, but for so many bytes. */
  fill(leftBytes?: number): void;
  /** Gives the room back. */
  free(): void;
  [Symbol.dispose](): void;
}

const mount = (...args: string[]): boolean => Bun.spawnSync(["mount", ...args]).exitCode === 0;
const unmount = (path: string): boolean => Bun.spawnSync(["umount", "-l", path]).exitCode === 0;

/** Whether tests on a small disk are skipped. */
export function skipsSmallDisk(): boolean {
  const probe = temporaryDirectory();
  const mounted = process.platform === "linux" && mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", probe);
  if (mounted) unmount(probe);
  rmSync(probe, { recursive: true, force: true });
  return skipsWithout("a file system of their own (run as root on Linux, where mount is allowed)", mounted);
}

/** Mounts a tmpfs. */
export function smallDisk(mebibytes: number): SmallDisk {
  const root = temporaryDirectory();
  if (!mount("-t", "tmpfs", "-o", `size=${mebibytes}m`, "tmpfs", root)) throw new Error("no tmpfs");
  const path = join(root, "data");
  mkdirSync(path, { mode: 0o700 });
  const ballast = join(root, "ballast");
  return {
    path,
    fill(leftBytes = 0) {
      const { bavail, bsize } = statfsSync(root);
      try {
        writeFileSync(ballast, Buffer.alloc(Math.max(0, bavail * bsize - leftBytes)), { flag: "a" });
      } catch (error) {
        // Somebody else took of the room meanwhile: it is full.
        if (!(error instanceof Error && "code" in error && error.code === "ENOSPC")) throw error;
      }
    },
    free: () => rmSync(ballast, { force: true }),
    [Symbol.dispose]() {
      unmount(root);
      rmSync(root, { recursive: true, force: true });
    },
  };
}
