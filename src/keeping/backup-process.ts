/**
 * Backups for a running service. A process of its own takes them: copying keeps nobody else waiting there, and closing
 * a file doesn't cost this process its locks on the database. It is this very program, with `backup -`.
 */
import { AppError } from "../errors.ts";
import type { Log } from "../log.ts";

/** The command's exit status where another backup is being taken. */
export const backupRunningStatus = 3;

const command = Bun.isStandaloneExecutable
  ? [process.execPath, "backup", "-"]
  : [process.execPath, new URL("../main.ts", import.meta.url).pathname, "backup", "-"];

/** Of what it says on stderr, for the log. */
const reasonCharsMax = 1_000;

export class BackupProcess {
  /** Until it is sent, because its file takes room until then. */
  #isBusy = false;

  constructor(
    readonly dataDir: string,
    readonly log: Log,
  ) {}

  /**
   * Takes a backup; resolves with its bytes when it is whole. They break off with an error where the process does.
   * @param signal ends it, whether or not anything has been read of it
   * @throws backup_in_progress, storage_unavailable
   */
  async take(signal: AbortSignal): Promise<AsyncGenerator<Uint8Array, void, void>> {
    if (this.#isBusy) throw new AppError("backup_in_progress");
    this.#isBusy = true;
    const startedMs = Date.now();
    const child = Bun.spawn(command, {
      // What it needs of the configuration; no key, and no `.env` to take one from.
      env: { PARLEY_DATA_DIR: this.dataDir },
      cwd: "/",
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    void child.exited.then(() => {
      this.#isBusy = false;
    });
    // It clears away behind it. Nobody may ever read of it, so there is no other place to notice.
    signal.addEventListener("abort", () => child.kill("SIGTERM"), { once: true });
    if (signal.aborted) child.kill("SIGTERM");
    const reason = new Response(child.stderr).text();
    const bytes = child.stdout[Symbol.asyncIterator]();
    const first = await bytes.next();
    if (first.done) {
      const status = await child.exited;
      throw new AppError(status === backupRunningStatus ? "backup_in_progress" : "storage_unavailable", {
        cause: (await reason).slice(0, reasonCharsMax),
      });
    }
    const { log } = this;
    return (async function* () {
      let sent = 0;
      try {
        for (let next: IteratorResult<Uint8Array, unknown> = first; !next.done; next = await bytes.next()) {
          yield next.value;
          sent += next.value.length;
        }
        const status = await child.exited;
        if (status !== 0) throw new Error(`the backup ended with ${status}`);
        log.info({ event: "backup", bytes: sent, duration_ms: Date.now() - startedMs }, "backup sent");
      } catch (err) {
        log.warn({ event: "backup_broken_off", bytes: sent, err }, "backup not sent");
        throw err;
      } finally {
        // Where nobody reads on, it has nothing more to do.
        child.kill("SIGKILL");
      }
    })();
  }
}
