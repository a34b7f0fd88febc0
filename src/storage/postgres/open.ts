/** Opening a database, with what is wrong with it in words for whoever runs the service. */
import { StorageUnusableError } from "../unusable.ts";
import { Database, type DatabaseOptions } from "./database.ts";
import { type Migrated, migrate } from "./migrate.ts";

/**
 * Opens a database and brings it to the newest version.
 * @param url `postgres://user:password@host:port/database`
 * @param onUpgrade hears of it where it was of an older one
 * @throws StorageUnusableError
 */
export const openDatabase = (
  url: string,
  options: DatabaseOptions,
  onUpgrade?: (upgrade: Migrated) => void,
): Promise<Database> =>
  usable(async () => {
    const database = new Database(url, options);
    try {
      const migrated = await migrate(database);
      if (migrated !== null) onUpgrade?.(migrated);
      return database;
    } catch (error) {
      await database.close();
      throw error;
    }
  });

/** A step of opening. @throws StorageUnusableError, which doesn't tell the URL: there is a password in it */
export async function usable<T>(step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (cause) {
    if (cause instanceof StorageUnusableError) throw cause;
    const inner = cause instanceof Error ? cause.cause : null;
    const why = inner instanceof Error ? inner.message : String(cause);
    throw new StorageUnusableError(`the database of DATABASE_URL can't be used: ${why}`, { cause });
  }
}
