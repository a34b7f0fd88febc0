/** Cursors are opaque: clients hand them back as they got them. */

/** One kind of cursor: how a position is written, and read again. */
export interface CursorKind<Position> {
  readonly name: string;
  write(position: Position): string;
  /** Null where the text is no cursor of this kind. */
  read(cursor: string): Position | null;
}

/** @param isPosition tells a position from any other JSON value */
export const cursorKind = <Position>(
  name: string,
  isPosition: (value: unknown) => value is Position,
): CursorKind<Position> => {
  const write = (position: Position): string => Buffer.from(JSON.stringify(position)).toString("base64url");
  const read = (cursor: string): Position | null => {
    try {
      const value: unknown = JSON.parse(Buffer.from(cursor, "base64url").toString());
      return isPosition(value) && write(value) === cursor ? value : null;
    } catch {
      return null;
    }
  };
  return { name, write, read };
};
