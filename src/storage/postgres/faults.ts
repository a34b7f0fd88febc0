/** What PostgreSQL and the way to it may do wrong, and what becomes of that. */
import { AppError } from "../../errors.ts";

/** SQLSTATE, where the server told one (Bun has it in `errno`). */
export function sqlStateOf(error: unknown): string | null {
  if (error instanceof ServerFault) return error.sqlstate;
  const state = error instanceof Error && "errno" in error ? error.errno : null;
  return typeof state === "string" && /^[0-9A-Z]{5}$/.test(state) ? state : null;
}

/** Whether a transaction lost against others and was undone: the same again may succeed. */
export const isContention = (error: unknown): boolean =>
  ["40001", "40P01", "55P03"].includes(sqlStateOf(error) ?? "");

/**
 * Whether the connection was lost, or there is none to be had: it isn't known whether a write was committed. A server
 * that shuts down or starts up says so (57P01 to 57P05), one that is a standby since a failover refuses to write.
 */
export function isConnectionLost(error: unknown): boolean {
  const state = sqlStateOf(error);
  if (state !== null) return /^(08|57P0)/.test(state) || state === "25006";
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return /^ERR_POSTGRES_(CONNECTION|LIFETIME|IDLE|TLS)|^(ECONN|EPIPE|ETIMEDOUT)/.test(code);
}

/** Classes of SQLSTATE that tell of the database's state and not of a mistake of ours: too little of something, an operator, the system, corruption. */
const stateOfTheDatabase = /^(08|25006|40|53|55P03|57|58|XX)/;

/** An error as the port promises it. */
export function toAppError(cause: unknown): AppError {
  if (cause instanceof AppError) return cause;
  const state = sqlStateOf(cause);
  const isUnavailable = isConnectionLost(cause) || (state !== null && stateOfTheDatabase.test(state));
  const code = isUnavailable ? "storage_unavailable" : "internal";
  return new AppError(code, { cause: state === null ? cause : new ServerFault(cause as ServerError, state) });
}

/** What PostgreSQL tells besides its message, as far as it is used here. */
type ServerError = Error & Partial<Record<"table" | "column" | "constraint" | "routine", string>>;

/**
 * An error of the server without what was said and asked: its detail quotes rows, its context and its internal query are
 * SQL, and where a value doesn't fit (class 22) its message quotes that.
 */
class ServerFault extends Error {
  override readonly name = "PostgresError";
  readonly table: string | undefined;
  readonly column: string | undefined;
  readonly constraint: string | undefined;
  /** Where in PostgreSQL it was raised. */
  readonly routine: string | undefined;

  constructor(
    { message, table, column, constraint, routine }: ServerError,
    readonly sqlstate: string,
  ) {
    super(sqlstate.startsWith("22") ? "a value doesn't fit" : message);
    Object.assign(this, { table, column, constraint, routine });
  }
}
