/** What a look at the storage finds. */

/** Of SQLite, in the data directory. */
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

/** Of PostgreSQL, or why it can't be looked at, with the SQLSTATE where the server told one. */
export type ServerInspection = ServerFacts | { unreached: string; sqlState: string | null };

export interface ServerFacts {
  /** Such as 18.4. */
  serverVersion: string;
  serverMajor: number;
  encoding: string;
  /** A standby, or set to read only. */
  isReadOnly: boolean;
  /** Null where there are no tables of Parley yet. */
  version: number | null;
  newest: number;
  /** Whether another program's tables are where Parley's would be. */
  isOthers: boolean;
  /** Whether somebody brings it to another version right now. */
  isMigrating: boolean;
  hasKeys: boolean;
  mayCreateTables: boolean;
  /** Tables that this role may not read and write. */
  forbiddenTables: string[];
  connections: {
    /** That this role may have to this database, all instances together. */
    max: number;
    taken: number;
  };
  /** Whether what is notified on one connection is heard on another. */
  hearsNotifications: boolean;
  /** How far the database's clock is ahead of this machine's. */
  clockAheadMs: number;
}
