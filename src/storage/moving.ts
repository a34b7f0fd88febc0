/**
 * Moving all data from one store to another, row by row: unlike an archive (archive-store.ts) with everything that is
 * derived, with keys and secrets, and in pieces that a killed run needn't repeat.
 */

/** A value as the source holds it: integers are exact, booleans 0 and 1, JSON text. */
export type MovedValue = string | bigint | number | Uint8Array | null;
export type MovedRow = Readonly<Record<string, MovedValue>>;
/** Where in a table a run has got to: the values of its key in the last row that was taken. */
export type Position = readonly (string | bigint)[];

export interface MovedTable {
  readonly name: string;
  readonly columns: readonly string[];
  /** Rows come in its order. */
  readonly key: readonly string[];
  readonly rows: number;
  /** It is made of others, and can be made of them again. */
  readonly derived: boolean;
}

/** What is moved. It is of one moment, and nobody serves it meanwhile. */
export interface MoveSource {
  /** Tells this source from others, without telling anything of it. */
  readonly identity: string;
  /** Differs where rows came or went, or a service ran; what else changed shows in the checksums. */
  readonly state: string;
  /** In an order in which no row points to one of a later table. */
  readonly tables: readonly MovedTable[];
  /** The rows of a table after a position. Only one walk at a time goes on. */
  rows(table: string, after: Position | null): Iterable<MovedRow>;
  /** Numbers that were given to rows of a table, also to such as are gone; null where they may be given again. */
  lastNumber(table: string): bigint | null;
  /** Whether anybody has written to it since it was opened. */
  hasChanged(): boolean;
  close(): void;
}

/** What a table holds, by what is stored there: the sum of its rows' hashes. */
export interface TableChecksum {
  rows: number;
  checksum: string;
}

export interface CheckedTable {
  name: string;
  source: TableChecksum;
  target: TableChecksum;
}

export interface Moved {
  /** Whether an earlier run had done it already, so that this one did nothing. */
  already: boolean;
  /** Whether it went on with what a run before it had begun. */
  resumed: boolean;
  tables: CheckedTable[];
  /** Values whose text held what no PostgreSQL takes (NUL), which became U+FFFD. */
  repaired: number;
}

export interface MoveOptions {
  /** Throws away what an unfinished run has moved. */
  restart: boolean;
  /** @param part of the work that is done, from 0 to 1 */
  onProgress(part: number): void;
  signal: AbortSignal;
}

/** Whether a table is the same on both sides. */
export const isSame = ({ source, target }: CheckedTable): boolean =>
  source.rows === target.rows && source.checksum === target.checksum;
