/** What a look at the storage finds. */
export interface StorageInspection {
  /** Null where there is no database yet, or none that can be read. */
  version: number | null;
  /** The one that this program brings a database to. */
  newest: number;
  /** Whether it has, or ever had, a key of the API. */
  hasKeys: boolean;
  /** Whether a running service holds it. */
  inUse: boolean;
  /** What is broken, in the database's words. */
  faults: string[];
}
